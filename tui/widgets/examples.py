"""The examples of a prompt comparison: read from the run's artifacts, as table rows and as one example in full."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from engine import figures
from engine.runs import Run
from engine.state import CandidateState
from tui.widgets.columns import Column
from tui.widgets.states import mark

FILES = "*/examples.jsonl"
BAR_WIDTH = 20
DIFFERENT, CHOSEN, BASELINE, ALL = WHICH = ("different", "chosen better", "baseline better", "all")
"""which examples are shown, in the order in which a key goes through them"""


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
    Column("gold", "gold", 10, str.strip, least=56),
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


def rows(examples: list[dict[str, Any]], base: str, best: str, which: str) -> dict[str, dict[str, Any]]:
    """One row an example that both prompts answered, of those that `which` asks for."""
    out: dict[str, dict[str, Any]] = {}
    for index, example in enumerate(examples):
        answers = example["answers"]
        if base not in answers or best not in answers:
            continue
        if not _wanted(answers[base], answers[best], which):
            continue
        out[str(index)] = {
            "row": example["row"],
            "gold": example["gold"],
            "base": _judged(example, base),
            "best": _judged(example, best),
            "text": example["text"],
        }
    return out


def _wanted(base: dict[str, Any], best: dict[str, Any], which: str) -> bool:
    """Whether an example is one of those: answered differently, or better by one of the two."""
    if which == DIFFERENT:
        return bool(base["choice"] != best["choice"])
    key = "correct" if "correct" in best else "value"
    return which == ALL or bool(best[key] > base[key] if which == CHOSEN else base[key] > best[key])


def tally(examples: list[dict[str, Any]], base: str, best: str) -> str:
    """How often only one of the two was right, or the better one, in one line."""
    both = [e["answers"] for e in examples if base in e["answers"] and best in e["answers"]]
    binary = all("correct" in answer for answers in both for answer in answers.values())
    key, told = ("correct", "only {} right") if binary else ("value", "{} better")
    only_best = sum(a[best][key] > a[base][key] for a in both)
    only_base = sum(a[base][key] > a[best][key] for a in both)
    return f"{len(both)} rows · {told.format('chosen')} {only_best} · {told.format('baseline')} {only_base}"


def full(example: dict[str, Any], known: Mapping[str, CandidateState]) -> Text:
    """The text, the right answer, each prompt's answer with its log-likelihoods as bars, then what the prompts say."""
    text = Text.assemble(example["text"], "\n\n", ("right answer ", "bright_black"), (example["gold"].strip(), "bold"))
    for name, answer in example["answers"].items():
        text.append(f"\n\n{name} ", "bold")
        text.append_text(_answer(_judged(example, name)))
        text.append_text(_cost(known.get(name)))
        text.append_text(_likelihoods(answer))
    for name in example["answers"]:
        if name in known:
            text.append(f"\n\nPrompt {name}\n", "underline")
            text.append(_filled(known[name].text, example))
    return text


def _filled(prompt: str, example: dict[str, Any]) -> str:
    """With the row's fields; of files that do not have them with its text."""
    for name, value in example.get("fields", {"text": example["text"]}).items():
        prompt = prompt.replace(f"{{{name}}}", value)
    return prompt


def _cost(candidate: CandidateState | None) -> Text:
    """What a prompt takes: its tokens, and the time of a row where it was measured."""
    if candidate is None or not candidate.tokens:
        return Text()
    took = max((scored.ms for scored in candidate.scores.values()), default=0.0)
    each = f" · {figures.number(took, 1)} ms a row" if took else ""
    return Text(f" · {candidate.tokens} tokens{each}", "bright_black")


def _likelihoods(answer: dict[str, Any]) -> Text:
    """The log-likelihood of each choice, its share of the probability of all, and that as a bar."""
    text, scores = Text(), answer.get("scores", {})
    top = max(scores.values(), default=0.0)
    total = sum(math.exp(value - top) for value in scores.values())
    for choice, value in scores.items():
        share = math.exp(value - top) / total
        text.append(f"\n  {choice.strip():<12} {value:>8.2f} {figures.share(share):>6} ")
        style = "cyan" if choice.strip() == answer["choice"].strip() else "bright_black"
        text.append("█" * max(1, round(BAR_WIDTH * share)), style)
    return text
