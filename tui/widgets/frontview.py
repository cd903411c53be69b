"""The artifacts of a model as two pictures: perplexity against bytes, and against speed; what another one beats is a small dot.

textual-plot (numpy with it) is imported when the pictures are composed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engine.archive import Measured
from tui.widgets.chart import plot_widget
from tui.widgets.line import Line

MARKED, GOOD, BEATEN = "◆", "●", "·"
Artifacts = Sequence[tuple[Measured, bool]]
"""each with whether nothing beats it"""


class FrontView(Horizontal):
    """Both pictures; the perplexity is the height of both."""

    PICTURES = (("bytes", "perplexity over MB"), ("decode", "perplexity over tok/s"))

    def __init__(self) -> None:
        super().__init__(id="front")
        self._plots: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        for name, _ in self.PICTURES:
            with Vertical():
                yield Line(id=f"title-{name}")
                self._plots[name] = plot_widget()
                yield self._plots[name]

    def show(self, artifacts: Artifacts, marked: Measured | None) -> None:
        """Draws the artifacts, the marked one as a diamond."""
        for name, title in self.PICTURES:
            points = [(artifact, good) for artifact, good in artifacts if getattr(artifact, name) is not None]
            missing = len(artifacts) - len(points)
            self.query_one(f"#title-{name}", Line).put(
                Text.assemble(title, (f" · {missing} unmeasured" if missing else "", "bright_black"))
            )
            accent = self.app.theme_variables.get("accent", "cyan")
            _draw(
                self._plots[name], [(at(artifact, name), artifact, good) for artifact, good in points], marked, accent
            )


def at(artifact: Measured, name: str) -> float:
    """Where an artifact lies on a picture's ground: MB, or tokens a second."""
    return artifact.bytes / 1e6 if name == "bytes" else artifact.decode or 0.0


def _draw(plot: Any, points: Sequence[tuple[float, Measured, bool]], marked: Measured | None, accent: str) -> None:
    plot.clear()
    if not points:
        return
    for values, set_limits in (
        ([x for x, _, _ in points], plot.set_xlimits),
        ([artifact.perplexity or 0.0 for _, artifact, _ in points], plot.set_ylimits),
    ):
        room = (max(values) - min(values)) * 0.08 or max(values) * 0.1 or 1.0
        set_limits(max(0.0, min(values) - room), max(values) + room)
    kinds = ((BEATEN, "bright_black"), (GOOD, accent), (MARKED, f"bold {accent}"))
    for sign, style in kinds:  # the marked one is drawn last, over the others
        drawn = [(x, a.perplexity) for x, a, good in points if _sign(a, good, marked) == sign]
        if drawn:
            plot.scatter([x for x, _ in drawn], [y for _, y in drawn], marker=sign, marker_style=style)


def _sign(artifact: Measured, good: bool, marked: Measured | None) -> str:
    return MARKED if artifact == marked else GOOD if good else BEATEN
