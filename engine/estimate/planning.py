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
from engine.pruning.allocation import ladder
from engine.pruning.allocations import atp, search
from engine.pruning.options import PruneOptions
from engine.registry import CRITERIA
from engine.sensitivity.measure import head_groups
from engine.sensitivity.options import SensitivityOptions

HALF = 0.5  # of the blocks are computed, on the mean, when one of them has changed
COMPARED = 6  # passes over a window's logits to compare them with the dense model's


def statistics(scene: Scene) -> Needs:
    """One pass with every statistic, and the entry in the cache, unless a step before has left it there."""
    if scene.collected:
        return Needs()
    collected = parts.calibration_pass(scene.sizes, gram=True)
    return collected.then(Needs(cache=parts.statistics_bytes(scene.sizes)))


def planning(scene: Scene, options: PruneOptions) -> Needs:
    """What the allocation tries, without the statistics; one that is not known here tries nothing."""
    plan = ALLOCATIONS.get(options.allocation)
    return plan(scene, options) if plan else Needs()


def measured(scene: Scene, options: SensitivityOptions) -> Needs:
    """What the `sensitivity` step tries, without the statistics."""
    proxy = PruneOptions(use="prune", proxy=options.criterion, trial_windows=options.windows)
    units = {"block": len(scene.sizes.blocks), "matrix": matrices(scene.sizes), "none": 0}[options.unit]
    module: Any = scene.workspace.subject.module
    groups = head_groups(getattr(module, "config", None)) if options.heads else 0
    found = curves(scene.sizes, proxy, len(options.ratios))
    if not units and not groups:
        return found
    return found.then(on_trial(scene, proxy, alone(scene.sizes, proxy, units, groups * len(scene.sizes.blocks))))


def on_trial(scene: Scene, options: PruneOptions, tries: Needs) -> Needs:
    """A trial made, and held during what is tried on it."""
    windows = options.trial_windows
    return trial(scene, windows).then(tries.beside(trial_bytes(scene.sizes, windows)))


def _ramps(scene: Scene, options: PruneOptions) -> Needs:
    """Every ramp pruned and tried as a whole."""
    return on_trial(scene, options, whole(scene.sizes, options, atp.TRIES))


def _sensitivity(scene: Scene, options: PruneOptions) -> Needs:
    sizes = scene.sizes
    found = curves(sizes, options, len(ladder(options)))
    return found.then(on_trial(scene, options, alone(sizes, options, moving(sizes, options))))


def _search(scene: Scene, options: PruneOptions) -> Needs:
    """The plans that it begins with, every matrix at every level, and the generations: one trial serves them all."""
    sizes, count = scene.sizes, level_count(options)
    ramps = whole(sizes, options, atp.TRIES)
    split = curves(sizes, options, len(ladder(options))).then(alone(sizes, options, moving(sizes, options)))
    begun = ramps.then(split).then(whole(sizes, options, 1))
    stays = 0 if solves(options) else sizes.matrix_weights  # a byte each
    made = pruned_once(sizes, options)
    levels = Needs(made.memory, work=made.work * count)
    rounds, judged = Work(), options.offspring
    for windows, survivors in search.stages(min(options.trial_windows, sizes.samples), options.offspring):
        rounds += tried(sizes, windows, HALF) * judged
        judged = survivors
    searched = levels.then(Needs(work=rounds * options.generations))
    written = count * sizes.matrix_weights * sizes.number if solves(options) else 0
    held = Needs(clone(sizes) + stays, scratch=written)
    return on_trial(scene, options, begun.then(searched.during(held)))


ALLOCATIONS: dict[str, Callable[[Scene, PruneOptions], Needs]] = {
    "atp": _ramps, "sensitivity": _sensitivity, "search": _search,
}  # fmt: skip


def whole(sizes: Sizes, options: PruneOptions, times: int) -> Needs:
    """The whole model pruned, tried and put back, so many times."""
    once = pruned_once(sizes, options)
    work = once.work + tried(sizes, options.trial_windows, 1.0)
    return Needs(once.memory + clone(sizes), work=work * times)


def alone(sizes: Sizes, options: PruneOptions, units: int, silenced: int = 0) -> Needs:
    """So many parts pruned, and heads silenced, each alone."""
    tries = Needs(work=tried(sizes, options.trial_windows, HALF) * (units + silenced + 2))
    return pruned_once(sizes, options).then(tries) if units else tries


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


def moving(sizes: Sizes, options: PruneOptions) -> int:
    """The units that are measured or moved as one."""
    return len(sizes.blocks) if options.unit == "block" else matrices(sizes)


def level_count(options: PruneOptions) -> int:
    """Of a search, at most: it moves within the range of the plan that it begins with, and so many steps outside it."""
    step, ratios, reach = options.level_step, ladder(options), max(0.0, atp.reach_at(options.amount))
    ends = {"densest": min(ratios[0], options.amount - reach), "sparsest": max(ratios[-1], options.amount + reach)}
    low, high = search.bounds(ends, options.levels * step)
    return int((high - low) / step + search.ROUNDING) + 1


def solves(options: PruneOptions) -> bool:
    """Whether the proxy is a solver, whose weights at a level are no mask of the old ones."""
    return CRITERIA.load(options.proxy).CRITERION.solve is not None
