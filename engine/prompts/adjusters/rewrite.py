"""The local model rewrites its instruction from what it got wrong, and from how earlier ones did (ProTeGi, OPRO).

The first candidates are induced from labelled training rows (APE) and paraphrased from the start. Demonstrations stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.data.rows import Row
from engine.prompts import requests
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.judging import Standing
from engine.prompts.template import Prompt
from engine.prompts.written import EXAMPLES, inductions

PROPOSALS = 6  # requests a round
FIRST = 8  # requests before the first round
SCORED = 5  # earlier instructions that a request shows
PATIENCE = 4  # rounds without a better one before it ends


def adjust(setting: Setting) -> Adjuster:
    """Rounds of requests about the best instruction so far."""
    (standing,) = yield [setting.start]
    best, scored, idle = (setting.start, standing), [(setting.start, standing)], 0
    asks = beginnings(setting)
    while idle < PATIENCE:
        known = {prompt.text() for prompt, _ in scored}
        asked = [p for p in written(asks, setting) if p.text() not in known]
        idle += 1
        if asked:
            answers = yield asked
            scored += zip(asked, answers, strict=True)
            leader = max(scored, key=lambda pair: pair[1].skill)
            if leader[1].skill > best[1].skill:
                best, idle = leader, 0
        asks = again(best, scored, setting)


def beginnings(setting: Setting) -> list[tuple[str, str]]:
    """(request, origin): inductions from different training rows, then paraphrases of the start."""
    task, text = setting.task, setting.instruction()
    out = inductions(task, FIRST if not text else FIRST // 2, setting.generator)
    return out + [(requests.paraphrase(text), "the start in other words")] * (FIRST - len(out))


def again(
    best: tuple[Prompt, Standing], scored: Sequence[tuple[Prompt, Standing]], setting: Setting
) -> list[tuple[str, str]]:
    """(request, origin): from different wrong answers of the best, and from the row of instructions so far."""
    prompt, standing = best
    text = prompt.instruction or setting.instruction()
    told = {p.instruction: s.skill for p, s in scored if p.instruction}
    top = sorted(told.items(), key=lambda pair: -pair[1])[:SCORED]
    out = []
    for number in range(PROPOSALS):
        wrong = mistaken(standing, setting)
        if number % 2 and len(top) > 1:
            out.append((requests.succession(setting.task, top), f"after the best {len(top)}"))
        elif text:
            origin = f"from {len(wrong)} wrong answers"
            out.append((requests.correction(setting.task, text, wrong), origin))
        else:
            out.append((requests.induction(setting.task, wrong), f"induced from {len(wrong)} wrong answers"))
    return out


def mistaken(standing: Standing, setting: Setting) -> list[Row]:
    """Some rows that were answered wrongly; the least certain ones when all were right."""
    wrong = [] if standing.correct is None else np.flatnonzero(~standing.correct).tolist()
    wrong = wrong or np.argsort(standing.margins)[: 2 * EXAMPLES].tolist()
    chosen = setting.generator.sample(wrong, min(EXAMPLES, len(wrong)))
    return [setting.rows[index] for index in chosen]


def written(asks: Sequence[tuple[str, str]], setting: Setting) -> list[Prompt]:
    """The prompts with what the model answers, as far as that is an instruction; each once."""
    answers = setting.writer.write([request for request, _ in asks], tokens=requests.LONGEST)
    read = [(requests.instruction(answer), origin) for answer, (_, origin) in zip(answers, asks, strict=True)]
    fresh: dict[str, str] = {}
    for text, origin in read:
        if text is not None:
            fresh.setdefault(text, origin)
    return [setting.with_instruction(text, origin) for text, origin in fresh.items()]
