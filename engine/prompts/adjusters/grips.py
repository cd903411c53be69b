"""Phrase edits of the instruction (GrIPS): delete, swap, paraphrase, put back; the best edit goes on (arXiv 2203.07281).

Phrases are what stands between punctuation marks, long ones cut into pieces of up to four words; the paper takes them
from a constituency parser.
"""

from __future__ import annotations

import re

from engine.errors import UsageError
from engine.prompts.adjusting import Adjuster, Setting

EDITS = ("delete", "swap", "paraphrase", "add")
PROPOSALS = 5  # candidates a round (the paper's m)
PATIENCE = 4  # rounds without a better one before it ends
TRIES = 3  # edits for each candidate that a round is to have
PHRASINGS = 3  # answers to choose a paraphrase from
LONGEST = 4  # words of a phrase


def adjust(setting: Setting) -> Adjuster:
    """Rounds of edits on the best instruction so far. Raises UsageError when there is none to edit."""
    best = setting.instruction()
    if not best.strip():
        hint = "give the step an instruction, or the task a description"
        raise UsageError("there is no instruction to edit", where="adjust_prompt", hint=hint)
    (standing,) = yield [setting.with_instruction(best, "before the edits")]
    skill, deleted, idle, known = standing.skill, list[str](), 0, {best}
    while idle < PATIENCE:
        fresh = proposals(best, deleted, known, setting)
        idle += 1
        if not fresh:
            continue
        known |= fresh.keys()
        answers = yield [setting.with_instruction(text, what) for text, what in fresh.items()]
        gained, text = max(zip((a.skill for a in answers), fresh, strict=True), key=lambda pair: pair[0])
        if gained > skill:
            deleted += [phrase for phrase in phrases(best) if phrase not in text]
            best, skill, idle = text, gained, 0


def proposals(best: str, deleted: list[str], known: set[str], setting: Setting) -> dict[str, str]:
    """New texts with what was edited; fewer than PROPOSALS when edits keep leading to known ones."""
    fresh: dict[str, str] = {}
    for _ in range(TRIES * PROPOSALS):
        if len(fresh) == PROPOSALS:
            break
        text, what = edited(best, deleted, setting)
        if text and text not in known:
            fresh.setdefault(text, what)
    return fresh


def edited(text: str, deleted: list[str], setting: Setting) -> tuple[str, str]:
    """One or two edits of `text`, and what they were."""
    told = []
    for _ in range(setting.generator.choice((1, 2))):
        kind = setting.generator.choice(EDITS if deleted else EDITS[:-1])
        text, what = edit(kind, text, deleted, setting)
        told.append(what)
    return text, ", ".join(told)


def edit(kind: str, text: str, deleted: list[str], setting: Setting) -> tuple[str, str]:
    """`text` with one edit of a random phrase."""
    generator, parts = setting.generator, phrases(text)
    if not parts:
        return text, "nothing to edit"
    at = generator.randrange(len(parts))
    phrase = parts[at]
    match kind:
        case "delete":
            parts.pop(at)
            what = f"without {phrase!r}"
        case "swap":
            other = generator.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
            what = f"{phrase!r} and {parts[at]!r} swapped"
        case "add":
            back = generator.choice(deleted)
            parts.insert(at, back)
            what = f"{back!r} put back"
        case _:
            parts[at] = paraphrase(phrase, setting)
            what = f"{phrase!r} as {parts[at]!r}"
    return join(parts), what


def paraphrase(phrase: str, setting: Setting) -> str:
    """The phrase in other words by the local model, one of several; as it was when no answer is a short line."""
    ask = f'Rewrite this phrase in other words. Answer with the new phrase only.\nPhrase: "{phrase}"'
    answers = setting.writer.write([ask] * PHRASINGS, tokens=24)
    lines = [answer.strip().partition("\n")[0].strip().strip('"').strip() for answer in answers]
    most = 3 * len(phrase.split()) + 3
    good = [line for line in dict.fromkeys(lines) if 0 < len(line.split()) <= most and line != phrase]
    return setting.generator.choice(good) if good else phrase


def phrases(text: str) -> list[str]:
    """The phrases of a text, in order; punctuation stays with the words before it."""
    out = []
    for piece in re.findall(r"[^,;:.!?]+[,;:.!?]*", text):
        words = piece.split()
        count = -(-len(words) // LONGEST)
        cuts = [round(i * len(words) / count) for i in range(count + 1)] if count else [0]
        out += [" ".join(words[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    return [phrase for phrase in out if phrase]


def join(parts: list[str]) -> str:
    return " ".join(part for part in parts if part)
