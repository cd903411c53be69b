"""Another case: a text in capitals, in small letters or with a capital for each word, by chance among those that change it."""

from __future__ import annotations

import random

from engine.prompts.disturbing import Asked, each_text


def perturb(asked: Asked) -> Asked:
    return each_text(asked, recased)


def recased(text: str, chance: random.Random) -> str:
    others = [other for other in (text.upper(), text.lower(), text.title()) if other != text]
    return chance.choice(others) if others else text
