"""Other words for the same: the dense model restates every text; one that it leaves alone or changes beyond use stays."""

from __future__ import annotations

from dataclasses import replace

from engine.prompts import requests
from engine.prompts.disturbing import Asked, texts


def perturb(asked: Asked) -> Asked:
    places = [(i, name, text) for i, row in enumerate(asked.rows) for name, text in texts(asked.prompt, row).items()]
    answers = asked.write([requests.restate(text) for _, _, text in places])
    rows = list(asked.rows)
    for (i, name, text), answer in zip(places, answers, strict=True):
        restated = requests.restated(answer, text)
        if restated:
            rows[i] = replace(rows[i], fields={**rows[i].fields, name: restated})
    return replace(asked, rows=rows)
