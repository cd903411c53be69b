"""Two prompts, or a prompt on two models, row by row: what runs kept of their finalists' answers on the test split.

No torch here.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import figures, statistics
from engine.errors import Unavailable, UsageError
from engine.prompts import kept

SEED = 0  # of the bootstrap
Key = tuple[str, str, int]
"""a row: its digest, or its text and right answer where there is none, and which of the equal ones it is"""


@dataclass(frozen=True)
class Answer:
    """One row and what was answered; the digest of all its fields is empty where the file is of an older version."""

    text: str
    gold: str
    choice: str
    correct: bool
    digest: str = ""


@dataclass(frozen=True)
class Answers:
    """What one prompt answered at a stage of its run, row by row."""

    label: str
    task: str
    stage: str
    rows: tuple[Answer, ...]


@dataclass(frozen=True)
class Difference:
    """Accuracy of `a` minus that of `b` on the n rows both answered; `p_holm` is Holm's over all comparisons made at once, and
    the verdict on `a` needs both the interval and it."""

    a: str
    b: str
    task: str
    n: int
    accuracy_a: float
    accuracy_b: float
    stage_a: str
    stage_b: str
    difference: float
    low: float
    high: float
    a_only: int
    b_only: int
    p_value: float
    p_holm: float
    verdict: str


def winner_of(folder: Path, label: str) -> Answers:
    """The answers of the prompt that is kept in `folder`. Raises Unavailable where they are not."""
    chosen = kept.read(folder)
    file, name = folder / kept.EXAMPLES, chosen.prompt.name
    try:
        examples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found = tuple(_answer(example, name) for example in examples)
        stage = examples[0]["stage"] if examples else ""
    except (OSError, ValueError) as error:
        raise Unavailable(f"cannot read the answers: {error}", where=str(file)) from error
    except (KeyError, TypeError) as error:
        hint = "run the step again: the file is incomplete"
        raise Unavailable(f"cannot read the answers: no {error}", where=str(file), hint=hint) from error
    return Answers(f"{label} {name}", chosen.task, stage, found)


def _answer(example: dict[str, Any], name: str) -> Answer:
    answer = example["answers"][name]
    digest = example.get("digest", "")
    return Answer(example["text"], example["gold"], answer["choice"], answer["correct"], digest)


def keyed(all_answers: Sequence[Answers]) -> list[dict[Key, Answer]]:
    """Each one's answers by row: by digest where all have digests, else by text and right answer."""
    by_digest = all(answer.digest for answers in all_answers for answer in answers.rows)
    out = []
    for answers in all_answers:
        seen, found = Counter[tuple[str, str]](), dict[Key, Answer]()
        for answer in answers.rows:
            row = (answer.digest, "") if by_digest else (answer.text, answer.gold)
            found[*row, seen[row]] = answer
            seen[row] += 1
        out.append(found)
    return out


def differences(all_answers: Sequence[Answers]) -> list[Difference]:
    """Every one after the first against the first. Raises UsageError when two have no row in common."""
    base, *others = all_answers
    found = [(other, _common(other, base)) for other in others]
    compared = [statistics.compare(*_columns(right), SEED) for _, right in found]
    judged = statistics.verdicts(compared)
    return [
        _difference(other, base, right, paired, *judgement)
        for (other, right), paired, judgement in zip(found, compared, judged, strict=True)
    ]


def _common(a: Answers, b: Answers) -> list[tuple[bool, bool]]:
    """Whether each is right on the rows that both answered."""
    rows_a, rows_b = keyed([a, b])
    common = [(answer.correct, rows_b[key].correct) for key, answer in rows_a.items() if key in rows_b]
    if a.task != b.task or not common:
        hint = "compare prompts that were tested on the same task"
        raise UsageError(f"{a.label} ({a.task}) and {b.label} ({b.task}) answered no row in common", hint=hint)
    return common


def _columns(right: Sequence[tuple[bool, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a for a, _ in right]), np.array([b for _, b in right])


def _difference(
    a: Answers, b: Answers, right: Sequence[tuple[bool, bool]], paired: statistics.Paired, p_holm: float, verdict: str
) -> Difference:
    return Difference(
        a=a.label, b=b.label, task=a.task, n=paired.n, accuracy_a=sum(x for x, _ in right) / paired.n,
        accuracy_b=sum(y for _, y in right) / paired.n, stage_a=a.stage, stage_b=b.stage, difference=paired.difference,
        low=paired.low, high=paired.high, a_only=sum(x and not y for x, y in right),
        b_only=sum(y and not x for x, y in right), p_value=paired.p_value, p_holm=p_holm, verdict=verdict,
    )  # fmt: skip


def rows(all_answers: Sequence[Answers], different: bool) -> Iterator[dict[str, Any]]:
    """Every row that all answered, with each one's choice and whether it is right; `different`: not all the same choice."""
    found = keyed(all_answers)
    for key, first in found[0].items():
        if not all(key in one for one in found):
            continue
        given = {answers.label: one[key] for answers, one in zip(all_answers, found, strict=True)}
        choices = {label: answer.choice for label, answer in given.items()}
        if different and len(set(choices.values())) == 1:
            continue
        right = {label: answer.correct for label, answer in given.items()}
        yield {"text": first.text, "gold": first.gold, "choices": choices, "correct": right}


HEADERS = (
    "prompt",
    "against",
    "task",
    "stage",
    "n",
    "accuracy",
    "its",
    "difference",
    "only a/b right",
    "p",
    "p Holm",
    "verdict",
)


def cells(found: Sequence[Difference]) -> list[list[str]]:
    """The differences for people, a column for each of HEADERS."""
    return [
        [d.a, d.b, d.task, "/".join(dict.fromkeys([d.stage_a, d.stage_b])), str(d.n),
         f"{100 * d.accuracy_a:.1f}", f"{100 * d.accuracy_b:.1f}",
         figures.difference(d.difference, d.low, d.high), f"{d.a_only}/{d.b_only}", figures.p_value(d.p_value),
         figures.p_value(d.p_holm), d.verdict]
        for d in found
    ]  # fmt: skip


def as_csv(records: Sequence[dict[str, Any]]) -> str:
    """Records of plain values with a header line."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip("\n")


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A record of `rows` with one column a prompt for its choice and one for whether it is right."""
    choices = {f"{label} choice": choice for label, choice in row["choices"].items()}
    right = {f"{label} right": int(value) for label, value in row["correct"].items()}
    return {"text": row["text"], "gold": row["gold"], **choices, **right}
