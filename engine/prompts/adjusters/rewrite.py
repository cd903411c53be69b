"""The local model rewrites its instruction from what it got wrong and from how earlier ones did (ProTeGi, OPRO), and learns
from mistakes that are shown with their right answers.

The first candidates are induced from labelled training rows (APE) and paraphrased from the start. Small models rewrite badly,
so that most candidates are one of the best few prompts (ProTeGi's beam) with some training rows that it answered wrongly among
its demonstrations, unless it may show none (arXiv 2402.05403 has models learn from mistakes in the prompt). Which rows these
are is asked beside the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from engine.data.rows import Row
from engine.prompts import answers, calibration, pool, requests
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.donors import Donors
from engine.prompts.judging import Standing
from engine.prompts.template import Prompt
from engine.prompts.written import EXAMPLES, inductions

SHOWS = True
PROPOSALS = 2  # requests a round
SHOWN = 6  # prompts a round that show mistakes
BEAM = 4  # of so many of the best one is drawn whose mistakes are shown, the better of two
ASKED = 32  # training rows a round that this one answers, to find some
FEW = 8  # of so few rows the mean answer is no bias of the words
FIRST = 4  # requests before the first round
SCORED = 5  # earlier instructions that a request shows
PATIENCE = 8  # rounds without a better one before it ends


Scored = tuple[Prompt, Standing]


def adjust(setting: Setting) -> Adjuster:
    """Rounds about the best prompts so far: requests for another instruction, and mistakes that one of them made shown."""
    donors = Donors.of(setting)
    (standing,) = yield [setting.start]
    scored, idle = [(setting.start, standing)], 0
    asks = beginnings(setting)
    while idle < PATIENCE:
        known, best = {prompt.text() for prompt, _ in scored}, scored[0]
        tried = [*written(asks, best[0], setting), *corrected(drawn(scored, setting), donors, setting)]
        asked = [prompt for text, prompt in {p.text(): p for p in tried}.items() if text not in known]
        idle += 1
        if asked:
            told = yield asked
            scored = sorted([*scored, *zip(asked, told, strict=True)], key=lambda pair: -pair[1].skill)
            idle = idle if scored[0] is best else 0
        asks = again(scored, setting)


def drawn(scored: Sequence[Scored], setting: Setting) -> Prompt:
    """The better of two of the best few, which come first."""
    beam = range(min(BEAM, len(scored)))
    return scored[min(setting.generator.choices(beam, k=2))][0]


def beginnings(setting: Setting) -> list[tuple[str, str]]:
    """(request, origin): inductions from different training rows, then paraphrases of the start."""
    task, text = setting.task, setting.instruction()
    out = inductions(task, FIRST if not text else FIRST // 2, setting.generator)
    return out + [(requests.paraphrase(text), "the start in other words")] * (FIRST - len(out))


def again(scored: Sequence[Scored], setting: Setting) -> list[tuple[str, str]]:
    """(request, origin): from different wrong answers of the best, which comes first, and from the best instructions so far."""
    prompt, standing = scored[0]
    text = prompt.instruction or setting.instruction()
    told = {p.instruction: s.skill for p, s in reversed(scored) if p.instruction}
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
    found = wrong(standing) or np.argsort(standing.margins)[: 2 * EXAMPLES].tolist()
    chosen = setting.generator.sample(found, min(EXAMPLES, len(found)))
    return [setting.rows[index] for index in chosen]


def wrong(standing: Standing) -> list[int]:
    """Which rows were answered wrongly; none where answers are neither right nor wrong."""
    found: list[int] = [] if standing.correct is None else np.flatnonzero(~standing.correct).tolist()
    return found


def missed(prompt: Prompt, donors: Donors, setting: Setting) -> list[Row]:
    """Of some training rows that the prompt does not show, those that it answers wrongly; where answers are neither right nor
    wrong, the worse half.
    """
    sample = setting.generator.sample(donors.rows, min(ASKED, len(donors.rows)))
    rows = [row for row in sample if row not in prompt.demonstrations]
    if not rows:
        return []
    given = answers.asked(setting.scorer, setting.task, prompt, rows)
    offsets_C = offsets(prompt, rows, given, setting) if isinstance(given, torch.Tensor) else None
    standing = answers.judged(setting.task.metric, given, offsets_C, rows)
    if standing.correct is None:
        return [rows[index] for index in np.argsort(standing.margins)[: -(-len(rows) // 2)]]
    return [rows[index] for index in wrong(standing)]


def offsets(prompt: Prompt, rows: Sequence[Row], scores_RC: torch.Tensor, setting: Setting) -> torch.Tensor:
    """The step's calibration, on these rows; none by the mean answer to a few."""
    kind = setting.options.calibration
    if kind == "batch" and len(rows) < FEW:
        kind = "none"
    return calibration.fitted(kind, setting.scorer, prompt, scores_RC, setting.meaningless)


def corrected(prompt: Prompt, donors: Donors, setting: Setting) -> list[Prompt]:
    """The prompt with training rows that it got wrong among its demonstrations, in the place of some where it is full."""
    rows = missed(prompt, donors, setting) if setting.options.max_demonstrations else []
    if not rows:
        return []
    generator, shown, out = setting.generator, list(prompt.demonstrations), []
    most = min(donors.most, len(rows))
    least = min(most, 1 if shown else -(-donors.most // 2))
    for _ in range(SHOWN):
        count = generator.randint(least, generator.randint(least, most))  # rather few: most of what led stays
        new = pool.draw(rows, count, donors.labelled, generator)
        old = generator.sample(shown, min(len(shown), donors.most - len(new)))
        together = generator.sample([*old, *new], len(old) + len(new))
        told = f"{len(new)} training row{'s' * (len(new) > 1)} shown that it answered badly"
        out.append(replace(prompt, demonstrations=tuple(together), origin=told))
    return out


def written(asks: Sequence[tuple[str, str]], best: Prompt, setting: Setting) -> list[Prompt]:
    """The best prompt with what the model answers, as far as that is an instruction; each once."""
    found = setting.writer.write([request for request, _ in asks], tokens=requests.LONGEST)
    read = [(requests.instruction(answer), origin) for answer, (_, origin) in zip(found, asks, strict=True)]
    fresh: dict[str, str] = {}
    for text, origin in read:
        if text is not None:
            fresh.setdefault(text, origin)
    return [replace(best, instruction=text, origin=origin) for text, origin in fresh.items()]
