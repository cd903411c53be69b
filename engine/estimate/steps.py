"""What each kind of step needs, in one table; a kind that is not in it counts as one calibration pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.data.tasks import Row
from engine.estimate import parts
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.sizes import Sizes
from engine.evaluation.options import EvaluateOptions, EvaluateStepOptions
from engine.export.options import ExportOptions
from engine.options import StepOptions
from engine.prompts import pool
from engine.prompts.options import SelectPromptOptions
from engine.prompts.pool import BASELINE
from engine.prompts.template import Prompt
from engine.pruning.options import PruneOptions
from engine.registry import CRITERIA, STEPS
from engine.subject import DTYPES
from engine.training.options import RecoverOptions
from engine.workspace import Workspace

LOOKED_AT = 64  # rows whose tokens are counted
WITHOUT_STATISTICS = ("uniform",)  # allocations that look at no input
ADAM_PASSES = 15  # float32 numbers read or written for each weight in an optimizer step
TOKENIZER = 72  # bytes of a tokenizer's files for each entry of the vocabulary
EXAMPLE = 320  # bytes of a test row in examples.jsonl, beside its text
LOADING = 4  # how often a model's bytes are passed over until it is loaded and checked


@dataclass(frozen=True)
class Scene:
    """The workspace and the sizes of its model at the point of the run that is looked at, and whether a step before has
    changed the weights.
    """

    workspace: Workspace
    sizes: Sizes
    changed: bool = False

    def tokens(self, rows: Sequence[Row], template: str) -> float:
        """Tokens of a row in the template, on the mean, times the sequences that its choices take."""
        some = rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]
        tokenizer: Any = self.workspace.subject.tokenizer
        prompt = Prompt(BASELINE, template)
        lengths = [len(ids) for ids in tokenizer([prompt.fill(row) for row in some]).input_ids]
        return sum(length * self.sequences(row) for length, row in zip(lengths, some, strict=True)) / max(1, len(some))

    def sequences(self, row: Row) -> int:
        """One where every choice is a single token, else one a choice."""
        tokenizer: Any = self.workspace.subject.tokenizer
        ids = tokenizer(list(row.choices), add_special_tokens=False).input_ids
        return 1 if all(len(tokens) == 1 for tokens in ids) else len(row.choices)


def measure(scene: Scene, options: EvaluateOptions, tasks: bool = True) -> Needs:
    """What the `[evaluate]` section asks for; scores of tasks that are on disk already cost nothing."""
    sizes, out = scene.sizes, Needs()
    if not sizes.language:
        return out
    if options.perplexity not in (None, "none"):
        out = out.then(parts.text(sizes, options.windows, options.length))
    for name in options.tasks if tasks else []:
        task = scene.workspace.task(name)
        test = task.test[: options.rows]
        out = out.then(parts.rows(sizes, len(test), scene.tokens(test, task.template)))
    return out.then(parts.speed(sizes)) if options.speed else out


def prune(scene: Scene, options: PruneOptions) -> Needs:
    sizes = scene.sizes
    number = sizes.number
    if options.structure:
        kept = sizes.smaller(options.amount).parameters * number
        return parts.calibration_pass(sizes, gram=True).beside(kept).then(Needs(disk=kept))
    criterion = CRITERIA.load(options.criterion).CRITERION
    gram = criterion.needs == "gram"
    if options.statistics == "dense":
        gathered = parts.calibration_pass(sizes, gram=True)
        kept_numbers = FLOAT * parts.gram_numbers(sizes, whole_block=True)
        out = gathered.beside(kept_numbers).then(Needs(cache=parts.statistics_bytes(sizes)))
        out = out.then(parts.solved(sizes, options, criterion.solve is not None).beside(kept_numbers))
    else:
        passed, solved = parts.calibration_pass(sizes, gram), parts.solved(sizes, options, criterion.solve is not None)
        out = Needs(work=passed.work + solved.work).beside(passed.memory + solved.memory)
        if options.allocation not in WITHOUT_STATISTICS:
            out = parts.calibration_pass(sizes, gram=True).then(Needs(cache=parts.statistics_bytes(sizes))).then(out)
    return out.then(Needs(disk=sizes.matrix_weights * number))


def recover(scene: Scene, options: RecoverOptions) -> Needs:
    """Per block: epochs of forward and backward (three forwards), the error before and after, both models' outputs."""
    sizes = scene.sizes
    largest, everything = max(sizes.blocks), sum(sizes.blocks)
    steps = options.epochs * -(-sizes.samples // options.batch)
    once = parts.forward(sizes, sizes.tokens, sizes.length, sizes.compute, 0)
    once += parts.calls(sizes, -(-sizes.samples // options.batch))
    optimizer = Work(traffic=FLOAT * ADAM_PASSES * everything * steps)
    batch = min(options.batch, sizes.samples) * sizes.length
    number = 2 if sizes.compute == "bfloat16" else FLOAT
    backward = batch * (parts.BACKWARD_HIDDEN * sizes.hidden * FLOAT + parts.BACKWARD_WIDE * sizes.widest * number)
    # in float32 the trained copy is the weight itself; then its gradient, two moments, the old weights and the mask
    block = largest * (4 * FLOAT + 1 + (FLOAT if sizes.number != FLOAT else 0))
    hidden = 2 * sizes.tokens * sizes.hidden * FLOAT
    training = once * (3 * options.epochs + 4) + optimizer
    return (
        Needs(block + backward + hidden, disk=everything * sizes.number, work=training)
        .then(loading(sizes))
        .beside(sizes.loaded)
    )


def loading(sizes: Sizes) -> Needs:
    """Another model read from disk; its own bytes are the caller's, what is held here is one copied matrix."""
    return Needs(sizes.embedding * sizes.number, work=Work(traffic=LOADING * sizes.parameters * sizes.number))


def select_prompt(scene: Scene, options: SelectPromptOptions) -> Needs:
    workspace, sizes = scene.workspace, scene.sizes
    task = workspace.task(options.task)
    prompts = pool.build(task, options, workspace.profile.seed)
    dev, test = task.dev[: options.dev_rows], task.test[: options.test_rows]
    per_row = scene.tokens(dev, task.template)
    tokenizer: Any = workspace.subject.tokenizer
    prefix = sum(len(ids) for ids in tokenizer([p.text() for p in prompts]).input_ids) / len(prompts)
    scored = min(options.budget, len(prompts) * len(dev))
    race = parts.rows(sizes, scored, per_row, prefix, 2 * len(prompts))
    trial = parts.rows(sizes, 2 * len(test), per_row, prefix, 2)
    written = sum(len(row.text) + EXAMPLE for row in test)
    out = race.then(trial).then(Needs(disk=written))
    if not options.control:
        return out
    again = parts.rows(sizes, 2 * min(len(dev), scored), per_row, prefix, 2).then(trial).then(loading(sizes))
    return out.then(again.beside(sizes.loaded))


def evaluate(scene: Scene, options: EvaluateStepOptions) -> Needs:
    changes = {name: value for name in ("perplexity", "tasks", "rows") if (value := getattr(options, name)) is not None}
    return measure(scene, scene.workspace.profile.evaluate.model_copy(update=changes))


def export(scene: Scene, options: ExportOptions) -> Needs:
    """The folder, a converted copy while it is written (of a streamed model one tensor's), and the reloaded model while it
    is measured.
    """
    sizes = scene.sizes
    number = sizes.number if options.dtype == "auto" else DTYPES[options.dtype].itemsize
    size = sizes.parameters * number
    converted = 0 if number == sizes.number else number * (sizes.embedding if sizes.streamed else sizes.parameters)
    written = Needs(converted, disk=size + TOKENIZER * sizes.vocabulary, work=Work(traffic=size))
    if not options.verify:
        return written
    measured = measure(scene, scene.workspace.profile.evaluate, tasks=number != sizes.number)
    return written.then(loading(sizes).then(measured).beside(sizes.held * number))


NEEDS: dict[str, Callable[[Scene, Any], Needs]] = {
    "prune": prune, "recover": recover, "select_prompt": select_prompt, "evaluate": evaluate, "export": export,
}  # fmt: skip


def of_step(scene: Scene, options: StepOptions) -> Needs:
    """The needs of a step by itself, without measuring the model afterwards."""
    if options.use in NEEDS:
        return NEEDS[options.use](scene, options)
    return parts.calibration_pass(scene.sizes, gram=True)


def after_step(scene: Scene, options: StepOptions) -> Scene:
    """The scene when the step is done."""
    if STEPS[options.use].stage:
        scene = replace(scene, changed=True)
    if isinstance(options, PruneOptions) and options.structure:
        return replace(scene, sizes=scene.sizes.smaller(options.amount))
    return scene
