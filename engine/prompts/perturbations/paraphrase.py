"""Other words for the same: the dense model restates every text. One that it leaves alone or changes beyond use stays as it is,
and so does one that is too long for it.
"""

from __future__ import annotations

from dataclasses import replace

from engine.prompts import requests
from engine.prompts.disturbing import Asked, texts

WRITES = True


def perturb(asked: Asked) -> Asked:
    shown = [(i, name, text) for i, row in enumerate(asked.rows) for name, text in texts(asked.prompt, row).items()]
    places = [place for place in shown if len(place[2]) <= requests.CLIP]
    answers = asked.write([requests.restate(text) for _, _, text in places])
    rows = list(asked.rows)
    for (i, name, text), answer in zip(places, answers, strict=True):
        restated = requests.restated(answer, text)
        if restated:
            rows[i] = replace(rows[i], fields={**rows[i].fields, name: restated})
    return replace(asked, rows=rows)
