"""The app's own colours: dark, light, high contrast, and those of the terminal itself; one accent each.

Signs in tables use the terminal's colour names, which are mapped to each theme's colours here.
"""

from __future__ import annotations

from dataclasses import replace

from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.color import Color
from textual.filter import Monochrome
from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="compress-dark",
    primary="#4fb8c4",
    secondary="#7f9fb8",
    accent="#4fb8c4",
    success="#8ccf7e",
    warning="#e5c76b",
    error="#ef7d7d",
    foreground="#d8dee6",
    background="#0f1418",
    surface="#141b20",
    panel="#1c262d",
    dark=True,
    variables={"border": "#33424d", "footer-key-foreground": "#4fb8c4"},
)
LIGHT = Theme(
    name="compress-light",
    primary="#0b7285",
    secondary="#51697a",
    accent="#0b7285",
    success="#2b7a1f",
    warning="#8a5a00",
    error="#b42318",
    foreground="#1b2329",
    background="#fafbfc",
    surface="#f2f4f6",
    panel="#e6eaee",
    dark=False,
    variables={"border": "#b9c4cc", "footer-key-foreground": "#0b7285"},
)
CONTRAST = Theme(
    name="compress-contrast",
    primary="#ffff00",
    secondary="#ffffff",
    accent="#ffff00",
    success="#00ff66",
    warning="#ffcc00",
    error="#ff8080",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#303030",
    dark=True,
    variables={"border": "#ffffff", "footer-key-foreground": "#ffff00", "text-muted": "#ffffff"},
)
ANSI = replace(
    BUILTIN_THEMES["ansi-dark"],
    name="compress-ansi",
    accent="ansi_cyan",
    panel="ansi_bright_black",
    variables={**BUILTIN_THEMES["ansi-dark"].variables, "border": "ansi_bright_black", "text-muted": "ansi_default"},
)
THEMES = (DARK, LIGHT, ANSI, CONTRAST)
TITLES = {
    DARK.name: "dark",
    LIGHT.name: "light",
    ANSI.name: "ansi: the colours of your terminal",
    CONTRAST.name: "high contrast",
}


def _signs(theme: Theme, grey: tuple[int, int, int]) -> TerminalTheme:
    """What the colour names red, green, yellow, cyan and bright_black of `states.py` mean in a theme."""
    red, green, yellow, cyan = (_rgb(c) for c in (theme.error, theme.success, theme.warning, theme.accent))
    back, fore = _rgb(theme.background), _rgb(theme.foreground)
    normal = [back, red, green, yellow, cyan, cyan, cyan, fore]
    return TerminalTheme(back, fore, normal, [grey, *normal[1:]])


def _rgb(colour: str | None) -> tuple[int, int, int]:
    text = (colour or "#000000").lstrip("#")
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)


SIGNS = {
    DARK.name: _signs(DARK, (126, 141, 153)),
    LIGHT.name: _signs(LIGHT, (96, 110, 120)),
    CONTRAST.name: _signs(CONTRAST, (200, 200, 200)),
}


class NoColours(Monochrome):
    """Textual's NO_COLOR filter, which stumbles over the unstyled segments of textual-plot."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        styled = [Segment(text, style or Style.null(), control) for text, style, control in segments]
        return super().apply(styled, background)
