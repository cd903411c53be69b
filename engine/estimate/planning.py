"""What is needed to try things on a model before it is changed: allocations and the `sensitivity` step.

All of them prune by the statistics of the model as it is and compare the result with the dense model on a few windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.estimate import parts
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.scene import Scene
from engine.estimate.sizes import Sizes
from engine.evaluation.divergence import likely
from engine.evaluation.trial import ROWS
from engine.pruning.allocations import atp, search
from engine.pruning.options import PruneOptions
from engine.registry import CRITERIA
from engine.sensitivity.options import SensitivityOptions

WITHOUT_STATISTICS = ("uniform",)  # allocations that look at no input
HALF = 0.5  # of the blocks are computed, on the mean, when one of them has changed
COMPARED = 6  # passes over a window's logits to compare them with the dense model's


def looks(options: PruneOptions) -> bool:
    """Whether the allocation looks at the inputs of the model as it is."""
    return options.allocation not in WITHOUT_STATISTICS


def statistics(scene: Scene, options: PruneOptions | None = None) -> Needs:
    """One pass with every statistic, and the entry in the cache, unless a step before has left it there. A trial that is
    made first is held meanwhile.
    """
    if scene.collected:
        return Needs()
    held = (
        trial_bytes(scene.sizes, options.trial_windows) if options and options.allocation in ("atp", "search") else 0.0
    )
    collected = parts.calibration_pass(scene.sizes, gram=True).beside(held)
    return collected.then(Needs(cache=parts.statistics_bytes(scene.sizes)))


def planning(scene: Scene, options: PruneOptions) -> Needs:
    """What the allocation tries, without the statistics; one that is not known here tries nothing."""
    plan = ALLOCATIONS.get(options.allocation)
    return plan(scene, options) if plan else Needs()


def measured(scene: Scene, options: SensitivityOptions) -> Needs:
    """What the `sensitivity` step tries, without the statistics."""
    proxy = PruneOptions(use="prune", proxy=options.criterion, trial_windows=options.windows)
    units = {"block": len(scene.sizes.blocks), "matrix": matrices(scene.sizes), "none": 0}[options.unit]
    silenced = head_groups(scene) * len(scene.sizes.blocks) if options.heads else 0
    return alone(scene, proxy, len(options.ratios), units, silenced)


def alone(scene: Scene, options: PruneOptions, ratios: int, units: int, silenced: int = 0) -> Needs:
    """Error curves over so many ratios; so many parts pruned, and heads silenced, each alone."""
    sizes = scene.sizes
    found = curves(sizes, options, ratios)
    if not units and not silenced:
        return found
    tries = Needs(work=tried(sizes, options.trial_windows, HALF) * (units + silenced + 2))
    pruned = pruned_once(sizes, options) if units else Needs()
    held = trial_bytes(sizes, options.trial_windows)
    return found.then(trial(scene, options.trial_windows)).then(pruned.then(tries).beside(held))


def _ramps(scene: Scene, options: PruneOptions) -> Needs:
    """Every ramp pruned and tried as a whole."""
    return trial(scene, options.trial_windows).then(whole(scene.sizes, options, atp.TRIES))


def _sensitivity(scene: Scene, options: PruneOptions) -> Needs:
    units = len(scene.sizes.blocks) if options.unit == "block" else matrices(scene.sizes)
    return alone(scene, options, level_count(options), units)


def _search(scene: Scene, options: PruneOptions) -> Needs:
    """The plans that it begins with, every matrix at every level, and the generations."""
    sizes, count = scene.sizes, level_count(options)
    begun = _ramps(scene, options).then(_sensitivity(scene, options)).then(whole(sizes, options, 2))
    stays = 0 if solves(options) else sizes.matrix_weights  # a byte each
    made = pruned_once(sizes, options)
    levels = Needs(made.memory, work=made.work * count)
    rounds, judged = Work(), options.offspring
    for windows, survivors in search.stages(min(options.trial_windows, sizes.samples), options.offspring):
        rounds += tried(sizes, windows, HALF) * judged
        judged = survivors
    searched = levels.then(trial(scene, options.trial_windows)).then(
        Needs(trial_bytes(sizes, options.trial_windows), work=rounds * options.generations)
    )
    written = count * sizes.matrix_weights * sizes.number if solves(options) else 0
    return begun.then(searched.during(Needs(clone(sizes) + stays, scratch=written)))


ALLOCATIONS: dict[str, Callable[[Scene, PruneOptions], Needs]] = {
    "atp": _ramps, "sensitivity": _sensitivity, "search": _search,
}  # fmt: skip


def whole(sizes: Sizes, options: PruneOptions, times: int) -> Needs:
    """The whole model pruned, tried and put back, so many times, while a trial is held."""
    once = pruned_once(sizes, options)
    work = once.work + tried(sizes, options.trial_windows, 1.0)
    held = trial_bytes(sizes, options.trial_windows)
    return Needs(once.memory + clone(sizes) + held, work=work * times)


def pruned_once(sizes: Sizes, options: PruneOptions) -> Needs:
    """Every matrix pruned by the proxy: a group's statistics are read, a block's new weights are held."""
    solved = parts.solved(sizes, options.model_copy(update={"criterion": options.proxy}), solves(options))
    read = Needs(FLOAT * parts.gram_numbers(sizes, whole_block=False), work=Work(traffic=parts.statistics_bytes(sizes)))
    return solved.during(read).beside(max(sizes.blocks) * sizes.number)


def curves(sizes: Sizes, options: PruneOptions, ratios: int) -> Needs:
    """Every matrix at every ratio, and the error of its outputs from the whole Gram matrix."""
    once = pruned_once(sizes, options)
    errors = Work({"float32": sum(4 * o * i * i for group in sizes.groups for o, i in group)})
    return Needs(once.memory, work=(once.work + errors) * ratios)


def trial(scene: Scene, windows: int) -> Needs:
    """The dense model's answers, of a second model where the first is not dense any more."""
    sizes = scene.sizes
    number = 2 if sizes.compute == "bfloat16" else FLOAT
    length = sizes.length if sizes.language else trial_tokens(sizes, windows)
    once = Needs(2 * FLOAT * length * sizes.vocabulary + parts.activations(sizes, length, number),
                 work=tried(sizes, windows, 1.0)).beside(trial_bytes(sizes, windows))  # fmt: skip
    if not scene.changed:
        return once
    return once.then(parts.loading(sizes)).beside(sizes.loaded + entries(sizes, windows)).during(Needs(work=once.work))


