"""Two prompts, or a prompt on two models, row by row: what runs kept of their finalists' answers on the test split.

No torch here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import figures, statistics
from engine.errors import Unavailable, UsageError
from engine.prompts import kept

EXAMPLES = "examples.jsonl"
Key = tuple[str, str]
"""a row: its text and its right answer"""


@dataclass(frozen=True)
class Answers:
    """What one prompt answered: `choices` and whether they are right, by row."""

    label: str
    task: str
    stage: str
    choices: dict[Key, str]
    correct: dict[Key, bool]


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
    difference: float
    low: float
    high: float
    a_only: int
    b_only: int
    p_value: float
    p_holm: float
    verdict: str


def winner_of(artifacts: Path, folder: str, label: str) -> Answers:
    """The answers of the prompt that is kept in `folder`. Raises Unavailable where they are not."""
    chosen = kept.read(artifacts / folder)
    file = artifacts / folder / EXAMPLES
    try:
        examples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise Unavailable(f"cannot read the answers: {error}", where=str(file)) from error
    name = chosen.prompt.name
    found = {(e["text"], e["gold"]): e["answers"][name] for e in examples}
    return Answers(
        f"{label} {name}", chosen.task, examples[0]["stage"] if examples else "",
        {key: answer["choice"] for key, answer in found.items()},
        {key: answer["correct"] for key, answer in found.items()},
    )  # fmt: skip


def differences(all_answers: Sequence[Answers], seed: int = 0) -> list[Difference]:
    """Every one after the first against the first. Raises UsageError when two have no row in common."""
    base, *others = all_answers
    compared = [(other, *_paired(other, base, seed)) for other in others]
    judged = statistics.verdicts([paired for _, _, paired in compared])
    return [
        _difference(other, base, keys, paired, *judgement)
        for (other, keys, paired), judgement in zip(compared, judged, strict=True)
    ]


def _paired(a: Answers, b: Answers, seed: int) -> tuple[list[Key], statistics.Paired]:
    common = [key for key in a.correct if key in b.correct]
    if a.task != b.task or not common:
        hint = "compare prompts that were tested on the same task"
        raise UsageError(f"{a.label} ({a.task}) and {b.label} ({b.task}) answered no row in common", hint=hint)
    right_a, right_b = (np.array([x.correct[key] for key in common]) for x in (a, b))
    return common, statistics.compare(right_a, right_b, seed)


def _difference(
    a: Answers, b: Answers, keys: list[Key], paired: statistics.Paired, p_holm: float, verdict: str
) -> Difference:
    pairs = [(a.correct[key], b.correct[key]) for key in keys]
    return Difference(
        a=a.label, b=b.label, task=a.task, n=paired.n, accuracy_a=sum(x for x, _ in pairs) / paired.n,
        accuracy_b=sum(y for _, y in pairs) / paired.n, difference=paired.difference, low=paired.low, high=paired.high,
        a_only=sum(x and not y for x, y in pairs), b_only=sum(y and not x for x, y in pairs), p_value=paired.p_value,
        p_holm=p_holm, verdict=verdict,
    )  # fmt: skip


def rows(all_answers: Sequence[Answers], different: bool) -> Iterator[dict[str, Any]]:
    """Every row that all answered, with each one's choice and whether it is right; `different`: not all the same choice."""
    first = all_answers[0]
    for key in first.choices:
        if not all(key in answers.choices for answers in all_answers):
            continue
        choices = {answers.label: answers.choices[key] for answers in all_answers}
        if different and len(set(choices.values())) == 1:
            continue
        right = {answers.label: answers.correct[key] for answers in all_answers}
        yield {"text": key[0], "gold": key[1], "choices": choices, "correct": right}


HEADERS = (
    "prompt",
    "against",
    "task",
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
        [d.a, d.b, d.task, str(d.n), f"{100 * d.accuracy_a:.1f}", f"{100 * d.accuracy_b:.1f}",
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


def record(difference: Difference) -> dict[str, Any]:
    return asdict(difference)
