"""What each kind of step needs, in one table; a kind that is not in it counts as one calibration pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from engine import caching
from engine.data.tasks import Task
from engine.estimate import exporting, parts, planning, proposing, tuning
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.scene import LOOKED_AT, Scene
from engine.estimate.training import LIKELY, distill, training
from engine.evaluation.options import EvaluateOptions, EvaluateStepOptions
from engine.export import reference
from engine.export.options import ExportOptions
from engine.export.runtime.process import missing
from engine.joint.options import JointOptions
from engine.options import StepOptions
from engine.prompts import adjusting, calibration, forced, pool, robustness, room, writer, written
from engine.prompts.bounds import BACKWARD_HIDDEN, BACKWARD_WIDE
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions, PromptStepOptions, SelectPromptOptions
from engine.prompts.template import Prompt
from engine.pruning.options import PruneOptions
from engine.quantization.options import QuantizeOptions
from engine.registry import CRITERIA, FORMATS, METHODS, PERTURBATIONS, STEPS
from engine.sensitivity.options import SensitivityOptions
from engine.subject import DTYPES
from engine.training.options import RecoverOptions

ADAM_PASSES = 15  # float32 numbers read or written for each weight in an optimizer step
EXAMPLE = 366  # bytes of a test row in examples.jsonl, beside its text
CODES = 1.2  # bytes of a weight's code with its share of scales
MATRIX = 900  # bytes of a matrix in sensitivity.json


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
        out = out.then(asking(scene, task, len(test), scene.tokens(test, task.template)))
    return out.then(parts.speed(sizes)) if options.speed else out


def prune(scene: Scene, options: PruneOptions) -> Needs:
    sizes = scene.sizes
    number = sizes.number
    if options.structure:
        smaller = sizes.smaller(options.amount).parameters * number
        return parts.calibration_pass(sizes, gram=True).beside(smaller).then(Needs(disk=smaller))
    criterion = CRITERIA.load(options.criterion).CRITERION
    gram = criterion.needs == "gram"
    solved = parts.solved(sizes, options, criterion.solve is not None)
    dense = options.statistics == "dense"
    kept = FLOAT * parts.gram_numbers(sizes, whole_block=True) if dense else 0.0
    pruned = solved.beside(kept) if dense else parts.calibration_pass(sizes, gram).during(solved)
    gathered = planning.statistics(scene).beside(kept) if dense or caching.looks(options) else Needs()
    planned = gathered.then(planning.planning(scene, options))
    return planned.then(pruned).then(Needs(disk=sizes.matrix_weights * number))


def quantize(scene: Scene, options: QuantizeOptions) -> Needs:
    """As a prune step that solves (GPTQ works as SparseGPT does) or scores, and the codes: a byte a weight."""
    like = "sparsegpt" if METHODS.load(options.method).METHOD.needs == "gram" else "magnitude"
    pruning = PruneOptions(use="prune", criterion=like, statistics=options.statistics)
    if options.size_ratio is not None:  # as the losses of an allocation by sensitivity, at one width
        pruning = pruning.model_copy(update={"allocation": "sensitivity", "trial_windows": options.trial_windows})
    return prune(scene, pruning).then(Needs(disk=CODES * scene.sizes.matrix_weights))


def sensitivity(scene: Scene, options: SensitivityOptions) -> Needs:
    """Error curves, every part pruned alone and every head silenced, by the statistics of the model as it is."""
    gathered = planning.statistics(scene)
    return gathered.then(planning.measured(scene, options)).then(Needs(disk=MATRIX * planning.matrices(scene.sizes)))


def recover(scene: Scene, options: RecoverOptions) -> Needs:
    """Of a whole model as any training. Per block: epochs of forward and backward (three forwards), the error before and
    after, both models' outputs.
    """
    if options.method != "blockwise":
        return training(scene, options)
    sizes = scene.sizes
    largest, everything = max(sizes.blocks), sum(sizes.blocks)
    steps = options.epochs * -(-sizes.samples // options.batch)
    once = parts.forward(sizes, sizes.tokens, sizes.length, sizes.compute, 0)
    once += parts.calls(sizes, -(-sizes.samples // options.batch))
    optimizer = Work(traffic=FLOAT * ADAM_PASSES * everything * steps)
    batch = min(options.batch, sizes.samples) * sizes.length
    number = 2 if sizes.compute == "bfloat16" else FLOAT
    backward = batch * (BACKWARD_HIDDEN * sizes.hidden * FLOAT + BACKWARD_WIDE * sizes.widest * number)
    # in float32 the trained copy is the weight itself; then its gradient, two moments, the old weights and the mask
    block = largest * (4 * FLOAT + 1 + (FLOAT if sizes.number != FLOAT else 0))
    hidden = parts.waiting(sizes, 2 * sizes.tokens)
    work = once * (3 * options.epochs + 4) + optimizer
    own = Needs(block + backward, disk=everything * sizes.number, work=work).during(hidden)
    return own.then(parts.loading(sizes)).beside(sizes.loaded)


def select_prompt(scene: Scene, options: SelectPromptOptions) -> Needs:
    """What the model writes for the pool, as long as it may be, and the race of the whole pool."""
    task, awaited = scene.workspace.task(options.task), pool.awaited(options)
    prompts = pool.build(task, options, scene.workspace.profile.seed, written=awaited)
    race = prompt_step(scene, options, prompts, finalists=2)
    if not awaited:
        return race
    asked = writer.BATCH * written.EXAMPLES * scene.tokens(task.train, task.template)
    batches = -(-len(awaited) // writer.BATCH)
    return proposing.answers(scene.sizes, batches, options.written_tokens + written.AROUND, asked).then(race)


def adjust_prompt(scene: Scene, options: AdjustPromptOptions) -> Needs:
    """About as many prompts of the start's length as the budget lets meet their rows, and what it takes to make them."""
    task = scene.workspace.task(options.task)
    most = min(options.max_demonstrations, len(task.train)) if adjusting.shows(options.method) else 0
    shown = options.model_copy(update={"demonstrations": max(options.demonstrations, most)})
    first = pool.named_start(task, shown, scene.workspace.profile.seed)
    start = replace(first, instruction=first.instruction or task.description)  # as adjusters begin
    rows = max(1, min(options.rows, len(task.dev[: options.dev_rows]) // 2))
    tokenizer: Any = scene.workspace.subject.tokenizer
    length = len(tokenizer(start.text()).input_ids)
    count = 1 + int(examples(options, length) * (1 - options.final)) // rows
    making = proposing.PROPOSING.get(options.method, proposing.writing)
    row = scene.tokens(task.train, task.template)
    sequences = max(scene.sequences(task.train[:LOOKED_AT]), default=1)
    made = making(scene.sizes, length, row, sequences, count)
    if most and options.method in proposing.ASKS:
        asked, proposed = proposing.ASKS[options.method]
        made = made.then(asking(scene, task, asked * count / proposed, row, length, count / proposed))
    if options.spending.unit == "minutes":
        made = replace(made, work=Work())  # the budget's minutes pass meanwhile
    return made.then(prompt_step(scene, options, [start] * count, finalists=3))


def embed_prompt(scene: Scene, options: EmbedPromptOptions) -> Needs:
    """The answers of a dense model that is another one, epochs of training with a check each, and the race of four prompts,
    one more where an earlier step may have trained some.
    """
    task = scene.workspace.task(options.task)
    start = pool.named_start(task, options, scene.workspace.profile.seed)
    text, how, rows = room.behind(options, start), task.generation, task.train[: options.train_rows]
    if how:
        rows = [forced.right(how, text, row) for row in rows]
    per_row = scene.tokens(rows, task.template)
    tokenizer: Any = scene.workspace.subject.tokenizer
    prefix = options.tokens + len(tokenizer(text.head()).input_ids)
    meaningless = calibration.MEANINGLESS.get(options.calibration, 0)
    checked = (options.epochs + 1) * (min(options.rows, len(task.dev)) + meaningless)
    checks = asking(scene, task, checked, per_row, prefix, options.epochs + 1)
    trained = tuning.training(scene, options, rows, task.template, prefix).then(checks)
    steps = scene.workspace.profile.step
    several = sum(isinstance(step, EmbedPromptOptions | JointOptions) for step in steps) > 1
    needs = trained.then(prompt_step(scene, options, [start] * (4 + several), finalists=4 + several))
    teacher = start if options.taught == "prompt" else text
    if not options.weight(how is not None) or not (scene.changed or not teacher.same(text)):
        return needs
    answer, read = scene.asked(rows, task.template).answer if how else 0, len(tokenizer(teacher.head()).input_ids)
    taught = parts.rows(scene.sizes, len(rows), per_row + answer, read).then(parts.loading(scene.sizes))
    kept = LIKELY * forced.LIKELY * answer * len(rows)
    return replace(taught, cache=kept).beside(scene.sizes.loaded).then(needs)


def asking(scene: Scene, task: Task, count: float, tokens: float, prefix: float = 0.0, prompts: float = 1) -> Needs:
    """Rows of a task: their choices scored, or their answers written."""
    if task.generation:
        return parts.answers(scene.sizes, count, tokens, prefix, prompts, task.generation.tokens)
    twice = task.scores == "pmi" and not task.labels  # with empty fields too
    return parts.rows(scene.sizes, (1 + twice) * count, tokens, prefix, prompts)


def prompt_step(scene: Scene, options: PromptStepOptions, prompts: Sequence[Prompt], finalists: int) -> Needs:
    """A race within the budget, the finalists on the test split, and these on the dense model as well if asked for."""
    workspace, sizes = scene.workspace, scene.sizes
    task = workspace.task(options.task)
    dev, test = task.dev[: options.dev_rows], task.test[: options.test_rows]
    per_row = scene.tokens(dev, task.template)
    tokenizer: Any = workspace.subject.tokenizer
    prefix = sum(len(ids) for ids in tokenizer([p.text() for p in prompts]).input_ids) / len(prompts)
    everything = len(prompts) * len(dev)
    minutes = options.spending.amount if options.spending.unit == "minutes" else None
    scored = everything if minutes else min(examples(options, prefix), everything)
    meaningless = calibration.MEANINGLESS.get(options.calibration, 0) * len(prompts)
    race = asking(scene, task, scored + meaningless, per_row, prefix, 2 * len(prompts))
    if minutes:
        race = replace(race, work=Work(fixed=60 * minutes))
    tested = len(test) + (len(task.confirm) if scene.confirms else 0)
    trial = asking(scene, task, finalists * tested, per_row, prefix, finalists)
    written = sum(len(row.text) + EXAMPLE for row in test)
    disturbed = disturbances(scene, options, len(test), per_row, prefix, finalists)
    trial = trial.then(disturbed)
    out = race.then(trial).then(Needs(disk=written))
    if not options.control:
        return out
    met = finalists * min(len(dev), scored)
    again = asking(scene, task, met, per_row, prefix, finalists).then(trial).then(parts.loading(sizes))
    return out.then(again.beside(sizes.loaded))


def examples(options: PromptStepOptions, tokens: float) -> int:
    """About so many examples are in the budget, with prompts of so many tokens; of minutes, as many as by default."""
    budget = options.spending
    default: int = PromptStepOptions.model_fields["budget"].default
    return {
        "examples": int(budget.amount), "tokens": int(budget.amount // max(1, tokens)), "minutes": default,
    }[budget.unit]  # fmt: skip


def joint(scene: Scene, options: JointOptions) -> Needs:
    """Every level's pruning and prompts, all kinds of prompts on all development and test rows, the transfer matrix; beside
    the model, a level's own.
    """
    task, levels = scene.workspace.task(options.task), len(options.levels) + 1
    selecting = options.selecting()
    longest = max(
        pool.build(task, selecting, scene.workspace.profile.seed, written=pool.awaited(selecting)),
        key=lambda prompt: len(prompt.text()),
    )
    per_level, unconfirmed = Needs(), replace(scene, confirms=False)
    for step in options.prompt_steps:
        again = 2 if options.lora and isinstance(step, EmbedPromptOptions) else 1
        for _ in range(again):
            per_level = per_level.then(of_step(unconfirmed, step.model_copy(update={"test_rows": 1})))
    kinds = len(options.prompt_steps) + 2 + options.lora
    cells = levels * kinds + (1 + (options.embed is not None)) * (levels - 1) ** 2
    met = selecting.model_copy(update={"budget": cells * len(task.dev)})
    out = prompt_step(unconfirmed, met, [longest] * cells, finalists=cells)
    confirmed = levels * kinds * len(task.confirm)
    out = out.then(asking(scene, task, confirmed, scene.tokens(task.dev, task.template), prompts=levels * kinds))
    for _ in range(levels):
        out = out.then(per_level)
    for how in options.prunings:
        out = out.then(prune(scene, how))
        scene = replace(scene, collected=scene.collected or how.statistics == "dense" or caching.looks(how))
    return out.beside(scene.sizes.loaded)


def disturbances(
    scene: Scene, options: PromptStepOptions, test: int, per_row: float, prefix: float, finalists: int
) -> Needs:
    """The finalists on disturbed test rows, and what the dense model restates of them."""
    sizes, rows = scene.sizes, min(test, options.robustness_rows)
    kinds, task = len(options.robustness), scene.workspace.task(options.task)
    scored = asking(scene, task, finalists * kinds * rows, per_row, prefix, finalists * kinds)
    if not any(getattr(PERTURBATIONS.load(name), "WRITES", False) for name in options.robustness):
        return scored
    batches = -(-rows // writer.BATCH)
    restated = proposing.answers(sizes, batches, robustness.TOKENS, writer.BATCH * (per_row + robustness.ASKING))
    if not scene.changed:
        return restated.then(scored)
    return restated.then(parts.loading(sizes)).beside(sizes.loaded).then(scored)


def evaluate(scene: Scene, options: EvaluateStepOptions) -> Needs:
    return measure(scene, options.over(scene.workspace.profile.evaluate))


def export(scene: Scene, options: ExportOptions) -> Needs:
    """The file, the model that is read back from it while it is measured, the file's own process, and the reference."""
    sizes, form = scene.sizes, FORMATS.load(options.format).FORMAT
    evaluate = scene.workspace.profile.evaluate
    number = sizes.number if options.dtype == "auto" else DTYPES[options.dtype].itemsize
    out = exporting.writing(scene, options, form)
    subject, size = scene.workspace.subject, exporting.size(scene, options, form)
    if reference.wanted(options, subject, exporting.earlier(scene, options), size, subject.parameters):
        again = parts.loading(sizes).then(prune(scene, PruneOptions(use="prune", criterion="sparsegpt")))
        out = out.then(replace(again.then(measure(scene, evaluate)), disk=0.0).beside(sizes.loaded))
    if not options.verify:
        return out
    if form.read is not None:
        measured = measure(scene, evaluate, tasks=number != sizes.number).then(chosen(scene, options))
        out = out.then(parts.loading(sizes).then(measured).beside(sizes.held * number))
    own = form.read is None or (sizes.language and evaluate.speed)
    if own and missing(form.runtime) is None:
        out = out.then(exporting.process(scene, size, form))
    if form.read is None and sizes.language:
        tasks = [scene.workspace.task(name) for name in evaluate.tasks]
        rows = [(task, min(options.rows, len(task.test[: evaluate.rows]))) for task in tasks]
        for task, count in rows:
            out = out.then(asking(scene, task, count, scene.tokens(task.test, task.template)))
        out = out.then(chosen(scene, options))
    return out


def chosen(scene: Scene, options: ExportOptions) -> Needs:
    """Test rows with what the prompt steps before chose, as long as the plain prompt."""
    out, steps = Needs(), exporting.earlier(scene, options)
    for name in dict.fromkeys(step.task for step in steps if isinstance(step, PromptStepOptions | JointOptions)):
        task = scene.workspace.task(name)
        out = out.then(asking(scene, task, min(options.rows, len(task.test)), scene.tokens(task.test, task.template)))
    return out


NEEDS: dict[str, Callable[[Scene, Any], Needs]] = {
    "sensitivity": sensitivity, "prune": prune, "recover": recover, "distill": distill, "finetune": training,
    "sparse_train": training, "quantize": quantize, "select_prompt": select_prompt, "adjust_prompt": adjust_prompt,
    "embed_prompt": embed_prompt, "joint": joint, "evaluate": evaluate, "export": export,
}  # fmt: skip


def of_step(scene: Scene, options: StepOptions) -> Needs:
    """The needs of a step by itself, without measuring the model afterwards."""
    if options.use in NEEDS:
        return NEEDS[options.use](scene, options)
    return parts.calibration_pass(scene.sizes, gram=True)


def after_step(scene: Scene, options: StepOptions) -> Scene:
    """The scene when the step is done."""
    if STEPS[options.use].stage:
        scene = replace(scene, changed=True, collected=False)
    elif isinstance(options, SensitivityOptions):
        scene = replace(scene, collected=True)
    last = options.prunings[-1] if isinstance(options, JointOptions) else options
    if isinstance(last, PruneOptions) and last.structure:
        return replace(scene, sizes=scene.sizes.smaller(last.amount))
    return scene
