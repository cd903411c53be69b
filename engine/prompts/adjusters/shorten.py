"""Leaves out what the model finds least surprising: words, phrases, demonstrations, at rising rates (LLMLingua).

A piece's information is its mean surprisal a token, given all before it (arXiv 2310.05736; the paper judges single tokens, and
shortens the text of demonstrations too). What is not significantly worse than the start goes on, and more is taken next time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from engine.prompts import surprise
from engine.prompts.adjusters.grips import phrases
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.shortest import behind
from engine.prompts.soft import Soft
from engine.prompts.template import SEPARATOR, Prompt, fill

OBJECTIVE = "length"
RATE, LEAST, MOST = 0.2, 0.04, 0.6  # share of the tokens before the row that a round takes away
RISE = 1.5

Pieces = list[str]


def adjust(setting: Setting) -> Adjuster:
    """Rounds of cuts of the shortest prompt so far, finer ones after a loss; ends when the finest lose too."""
    best, rate = setting.start, RATE
    (beginning,) = yield [best]
    known = {best.text()}
    while True:
        asked = [p for p in cuts(best, rate, setting) if p.text() not in known]
        asked = list({p.text(): p for p in asked}.values())
        known |= {p.text() for p in asked}
        answers = (yield asked) if asked else []
        level = [p for p, answer in zip(asked, answers, strict=True) if not behind(answer, beginning)]
        if level:
            best, rate = min(level, key=setting.tokens), min(MOST, rate * RISE)
        elif rate <= LEAST:
            return
        else:
            rate = max(LEAST, rate / 2)


def cuts(prompt: Prompt, rate: float, setting: Setting) -> list[Prompt]:
    """The prompt without its least informative words, phrases, demonstrations, and without both kinds."""
    words, whole = re.findall(r"\s*\S+", prompt.instruction), phrases(prompt.instruction)
    shown = [fill(prompt.template, row) + row.choices[row.gold] + SEPARATOR for row in prompt.demonstrations]
    of_words = information(setting, words, shown, prompt.soft)
    of_phrases = information(setting, whole, shown, prompt.soft)
    of_shown = of_words[len(words) :]
    share = rate * sum(tokens for _, tokens in of_words)
    told = f"{round(100 * rate)}% less: without the least informative"
    fewer = [row for row, stays in zip(prompt.demonstrations, kept(of_shown, share), strict=True) if stays]
    short = left(words, kept(of_words[: len(words)], share))
    out = [
        replace(prompt, instruction=short, origin=f"{told} words"),
        replace(prompt, instruction=left(whole, kept(of_phrases[: len(whole)], share)), origin=f"{told} phrases"),
        replace(prompt, demonstrations=tuple(fewer), origin=f"{told} demonstrations"),
    ]
    if shown and words:
        out.append(
            replace(prompt, instruction=short, demonstrations=tuple(fewer), origin=f"{told} words and demonstrations")
        )
    return out


def information(
    setting: Setting, pieces: Sequence[str], shown: Sequence[str], soft: Soft | None
) -> list[tuple[float, int]]:
    """(surprisal, tokens) of the instruction's pieces, then of the demonstrations, behind the virtual tokens."""
    apart = [SEPARATOR] if pieces and shown else []
    if not pieces and not shown:
        return []
    found = surprise.of_pieces(setting.subject, [*pieces, *apart, *shown], soft)
    return found[: len(pieces)] + found[len(pieces) + len(apart) :]


def kept(pieces: Sequence[tuple[float, int]], share: float) -> list[bool]:
    """Which pieces stay when the least informative go until `share` tokens are gone; at least one goes."""
    stays, gone = [True] * len(pieces), 0
    for index in sorted(range(len(pieces)), key=lambda i: pieces[i][0] / max(1, pieces[i][1])):
        if gone >= share and gone:
            break
        stays[index] = False
        gone += max(1, pieces[index][1])
    return stays


def left(pieces: Sequence[str], stays: Sequence[bool]) -> str:
    return "".join(piece for piece, stay in zip(pieces, stays, strict=True) if stay).strip()
