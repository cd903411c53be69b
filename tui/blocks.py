"""What a run did to each block of a model, and means to do: a fold of a RunState by block, without widgets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine import events as ev
from engine import means
from engine.state import LayerState, RunState


@dataclass
class Block:
    """One block: shares and errors are means over its matrices (shares by parameters), seconds are all it took.

    `before` and `after` are its output error before and after recovery; `parts` is what structured pruning left of it.
    """

    planned: float | None = None
    sparsity: float | None = None
    error: float | None = None
    sensitivity: float | None = None
    before: float | None = None
    after: float | None = None
    seconds: float | None = None
    parts: dict[str, ev.PartsRemoved] = field(default_factory=dict)
    gone: bool = False

    @property
    def kept(self) -> float | None:
        """The share of parts that stays, of the part that was taken out last."""
        last = list(self.parts.values())[-1:]
        return 1 - len(last[0].removed) / last[0].of if last and last[0].of else None


def blocks(state: RunState) -> dict[int, Block]:
    """Every block that the run has named, in order, by the numbers of the dense model."""
    found = {number: _of_layers(layers) for number, layers in members(state).items()}
    for number, event in _numbered(state):
        entry = found.setdefault(number, Block())
        if isinstance(event, ev.PartsRemoved):
            _add_removal(entry, event)
        else:
            entry.before, entry.after = event.before, event.after
            entry.seconds = (entry.seconds or 0.0) + event.seconds
    for number, error in sensitivities(state).items():
        found.setdefault(number, Block()).sensitivity = error
    for number in gone(state):
        found.setdefault(number, Block()).gone = True
    return dict(sorted(found.items()))


def members(state: RunState) -> dict[int, list[LayerState]]:
    """The matrices of every block, by the block's number in the dense model."""
    shaped = state.model.step if state.model else -1  # the step whose shapes the matrices have
    stay = _left([event for event in state.removals if event.step <= shaped], _all_numbers(state))
    found: dict[int, list[LayerState]] = {}
    for layer in state.layers.values():
        found.setdefault(_at(stay, layer.block), []).append(layer)
    return found


def gone(state: RunState) -> list[int]:
    """The blocks that left the model, by the numbers they had in the dense one."""
    every = _all_numbers(state)
    return sorted(set(every) - set(_left(state.removals, every)))


def dense_layers(state: RunState) -> dict[str, LayerState]:
    """The matrices by their names in the dense model; none once blocks have left, as the rest has other names since."""
    return {} if state.renumbered >= 0 else state.layers


def dense_sensitivities(state: RunState) -> dict[str, ev.LayerSensitivity]:
    """What was measured of matrices before any block left, by their names in the dense model."""
    return {name: event for name, event in state.sensitivities.items() if before_blocks_left(state, event.step)}


def before_blocks_left(state: RunState, step: int) -> bool:
    """Whether a step came before the first one that took whole blocks out."""
    return all(step < event.step for event in state.removals if event.part == "blocks")


def sensitivities(state: RunState) -> dict[int, float]:
    """Mean error of the blocks' matrices alone pruned, by the block's number in the dense model."""
    every, measured = _all_numbers(state), state.sensitivities.values()
    steps = {event.step for event in measured}
    stay = {step: _left([r for r in state.removals if r.step < step], every) for step in steps}
    return means.by_block([(_at(stay[event.step], event.block), event.error, 1) for event in measured])


def by_block(state: RunState) -> bool:
    """Whether the step at work does its work block by block and not matrix by matrix, or all that was done is such."""
    if recovering(state):
        return True
    last: list[ev.PartsRemoved | ev.BlockRecovered] = [*state.recoveries[-1:], *state.removals[-1:]]
    nothing_else = all(layer.sparsity is None for layer in state.layers.values())
    return bool(last) and (nothing_else or state.current in [event.step for event in last])


def recovering(state: RunState) -> bool:
    """Whether the step at work, or last at work, is one of recovery."""
    step = state.steps.get(state.current) if state.current is not None else None
    return step is not None and step.use == "recover"


def newest(state: RunState) -> int | None:
    """The block that something was done to last, the first one before that."""
    if recovering(state) and all(event.step != state.current for event in state.recoveries):
        return next(iter(members(state)), None)
    here = [number for number, event in list(_numbered(state))[-1:] if event.step == state.current]
    found = members(state)
    done = [number for number, layers in found.items() if any(layer.sparsity is not None for layer in layers)]
    return next(iter([*here, *done[-1:], *found]), None)


def whole_model(state: RunState) -> list[str]:
    """What structured pruning took out of the model as a whole, a line each."""
    return [removed(event) for event in state.removals if event.block is None]


def removed(event: ev.PartsRemoved) -> str:
    """What is left of the parts: 1152 of 1536 channels; which ones went where they are few."""
    text = f"{event.of - len(event.removed)} of {event.of} {event.part}"
    few = event.block is None and 0 < len(event.removed) <= 8
    return f"{text}, without {', '.join(map(str, event.removed))}" if few else text


def _numbered(state: RunState) -> Iterator[tuple[int, ev.PartsRemoved | ev.BlockRecovered]]:
    """What was done to blocks, in order, each by the number that its block had before others left the model."""
    stay = _all_numbers(state)
    work: list[ev.PartsRemoved | ev.BlockRecovered] = [*state.removals, *state.recoveries]
    for event in sorted(work, key=lambda event: event.seq):
        if event.block is not None:
            yield _at(stay, event.block), event
        elif isinstance(event, ev.PartsRemoved):
            stay = _left([event], stay)


def _left(removals: Iterable[ev.PartsRemoved], stay: list[int]) -> list[int]:
    """What is left of the blocks `stay` after these removals."""
    for event in removals:
        if event.part == "blocks" and event.block is None:
            stay = [number for index, number in enumerate(stay) if index not in event.removed]
    return stay


def _at(numbers: list[int], index: int) -> int:
    return numbers[index] if index < len(numbers) else index


def _all_numbers(state: RunState) -> list[int]:
    of = [event.of for event in state.removals if event.part == "blocks" and event.block is None]
    return list(range(max([*of, *(layer.block + 1 for layer in state.layers.values())], default=0)))


def _of_layers(layers: list[LayerState]) -> Block:
    seconds = [layer.seconds for layer in layers if layer.seconds is not None]
    return Block(
        planned=means.weighted((layer.planned, layer.parameters) for layer in layers),
        sparsity=means.weighted((layer.sparsity, layer.parameters) for layer in layers),
        error=means.mean(layer.error for layer in layers),
        seconds=sum(seconds) if seconds else None,
    )


def _add_removal(entry: Block, event: ev.PartsRemoved) -> None:
    entry.parts.pop(event.part, None)  # so that the last one stands last
    entry.parts[event.part] = event
    entry.error = entry.error if event.error is None else event.error
    entry.seconds = (entry.seconds or 0.0) + event.seconds
