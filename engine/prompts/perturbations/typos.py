"""One word in ten has a slip of the keyboard: a letter lost, doubled, swapped with the next, or its neighbour on the keyboard.

At least one word of a text has one, if any word has four letters.
"""

from __future__ import annotations

import random
import re

from engine.prompts.disturbing import Asked, each_text

WORD = re.compile(r"[A-Za-z]{4,}")
SHARE = 0.1
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def perturb(asked: Asked) -> Asked:
    return each_text(asked, mistyped)


def mistyped(text: str, chance: random.Random) -> str:
    words = list(WORD.finditer(text))
    if not words:
        return text
    hit = [word for word in words if chance.random() < SHARE] or [chance.choice(words)]
    for word in reversed(hit):  # the places before stay where they are
        text = text[: word.start()] + slip(word[0], chance) + text[word.end() :]
    return text


def slip(word: str, chance: random.Random) -> str:
    """One slip behind the first letter."""
    at = chance.randrange(1, len(word) - 1)
    before, letter, after = word[:at], word[at], word[at + 1 :]
    match chance.choice(("lost", "doubled", "swapped", "neighbour")):
        case "lost":
            return before + after
        case "doubled":
            return before + letter * 2 + after
        case "swapped" if letter != after[0]:
            return before + after[0] + letter + after[1:]
        case _:
            return before + neighbour(letter, chance) + after


def neighbour(letter: str, chance: random.Random) -> str:
    """A key beside the letter's, in the letter's case."""
    row = next(row for row in KEYBOARD if letter.lower() in row)
    at = row.index(letter.lower())
    key = chance.choice(row[max(0, at - 1) : at] + row[at + 1 : at + 2])
    return key.upper() if letter.isupper() else key
