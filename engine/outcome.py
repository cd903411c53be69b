"""The result table of a run, folded from its `RunState`: what each stage measured and what its prompts reached.

Weights are measured per stage (dense, pruned, ..., exported), prompts on the test split of a stage. A prompt's gain
that is inside the noise reads "tie"; a search that found nothing better than the plain prompt says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine import events as ev
from engine import figures
from engine.state import RunState

Row = dict[str, Any]

WEIGHTS = (
    "perplexity", "bytes", "parameters", "sparsity", "decode_tokens_per_second", "prefill_tokens_per_second",
    "peak_memory_bytes",
)  # fmt: skip
PROMPT = ("task", "prompt", "calibration", "accuracy", "low", "high", "n", "p_value", "verdict")
KEYS = ("stage", *WEIGHTS, *PROMPT)
COLUMNS: dict[str, Callable[[Row], str]] = {
    "stage": lambda row: str(row["stage"]),
    "perplexity": lambda row: figures.number(row["perplexity"]),
    "task": lambda row: row["task"] or figures.NOTHING,
    "accuracy [95%]": lambda row: figures.accuracy(row["accuracy"], row["low"], row["high"]),
    "n": lambda row: figures.NOTHING if row["n"] is None else str(row["n"]),
    "calibration": lambda row: row["calibration"] or figures.NOTHING,
    "p": lambda row: figures.p_value(row["p_value"]),
    "verdict": lambda row: row["verdict"] or figures.NOTHING,
    "size": lambda row: figures.size(row["bytes"]),
    "decode tok/s": lambda row: figures.number(row["decode_tokens_per_second"], 1),
    "prefill tok/s": lambda row: figures.number(row["prefill_tokens_per_second"], 1),
    "parameters": lambda row: figures.count(row["parameters"]),
    "sparsity": lambda row: figures.share(row["sparsity"]),
    "peak memory": lambda row: figures.size(row["peak_memory_bytes"]),
}
PLAIN = "plain"
"""the end of the name of a prompt that is the task's template and nothing else"""
COST = ("size", "parameters", "sparsity", "decode tok/s", "prefill tok/s", "peak memory")
"""the columns on what a stage costs; the others are on how good it is"""
WORDS = ("stage", "task", "calibration", "verdict")
"""the columns that hold words; the others hold numbers"""


def rows(state: RunState) -> list[Row]:
    """The result table: each stage in the order of measurement, followed by the prompts that were tested on it.

    Every row has all of KEYS; what was not measured is None.
    """
    prompts = _prompt_rows(state)
    stages = dict.fromkeys([*state.metrics, *(row["stage_of"] for row in prompts)])
    out = []
    for stage in stages:
        out += _stage_rows(state, stage)
        out += [{key: row[key] for key in KEYS} for row in prompts if row["stage_of"] == stage]
    return out


def table(
    state: RunState, columns: Sequence[str] = tuple(COLUMNS), *, prompts: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the result table, without the columns in which nothing was measured."""
    found = [row for row in rows(state) if prompts or row["prompt"] is None]
    cells = {name: [COLUMNS[name](row) for row in found] for name in columns}
    kept = [name for name, column in cells.items() if set(column) - {figures.NOTHING}]
    return kept, [[cells[name][i] for name in kept] for i in range(len(found))]


def winners(state: RunState) -> list[dict[str, Any]]:
    """What each prompt step chose: {"step", "task", "stage", "winner", "baseline", "calibration"}."""
    keys = ("task", "stage", "winner", "baseline", "calibration")
    found = sorted(item for item in state.steps.items() if "winner" in item[1].summary)
    return [{"step": index} | {key: step.summary.get(key) for key in keys} for index, step in found]


def _stage_rows(state: RunState, stage: str) -> list[Row]:
    """The stage's own row with its first task, then a row for each further task."""
    accuracies = [m for name, m in state.metrics.get(stage, {}).items() if name.startswith("accuracy:")]
    if stage not in state.metrics:
        return []
    first, *more = [_accuracy(m, m.name.partition(":")[2]) for m in accuracies] or [{}]
    return [
        _row(stage=stage, **_weights(state, stage), **first),
        *(_row(stage=stage, **accuracy) for accuracy in more),
    ]


def _prompt_rows(state: RunState) -> list[Row]:
    """Every finalist on a test split, the winner last and tested against the step's baseline; one row where they are the
    same."""
    out = []
    for choice in winners(state):
        winner, baseline = choice["winner"], choice["baseline"] or "plain"
        grouped: dict[tuple[str, str], list[ev.PromptsCompared]] = {}
        for compared in state.comparisons:
            if (compared.step, compared.a, compared.split) == (choice["step"], winner, "test"):
                grouped.setdefault((compared.stage, compared.calibration), []).append(compared)
        for comparisons in grouped.values():
            out += [_prompt_row(state, choice, compared, compared.b) for compared in comparisons]
            against = next((c for c in comparisons if c.b == baseline), None)
            out += [_prompt_row(state, choice, against, winner)] if against else []
        if winner == baseline:
            out += [_unbeaten(state, choice, key) for key in _test_scores(state, winner)]
    return out


def _prompt_row(state: RunState, choice: Row, comparison: ev.PromptsCompared, name: str) -> Row:
    best = name == comparison.a
    stage = comparison.stage
    tested: Row = {"p_value": comparison.p_value, "verdict": comparison.verdict} if best else {}
    known = state.candidates.get(name)
    score = known.scores.get((stage, "test", comparison.calibration)) if known else None
    kind = "best" if best else "first" if name == choice["baseline"] and not name.endswith(PLAIN) else PLAIN
    return _row(
        stage=f"{stage} + {kind} prompt", stage_of=stage, prompt=name,
        calibration=comparison.calibration, **_weights(state, stage), **_accuracy(score, choice["task"]), **tested,
    )  # fmt: skip


def _unbeaten(state: RunState, choice: Row, key: tuple[str, str, str]) -> Row:
    """The row of a search that ended with the plain prompt: equal to itself, a tie."""
    stage, _, calibration = key
    score = state.candidates[choice["winner"]].scores[key]
    return _row(
        stage=f"{stage} + best prompt = plain", stage_of=stage, prompt=choice["winner"], calibration=calibration,
        verdict="tie", **_weights(state, stage), **_accuracy(score, choice["task"]),
    )  # fmt: skip


def _test_scores(state: RunState, candidate: str) -> list[tuple[str, str, str]]:
    known = state.candidates.get(candidate)
    return [key for key in known.scores if key[1] == "test"] if known else []


def _row(**values: Any) -> Row:
    return dict.fromkeys(KEYS) | values


def _weights(state: RunState, stage: str) -> Row:
    metrics = state.metrics.get(stage, {})
    return {name: metrics[name].value if name in metrics else None for name in WEIGHTS}


def _accuracy(measured: ev.Metric | ev.CandidateScored | None, task: str | None) -> Row:
    if measured is None:
        return {"task": task}
    value = measured.value if isinstance(measured, ev.Metric) else measured.accuracy
    return {"task": task, "accuracy": value, "low": measured.low, "high": measured.high, "n": measured.n}
