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

from engine import figures, registry, statistics
from engine.errors import Unavailable, UsageError
from engine.prompts import kept
from engine.prompts.judging import ACCURACY, Measured
from engine.statistics import Paired

SEED = 0  # of the bootstrap
Key = tuple[str, str, int]
"""a row: its digest, or its text and right answer where there is none, and which of the equal ones it is"""


@dataclass(frozen=True)
class Answer:
    """One row and what was answered; the digest of all its fields is empty where the file is of an older version. `correct` is
    None for what is not just right or wrong; then there is a `value`, and its `parts` where the metric adds some up.
    """

    text: str
    gold: str
    choice: str
    correct: bool | None
    digest: str = ""
    value: float | None = None
    parts: tuple[float, ...] = ()

    @property
    def figure(self) -> float:
        """What the metric gives to the row."""
        return float(self.correct or 0) if self.value is None else self.value


@dataclass(frozen=True)
class Answers:
    """What one prompt answered at a stage of its run, row by row."""

    label: str
    task: str
    stage: str
    rows: tuple[Answer, ...]
    metric: str = ACCURACY


@dataclass(frozen=True)
class Difference:
    """The metric's figure of `a` (`accuracy_a`, by any metric) minus that of `b` on the n rows both answered, `a_only` of
    them better by `a`. `p_holm` is Holm's over all comparisons made at once; the verdict on `a` needs the interval and it."""

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
    metric: str = ACCURACY

    @property
    def loss(self) -> float:
        """How much worse `a` is."""
        return self.difference if figures.lower(self.metric) else -self.difference


def winner_of(folder: Path, label: str) -> Answers:
    """The answers of the prompt that is kept in `folder`. Raises Unavailable where they are not."""
    chosen = kept.read(folder)
    file, name = folder / kept.EXAMPLES, chosen.prompt.name
    try:
        examples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found = tuple(_answer(example, name) for example in examples)
        stage = examples[0]["stage"] if examples else ""
        metric = examples[0].get("metric", ACCURACY) if examples else ACCURACY
    except (OSError, ValueError) as error:
        raise Unavailable(f"cannot read the answers: {error}", where=str(file)) from error
    except (KeyError, TypeError) as error:
        hint = "run the step again: the file is incomplete"
        raise Unavailable(f"cannot read the answers: no {error}", where=str(file), hint=hint) from error
    return Answers(f"{label} {name}", chosen.task, stage, found, metric)


def _answer(example: dict[str, Any], name: str) -> Answer:
    answer = example["answers"][name]
    correct = answer.get("correct") if "value" in answer else answer["correct"]
    value, parts = answer.get("value"), tuple(answer.get("parts", ()))
    return Answer(example["text"], example["gold"], answer["choice"], correct, example.get("digest", ""), value, parts)


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
    compared = [one.against(another, SEED) for _, (one, another) in found]
    judged = statistics.verdicts(compared, figures.lower(base.metric))
    return [
        _difference(other, base, both, paired, *judgement)
        for (other, both), paired, judgement in zip(found, compared, judged, strict=True)
    ]


def _common(a: Answers, b: Answers) -> tuple[Measured, Measured]:
    """Each by its metric on the rows that both answered."""
    rows_a, rows_b = keyed([a, b])
    common = [(answer, rows_b[key]) for key, answer in rows_a.items() if key in rows_b]
    if a.metric != b.metric:
        hint = "compare prompts that were judged alike"
        raise UsageError(f"{a.label} was judged by {a.metric} and {b.label} by {b.metric}", hint=hint)
    if a.task != b.task or not common:
        hint = "compare prompts that were tested on the same task"
        raise UsageError(f"{a.label} ({a.task}) and {b.label} ({b.task}) answered no row in common", hint=hint)
    if any(answer.parts for answer, _ in common) and registry.metric(a.metric) is None:
        hint = "compare them with the version of compress-tui that judged them"
        raise UsageError(f"{a.label} was judged by {a.metric}, which is not known here", hint=hint)
    first, second = (_measured(a.metric, column) for column in zip(*common, strict=True))
    return first, second


def _measured(metric: str, answers: Sequence[Answer]) -> Measured:
    parts = np.array([answer.parts for answer in answers]) if answers[0].parts else None
    return Measured(metric, np.array([answer.figure for answer in answers]), parts)


def _difference(
    a: Answers, b: Answers, both: tuple[Measured, Measured], paired: Paired, p_holm: float, verdict: str
) -> Difference:
    one, another = both
    ahead = (one.values - another.values) * (-1 if one.lower else 1)
    return Difference(
        a=a.label, b=b.label, task=a.task, n=paired.n, accuracy_a=one.figure, accuracy_b=another.figure,
        stage_a=a.stage, stage_b=b.stage, difference=paired.difference, low=paired.low, high=paired.high,
        a_only=int((ahead > 0).sum()), b_only=int((ahead < 0).sum()), p_value=paired.p_value, p_holm=p_holm,
        verdict=verdict, metric=a.metric,
    )  # fmt: skip


def rows(all_answers: Sequence[Answers], different: bool) -> Iterator[dict[str, Any]]:
    """Every row that all answered, with each one's choice, whether it is right and what the metric gives it; `different`: not
    all the same choice."""
    found = keyed(all_answers)
    for key, first in found[0].items():
        if not all(key in one for one in found):
            continue
        given = {answers.label: one[key] for answers, one in zip(all_answers, found, strict=True)}
        choices = {label: answer.choice for label, answer in given.items()}
        if different and len(set(choices.values())) == 1:
            continue
        right = {label: answer.correct for label, answer in given.items() if answer.correct is not None}
        values = {label: answer.value for label, answer in given.items() if answer.value is not None}
        record = {"text": first.text, "gold": first.gold, "choices": choices, "correct": right, "values": values}
        yield {key: value for key, value in record.items() if value or key not in ("correct", "values")}


def marks(row: dict[str, Any], metric: str) -> dict[str, str]:
    """A sign of right or wrong for every prompt's answer in a record of `rows`, or what the metric gives it."""
    right = row.get("correct", {})
    return {
        label: "✓✗"[not right[label]] if label in right else figures.plain(metric, row["values"][label])
        for label in row["choices"]
    }


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


def headers(found: Sequence[Difference]) -> list[str]:
    """HEADERS, with the metric's name in the place of the accuracy's."""
    name = found[0].metric if found else ACCURACY
    better = HEADERS.index("only a/b right")
    out = [name if header == ACCURACY else header for header in HEADERS]
    return out if figures.binary(name) else [*out[:better], "rows a/b better", *out[better + 1 :]]


def cells(found: Sequence[Difference]) -> list[list[str]]:
    """The differences for people, a column for each of HEADERS."""
    return [
        [d.a, d.b, d.task, "/".join(dict.fromkeys([d.stage_a, d.stage_b])), str(d.n),
         figures.plain(d.metric, d.accuracy_a), figures.plain(d.metric, d.accuracy_b),
         figures.difference(d.difference, d.low, d.high, d.metric), f"{d.a_only}/{d.b_only}", figures.p_value(d.p_value),
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
    right = {f"{label} right": int(value) for label, value in row.get("correct", {}).items()}
    values = {f"{label} value": value for label, value in row.get("values", {}).items()}
    return {"text": row["text"], "gold": row["gold"], **choices, **right, **values}