def trial_bytes(sizes: Sizes, windows: int) -> float:
    """What a trial holds: the dense answers, and what entered every block."""
    tokens = trial_tokens(sizes, windows)
    some = likely(tokens, max(2, sizes.vocabulary))
    answers = 2 * max(2, sizes.vocabulary) if some is None else 6 * some
    return tokens * answers + entries(sizes, windows)


def entries(sizes: Sizes, windows: int) -> float:
    return float(FLOAT * trial_tokens(sizes, windows) * sizes.hidden * len(sizes.blocks))


def trial_tokens(sizes: Sizes, windows: int) -> int:
    """Of language models' windows, or rows of features."""
    return min(windows, sizes.samples) * sizes.length if sizes.language else min(ROWS, sizes.samples)


def tried(sizes: Sizes, windows: int, share: float) -> Work:
    """This share of the blocks computed for the windows, and the answers compared."""
    tokens = trial_tokens(sizes, windows)
    blocks = parts.forward(sizes, tokens, sizes.length, sizes.compute, 0) + parts.calls(
        sizes, min(windows, sizes.samples)
    )
    compared = Work(traffic=COMPARED * FLOAT * tokens * sizes.vocabulary)
    return blocks * share + parts.forward(sizes, 0, sizes.length, sizes.compute, tokens) + compared


def clone(sizes: Sizes) -> int:
    """Bytes of all matrices as they were."""
    return sizes.matrix_weights * sizes.number


def matrices(sizes: Sizes) -> int:
    return sum(len(group) for group in sizes.groups)


def level_count(options: PruneOptions) -> int:
    return 2 * options.levels + 1


def solves(options: PruneOptions) -> bool:
    """Whether the proxy is a solver, whose weights at a level are no mask of the old ones."""
    return CRITERIA.load(options.proxy).CRITERION.solve is not None


def head_groups(scene: Scene) -> int:
    """Of one block: the heads that share keys and values count as one."""
    module: Any = scene.workspace.subject.module
    config = getattr(module, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    return (getattr(config, "num_key_value_heads", None) or heads) if isinstance(heads, int) else 0
