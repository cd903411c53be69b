"""The demonstrations in another order; nothing changes for a prompt that shows fewer than two."""

from __future__ import annotations

from dataclasses import replace

from engine.prompts.disturbing import Asked, generator


def perturb(asked: Asked) -> Asked:
    shown = asked.prompt.demonstrations
    if len(set(shown_digests := [row.digest for row in shown])) < 2:
        return asked
    chance = generator(asked, " ".join(shown_digests))
    order = list(range(len(shown)))
    while [shown_digests[i] for i in order] == shown_digests:
        chance.shuffle(order)
    return replace(asked, prompt=replace(asked.prompt, demonstrations=tuple(shown[i] for i in order)))
