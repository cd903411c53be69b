"""The prompts of a run as a file: the A/B table as Markdown, CSV or JSON, or one prompt's text."""

from __future__ import annotations

from typing import Any

from engine import strictjson
from engine.state import RunState
from tui.widgets import candidates
from tui.widgets.columns import Shown

FORMATS = (".md", ".csv", ".json", ".txt")

COMPARED = {
    "b": "against",
    "difference": "difference",
    "low": "difference low",
    "high": "difference high",
    "p_value": "p",
    "p_holm": "p Holm",
    "verdict": "verdict",
}
"""what a comparison says, by the column that it is written under"""


def text(state: RunState, name: str, suffix: str) -> str:
    """What a file that ends so holds; `name` is the marked prompt's."""
    if suffix == ".txt":
        return state.candidates[name].text
    if suffix == ".json":
        return strictjson.dumps(records(state), indent=2) + "\n"
    if suffix == ".csv":
        from engine.prompts.paired import as_csv

        return as_csv(records(state)) + "\n"
    return _markdown(state)


def records(state: RunState) -> list[dict[str, Any]]:
    """A record a prompt, in the table's order: its figures on the dense and the compressed model with 95% intervals, how it
    compares with the baseline, what it takes, and its text."""
    return [_record(state, name, row["difference"]) for name, row in candidates.rows(state).items()]


def _record(state: RunState, name: str, difference: Shown | None) -> dict[str, Any]:
    candidate = state.candidates[name]
    record: dict[str, Any] = {"prompt": name, "origin": candidate.origin}
    for model in ("dense", "compressed"):
        scored = candidates.score(candidate, dense=model == "dense")
        record["metric"] = scored.metric if scored else record.get("metric")
        for key in ("accuracy", "low", "high", "n", "split", "calibration"):
            record[f"{model} {key}"] = getattr(scored, key, None)
    compared = candidates.comparison(state, name)
    for key, column in COMPARED.items():
        record[column] = getattr(compared, key, None)
    record["difference"] = difference and difference.order
    took = max((scored.ms for scored in candidate.scores.values()), default=0.0)
    return {**record, "tokens": candidate.tokens or None, "ms a row": took or None, "round": candidate.round,
            "in": candidate.alive, "text": candidate.text}  # fmt: skip


def _markdown(state: RunState) -> str:
    from engine import sections

    columns = candidates.COLUMNS
    body = [[_cell(column.show, row.get(column.key)) for column in columns] for row in candidates.rows(state).values()]
    return "\n".join([*sections.table([column.label for column in columns], body), ""])


def _cell(show: Any, value: Any) -> str:
    return "" if value is None else str(show(value))
