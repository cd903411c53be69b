"""The steps of a run from top to bottom with state, progress and outcome; below them what is being compressed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from engine import figures, gates
from engine.state import RunState, StepState
from tui.usage import Usage
from tui.widgets.states import LOOKS, bar, elide, height, mark

WIDTH = 26
SHARES = ("sparsity", "covered")
UNCUT = 10_000
TALLEST = 6
"""lines of a step at work, and of what is shown above it"""


class StepRail(VerticalScroll, inherit_bindings=False):
    """A scrolling column; `show` redraws it from the state and, once a step, brings the step at work into sight."""

    can_focus = True
    _current: int | None = None
    _shape = (0, 0)
    _wanted: tuple[int, int] | None = None
    """the line to bring into sight, and how many lines there must be room for before anything can be"""

    def compose(self) -> list[Static]:
        return [Static(id="rail-text")]

    def show(self, state: RunState, now: float, usage: Sequence[Usage] = (), rates: Sequence[float] = ()) -> None:
        width = max(16, self.scrollable_content_region.width or WIDTH)
        blocks = {index: _step(step, now, width) for index, step in sorted(state.steps.items())}
        below = (*_ruled(_facts(state, width), width), *_ruled(_taken(usage, rates, width), width))
        text = Text("\n").join([*blocks.values(), *below])
        shown = self.query_one("#rail-text", Static)
        if text != shown.content:
            before, self._shape = self._shape, (width, text.plain.count("\n"))
            shown.update(text, layout=before != self._shape)  # no line is wider than that
        if state.current != self._current:
            self._current = state.current
            above = sum(block.plain.count("\n") + 1 for index, block in blocks.items() if index < (state.current or 0))
            self._wanted = max(0, above - 2), text.plain.count("\n") + 1
            self.call_after_refresh(self._bring)

    def watch_virtual_size(self) -> None:
        """A rail that is out of sight has no size to scroll in: the step is brought up once there is one."""
        self._bring()

    def _bring(self) -> None:
        if self._wanted and self.virtual_size.height >= self._wanted[1]:
            (line, _), self._wanted = self._wanted, None
            if line + TALLEST > self.scrollable_content_region.height:  # else it is in sight from the top
                self.scroll_to(y=line, animate=False)


def whole(state: RunState, now: float) -> Text:
    """The steps with all that they came to, and what is being compressed, nothing cut."""
    blocks = [_step(step, now, UNCUT, len(step.summary)) for _, step in sorted(state.steps.items())]
    return Text("\n").join([*blocks, Text(), *_facts(state, UNCUT)])


def _step(step: StepState, now: float, width: int, most: int = 4) -> Text:
    """`most` lines of what it came to are shown."""
    glyph, colour = LOOKS.get(step.status, ("?", ""))
    text = Text.assemble((f"{glyph} ", colour), (step.use, "bold" if step.status == "running" else ""))
    took = f" · {figures.duration(step.seconds)}" if step.seconds is not None else ""
    resumed = " · checkpoint" if step.resumed else ""
    status = mark(step.status)[2:]
    text.append_text(Text.assemble("\n  ", status, (elide(took + resumed, width - 2 - len(status)), "bright_black")))
    if step.status == "running" and step.total:
        text.append("\n  " + elide(f"{step.label} {step.done}/{step.total}", width - 2, "end") + "\n  ", "bright_black")
        text.append_text(bar(step.done, step.total, min(width, WIDTH) - 7))
        text.append(f" {100 * step.done // step.total:>3}%", "bold")
    elif step.status == "done":
        for key, value in list(step.summary.items())[:most]:
            text.append("\n  " + elide(f"{key.replace('_', ' ')} {_outcome(key, value)}", width - 2), "bright_black")
    return text


def _outcome(key: str, value: object) -> str:
    """A value of a step's summary as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "bytes" and isinstance(value, int):
        return figures.size(value)
    if key in SHARES and isinstance(value, float):
        return figures.share(value)
    return figures.number(value, 3) if isinstance(value, float) else str(value)


def _ruled(lines: list[Text], width: int) -> list[Text]:
    """With a line above them, where there are any."""
    return [Text("─" * width, "bright_black"), *lines] if lines else []


def _taken(usage: Sequence[Usage], rates: Sequence[float], width: int) -> list[Text]:
    """What the worker does and takes now, a number beside each curve."""
    if not usage:
        return []
    now, lines = usage[-1], []
    taken: list[tuple[str, str, list[float]]] = [("does", f"{rates[-1]:.2g}/s", list(rates))] if rates else []
    taken += [
        ("uses", figures.size(now.memory), [one.memory for one in usage]),
        ("cores", figures.number(now.cpu, 1), [one.cpu for one in usage]),
    ]
    if now.card_memory is not None:
        taken.append(("on GPU", figures.size(now.card_memory), [one.card_memory or 0 for one in usage]))
    if now.card is not None:
        taken.append(("GPU", figures.share(now.card, 0), [one.card or 0 for one in usage]))
    for name, shown, values in taken:
        curve = "".join(height(value, max(values)) for value in values[-max(0, width - 17) :])
        lines.append(Text.assemble((f"{name:<7}", "bright_black"), f"{shown:<9} ", (curve, "cyan")))
    return lines


def _facts(state: RunState, width: int) -> list[Text]:
    lines = [
        (name, figures.need_of(event.value, event.unit, event.available)) for name, event in state.estimates.items()
    ]
    if state.model:
        model = state.model
        lines += [("model", model.source.rsplit("/", 1)[-1]), ("", model.architecture.removesuffix("ForCausalLM"))]
        lines += [("", f"{figures.count(model.parameters)} params"), ("", figures.size(model.bytes))]
        lines += [("on", f"{model.device} {model.dtype}"), ("", figures.several(model.threads, "thread"))]
    for artifact in state.artifacts:
        lines.append(("wrote", artifact.path.rsplit("/", 1)[-1]))
        lines.append(("", figures.size(artifact.bytes)))
    if state.unknown:
        lines.append(("unread", f"{state.unknown} newer events"))
    text = []
    for key, value in lines:
        keep = "start" if key in state.estimates else "end"  # what is needed says more than what there is
        text.append(Text.assemble((f"{key:<7}", "bright_black"), elide(value, width - 7, keep)))
    for gate in state.gates:
        text.append(mark("gate met" if gate.passed else "gate missed"))
        text.append(Text("  " + elide(gates.name(gate).replace("_", " "), width - 2)))
        told = gates.brief(gate)
        text.append(Text("  " + elide(told, width - 2), "bright_black"))
    return text
