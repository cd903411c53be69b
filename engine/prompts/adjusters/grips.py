"""Phrase edits of the instruction (GrIPS): delete, swap, paraphrase, put back; the best edit goes on (arXiv 2203.07281).

Phrases end at punctuation that whitespace follows, long ones are cut into pieces of up to four words; the paper takes them
from a constituency parser.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import UsageError
from engine.prompts.adjusting import Adjuster, Setting

EDITS = ("delete", "swap", "paraphrase", "add")
PROPOSALS = 5  # candidates a round (the paper's m)
PATIENCE = 4  # rounds without a better one before it ends
TRIES = 3  # edits for each candidate that a round is to have
PHRASINGS = 3  # answers to choose a paraphrase from
LONGEST = 4  # words of a phrase
MARKS = ",;:.!?"  # a phrase ends where whitespace follows one


@dataclass(frozen=True)
class Edited:
    """`text` after edits, what they were, and the `deleted` phrases that may come back into it."""

    text: str
    told: str
    deleted: tuple[str, ...]


def adjust(setting: Setting) -> Adjuster:
    """Rounds of edits on the best instruction so far. Raises UsageError when there is none to edit."""
    best = setting.instruction()
    if not best.strip():
        hint = "give the step an instruction, or the task a description"
        raise UsageError("there is no instruction to edit", where="adjust_prompt", hint=hint)
    (standing,) = yield [setting.with_instruction(best, "before the edits")]
    skill, deleted, idle, known = standing.skill, tuple[str, ...](), 0, {best}
    while idle < PATIENCE:
        fresh = proposals(best, deleted, known, setting)
        idle += 1
        if not fresh:
            continue
        known |= fresh.keys()
        answers = yield [setting.with_instruction(text, edits.told) for text, edits in fresh.items()]
        gained, text = max(zip((a.skill for a in answers), fresh, strict=True), key=lambda pair: pair[0])
        if gained > skill:
            best, skill, idle, deleted = text, gained, 0, fresh[text].deleted


def proposals(best: str, deleted: tuple[str, ...], known: set[str], setting: Setting) -> dict[str, Edited]:
    """New texts with their edits; fewer than PROPOSALS when edits keep leading to known ones."""
    fresh: dict[str, Edited] = {}
    for _ in range(TRIES * PROPOSALS):
        if len(fresh) == PROPOSALS:
            break
        found = edited(best, deleted, setting)
        if found.text and found.text not in known:
            fresh.setdefault(found.text, found)
    return fresh


def edited(text: str, deleted: tuple[str, ...], setting: Setting) -> Edited:
    """One or two edits of `text`."""
    told = []
    for _ in range(setting.generator.choice((1, 2))):
        kind = setting.generator.choice(EDITS if deleted else EDITS[:-1])
        found = edit(kind, text, deleted, setting)
        text, deleted = found.text, found.deleted
        told.append(found.told)
    return Edited(text, ", ".join(told), deleted)


def edit(kind: str, text: str, deleted: tuple[str, ...], setting: Setting) -> Edited:
    """One edit of a random phrase. What is swapped or paraphrased leaves its whitespace where it was."""
    generator, parts = setting.generator, phrases(text)
    if not parts:
        return Edited(text, "nothing to edit", deleted)
    at = generator.randrange(len(parts))
    words = parts[at].strip()
    match kind:
        case "delete":
            deleted = (*deleted, parts.pop(at))
            told = f"without {words!r}"
        case "swap":
            other = generator.randrange(len(parts))
            others = parts[other].strip()
            parts[at], parts[other] = reworded(parts[at], others), reworded(parts[other], words)
            told = f"{words!r} and {others!r} swapped"
        case "add":
            number = generator.randrange(len(deleted))
            parts.insert(at, deleted[number])
            told = f"{deleted[number].strip()!r} put back"
            deleted = deleted[:number] + deleted[number + 1 :]
        case _:
            new = paraphrase(words, setting)
            parts[at] = reworded(parts[at], new)
            told = f"{words!r} as {new!r}"
    return Edited(join(parts).strip(), told, deleted)


def paraphrase(phrase: str, setting: Setting) -> str:
    """The phrase in other words by the local model, one of several; as it was when no answer is a short line."""
    ask = f'Rewrite this phrase in other words. Answer with the new phrase only.\nPhrase: "{phrase}"'
    answers = setting.writer.write([ask] * PHRASINGS, tokens=24)
    lines = [answer.text.strip().partition("\n")[0].strip().strip('"').strip() for answer in answers]
    most = 3 * len(phrase.split()) + 3
    good = [line for line in dict.fromkeys(lines) if 0 < len(line.split()) <= most and line != phrase]
    return setting.generator.choice(good) if good else phrase


def phrases(text: str) -> list[str]:
    """The phrases of a text, in order, each with the whitespace before it; the last one has what is left behind it too."""
    if not text.strip():
        return [text] if text else []
    *words, last = re.findall(r"\s*\S+", text)
    words.append(last + text[len(text.rstrip()) :])
    ends = [i for i, word in enumerate(words, start=1) if word.rstrip()[-1] in MARKS or i == len(words)]
    out = []
    for begin, end in itertools.pairwise([0, *ends]):
        count = -(-(end - begin) // LONGEST)
        cuts = [begin + round(i * (end - begin) / count) for i in range(count + 1)]
        out += ["".join(words[a:b]) for a, b in itertools.pairwise(cuts)]
    return out


def reworded(phrase: str, words: str) -> str:
    """Other words between the phrase's own whitespace."""
    return phrase.replace(phrase.strip(), words, 1)


def join(parts: Sequence[str]) -> str:
    """The phrases' text: `join(phrases(text))` is `text`. A space stands where two of them would melt."""
    text = ""
    for part in parts:
        apart = not text or not part or text[-1].isspace() or part[0].isspace()
        text += part if apart else f" {part}"
    return text
