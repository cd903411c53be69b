"""How a state looks everywhere: glyph, word and colour together, never colour alone."""

from __future__ import annotations

from rich.text import Text

BAR = "━"
REST = "─"
EIGHTHS = " ▁▂▃▄▅▆▇█"
LOOKS = {
    "waiting": ("○", "bright_black"),
    "pending": ("○", "bright_black"),
    "reading": ("…", "cyan"),
    "starting": ("…", "cyan"),
    "not started": ("○", "bright_black"),
    "queued": ("○", "cyan"),
    "running": ("▶", "cyan"),
    "done": ("✓", "green"),
    "gate met": ("✓", "green"),
    "gate missed": ("▲", "yellow"),
    "failed": ("✗", "red"),
    "crashed": ("✗", "red"),
    "cancelled": ("■", "yellow"),
    "paused": ("⏸", "yellow"),
    "better": ("▲", "green"),
    "worse": ("▼", "red"),
    "tie": ("=", "bright_black"),
    "baseline": ("·", "bright_black"),
    "in": ("●", "cyan"),
    "out": ("○", "bright_black"),
    "valid": ("✓", "green"),
    "right": ("✓", "green"),
    "wrong": ("✗", "red"),
}
WORDS = {"pending": "waiting"}
COLOURS = {"info": "", "warning": "yellow", "error": "red"}


def mark(status: str, suffix: str = "") -> Text:
    """A state as glyph, word and colour; `suffix` follows the word."""
    glyph, colour = LOOKS.get(status, ("?", ""))
    return Text(f"{glyph} {WORDS.get(status, status)}{suffix}", style=colour)


def bar(done: int, total: int, width: int) -> Text:
    """A progress bar of `width` characters that reads without colour too."""
    filled = min(width, round(width * done / total)) if total else 0
    return Text.assemble((BAR * filled, "cyan"), (REST * (width - filled), "bright_black"))


def height(value: float, top: float) -> str:
    """A value as one character, as high as its share of `top`; one that is there is seen."""
    return EIGHTHS[max(1, min(8, round(8 * value / top)))] if top > 0 else EIGHTHS[1]


def piece(share: float, row: int, rows: int) -> str:
    """What lies in one of `rows` lines, counted from below, of a bar so high; one that is there is seen."""
    eighths = round(8 * rows * share) - 8 * row
    return EIGHTHS[max(0 if row else 1, min(8, eighths))]


def elide(text: str, width: int, keep: str = "start") -> str:
    """`text` in at most `width` characters; `keep` names the end that stays."""
    text = text.replace("\n", "⏎")
    if len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    return "…" + text[1 - width :] if keep == "end" else text[: width - 1] + "…"
