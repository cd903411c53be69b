"""How keys are written: Textual's names (question_mark, escape), and what people read and type for them (?, esc)."""

from __future__ import annotations

from textual.keys import KEY_DISPLAY_ALIASES, _character_to_key, format_key

NAMES = {shown: name for name, shown in KEY_DISPLAY_ALIASES.items()}
TYPED = ("space", "minus")
"""keys that write a character and are shown by another sign, or by a word"""


def shown(key: str) -> str:
    """A key as people write it."""
    modifiers, plus, last = key.rpartition("+")
    return f"{modifiers}{plus}{last if last == 'enter' else format_key(last)}"


def name(written: str) -> str:
    """Textual's name of a key that people write: ? is question_mark, esc is escape."""
    if len(written) == 1:
        return NAMES.get(written) or _character_to_key(written)
    modifiers, plus, last = written.lower().rpartition("+")
    return f"{modifiers}{plus}{NAMES.get(last, last)}"


def types(key: str) -> bool:
    """Whether a key writes a character into a line."""
    return key in TYPED or (key not in KEY_DISPLAY_ALIASES and len(format_key(key)) == 1)
