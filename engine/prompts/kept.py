"""A chosen prompt as files: winner.json for this program, prompt.toml and winner.txt for people, messages.json for chat APIs.

No torch here: the command line reads prompts where no model is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from engine import files
from engine.data.options import Labels
from engine.data.rows import Row, check_template, named
from engine.errors import Unavailable, UsageError, did_you_mean
from engine.prompts.template import Prompt

WINNER = "winner.json"
HOW = {
    "norm": "divide it by the characters of the choice",
    "pmi": "subtract that of the same choice with all fields empty",
}
EXAMPLES = "examples.jsonl"  # beside it: what the finalists answered, row by row


@dataclass(frozen=True)
class Kept:
    """The prompt, the task it was chosen for with its label words, and how its scores are calibrated (offsets a choice).

    `virtual` tokens stand ahead of it; they lie beside it as an adapter for peft. `scores` are as the task's options have them.
    """

    prompt: Prompt
    task: str
    labels: Labels
    calibration: str
    offsets: list[float]
    virtual: int = 0
    scores: str = "sum"

    @property
    def by_label(self) -> dict[str, float]:
        """Each label's offset, to be subtracted from the log-likelihood of its words; empty where nothing is calibrated."""
        return {} if self.calibration == "none" else dict(zip(self.labels, self.offsets, strict=True))

    @property
    def scored(self) -> dict[str, str]:
        """How choices are scored, where that is not by their log-likelihood."""
        return {} if self.scores == "sum" else {"scores": self.scores}


def write(folder: Path, kept: Kept) -> None:
    """All forms of the prompt; winner.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "winner.txt", kept.prompt.readable())
    files.write_text(folder / "prompt.toml", _toml(kept))
    text = json.dumps(kept.prompt.messages(), indent=2, ensure_ascii=False)
    files.write_text(folder / "messages.json", text + "\n")
    about = {"task": kept.task, "labels": kept.labels, "calibration": kept.calibration, "offsets": kept.offsets}
    more = {**({"virtual_tokens": kept.virtual} if kept.virtual else {}), **kept.scored}
    record = {**kept.prompt.as_json(), **more, **about}
    files.write_text(folder / WINNER, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read(folder: Path) -> Kept:
    """What `write` left. Raises Unavailable when there is nothing, or nothing that can be read."""
    file = folder / WINNER
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        about = {key: record[key] for key in ("task", "labels", "calibration", "offsets")}
        virtual, scores = int(record.get("virtual_tokens", 0)), str(record.get("scores", "sum"))
        if scores not in ("sum", *HOW):
            raise ValueError(f"choices are scored by {scores!r}, which is not known here")
        return Kept(prompt=Prompt.from_json(record), **about, virtual=virtual, scores=scores)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"cannot read the prompt: {error}", where=str(file)) from error


def asked(prompt: Prompt, values: Mapping[str, str]) -> Row:
    """A row without an answer. Raises UsageError for a field of the template that has no value, and a value of no field."""
    where = "the prompt's template"
    check_template(prompt.template, values, where=where)
    fields = named(prompt.template)
    for name in values:
        if name not in fields:
            raise UsageError(f"there is no field {name!r} to fill in", where=where, hint=did_you_mean(name, fields))
    return Row("", dict(values), (), 0)


def _toml(kept: Kept) -> str:
    """The prompt as a person would write it down."""
    document = tomlkit.document()
    prompt = kept.prompt
    behind = "the template directly" if prompt.chat == "off" else "in the next turn of the chat"
    document.add(tomlkit.comment(f"fields of the task's rows stand in braces; an answer follows {behind}"))
    plain: dict[str, Any] = {
        "task": kept.task,
        "name": prompt.name,
        "origin": prompt.origin,
        "calibration": kept.calibration,
        "chat": prompt.chat,
    }
    for key, value in plain.items():
        document[key] = value
    if kept.scored:
        document.add(tomlkit.comment(f"the largest log-likelihood is not the answer: {HOW[kept.scores]}"))
        document.update(kept.scored)
    if kept.virtual:
        document.add(tomlkit.comment("virtual tokens stand ahead of the text: peft loads them from this folder"))
        document["virtual_tokens"] = kept.virtual
    document["instruction"] = tomlkit.string(prompt.instruction, multiline="\n" in prompt.instruction)
    document["template"] = tomlkit.string(prompt.template, multiline="\n" in prompt.template)
    document["labels"] = kept.labels
    if kept.by_label:
        offsets = tomlkit.table()
        offsets.add(
            tomlkit.comment("subtract each from the log-likelihood of its label's words, then take the largest:")
        )
        offsets.add(
            tomlkit.comment("without this calibration the answers are not those that the prompt was chosen for")
        )
        offsets.update(kept.by_label)
        document["offsets"] = offsets
    shown = tomlkit.aot()
    for row in prompt.demonstrations:
        table = tomlkit.table()
        table.update({"fields": row.fields, "answer": row.choices[row.gold]})
        shown.append(table)
    if prompt.demonstrations:
        document["demonstration"] = shown
    return tomlkit.dumps(document)
