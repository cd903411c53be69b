"""The examples of a prompt comparison: read from the run's artifacts, as table rows and as one example in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.text import Text

from engine import figures
from engine.runs import Run
from tui.widgets.columns import Column
from tui.widgets.states import mark

FILES = "*/examples.jsonl"
BAR_WIDTH = 20


def _answer(value: tuple[str, bool | str]) -> Text:
    """What was answered behind a sign of right or wrong, or behind what the metric gives it."""
    word, judged = value
    sign = Text(f"{judged} ") if isinstance(judged, str) else mark("right" if judged else "wrong")[:2]
    return Text.assemble(sign, word.strip())


def _judged(example: dict[str, Any], name: str) -> tuple[str, bool | str]:
    """A prompt's answer to an example, and whether it is right, or the metric's value where it is not just that."""
    answer = example["answers"][name]
    if "correct" in answer:
        return answer["choice"], answer["correct"]
    return answer["choice"], figures.plain(example["metric"], answer["value"])


COLUMNS = (
    Column("row", "row", 5, numeric=True),
    Column("gold", "gold", 10, str.strip),
    Column("base", "baseline", 12, _answer),
    Column("best", "chosen", 12, _answer),
    Column("text", "text"),
)


def size(run: Run) -> int:
    """How long the files are together, 0 when there are none."""
    return sum(file.stat().st_size for file in _files(run))


def read(run: Run) -> list[dict[str, Any]]:
    """All examples of the run's prompt steps; a line that is not complete yet is left out."""
    examples = []
    for file in _files(run):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                examples.append(json.loads(line))
            except ValueError:
                continue
    return examples


def _files(run: Run) -> list[Path]:
    """One file a prompt step that has finished, as far as there are any."""
    return sorted(run.artifacts.glob(FILES))


def rows(examples: list[dict[str, Any]], base: str, best: str, differ: bool) -> dict[str, dict[str, Any]]:
    """One row an example that both prompts answered; `differ` leaves those answered differently."""
    out: dict[str, dict[str, Any]] = {}
    for index, example in enumerate(examples):
        answers = example["answers"]
        if base not in answers or best not in answers:
            continue
        if differ and answers[base]["choice"] == answers[best]["choice"]:
            continue
        out[str(index)] = {
            "row": example["row"],
            "gold": example["gold"],
            "base": _judged(example, base),
            "best": _judged(example, best),
            "text": example["text"],
        }
    return out


def tally(examples: list[dict[str, Any]], base: str, best: str) -> str:
    """How often only one of the two was right, or the better one, in one line."""
    both = [e["answers"] for e in examples if base in e["answers"] and best in e["answers"]]
    binary = all("correct" in answer for answers in both for answer in answers.values())
    key, told = ("correct", "only {} right") if binary else ("value", "{} better")
    only_best = sum(a[best][key] > a[base][key] for a in both)
    only_base = sum(a[base][key] > a[best][key] for a in both)
    return f"{len(both)} rows · {told.format('chosen')} {only_best} · {told.format('baseline')} {only_base}"


def full(example: dict[str, Any]) -> Text:
    """The example's text, the right answer, and each prompt's answer with its scores as bars."""
    text = Text.assemble(example["text"], "\n\n", ("right answer ", "bright_black"), (example["gold"].strip(), "bold"))
    for name, answer in example["answers"].items():
        text.append(f"\n\n{name} ", "bold")
        text.append_text(_answer(_judged(example, name)))
        scores = answer.get("scores", {})
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        for choice, value in scores.items():
            width = round(BAR_WIDTH * (value - low) / (high - low)) if high > low else BAR_WIDTH
            text.append(f"\n  {choice.strip():<12} {value:>8.2f} ", "")
            text.append("█" * max(1, width), "cyan" if choice == answer["choice"] else "bright_black")
    return text
