"""The result table of a run, folded from its `RunState`: what each stage measured and what its prompts reached.

Weights are measured per stage (dense, pruned, ..., exported), prompts on the test split of a stage. A prompt's gain
that is inside the noise reads "tie"; a search that found nothing better than the plain prompt says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import events as ev
from engine import figures, registry
from engine.errors import UsageError, did_you_mean
from engine.registry import PERTURBATIONS
from engine.state import CandidateState, RunState

if TYPE_CHECKING:
    from engine.runs import Run

Row = dict[str, Any]

WEIGHTS = (
    "perplexity", "divergence", "agreement", "bytes", "parameters", "sparsity", "decode_tokens_per_second",
    "prefill_tokens_per_second", "first_token_seconds", "load_seconds", "peak_memory_bytes",
)  # fmt: skip
ACCURACY = "accuracy"
FIGURE = f"{ACCURACY} [95%]"
PROMPT = (
    "task", "prompt", "calibration", "metric", "accuracy", "low", "high", "n", "against", "p_value", "p_holm", "verdict",
)  # fmt: skip
KEYS = ("stage", *WEIGHTS, *PROMPT, "perturbed")
CHANGE = ("change_low", "change_high")


def _perturbed(name: str, row: Row) -> str:
    """The figure on disturbed inputs, and what the disturbance changed on the same rows."""
    found = (row["perturbed"] or {}).get(name)
    if found is None:
        return figures.NOTHING
    low, high = (found[key] for key in CHANGE)
    return figures.disturbed(found["accuracy"], found["before"], row["metric"], low, high)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "stage": lambda row: str(row["stage"]),
    "perplexity": lambda row: figures.number(row["perplexity"]),
    "KL": lambda row: figures.divergence(row["divergence"]),
    "same top-1": lambda row: figures.share(row["agreement"]),
    "task": lambda row: row["task"] or figures.NOTHING,
    "metric": lambda row: row["metric"] or figures.NOTHING,
    FIGURE: lambda row: figures.quality(row["metric"] or ACCURACY, row["accuracy"], row["low"], row["high"]),
    "n": lambda row: figures.NOTHING if row["n"] is None else str(row["n"]),
    "calibration": lambda row: row["calibration"] or figures.NOTHING,
    "against": lambda row: row["against"] or figures.NOTHING,
    "p": lambda row: figures.p_value(row["p_value"]),
    "p Holm": lambda row: figures.p_value(row["p_holm"]),
    "verdict": lambda row: row["verdict"] or figures.NOTHING,
    **{name: partial(_perturbed, name) for name in PERTURBATIONS.names()},
    "size": lambda row: figures.size(row["bytes"]),
    "decode tok/s": lambda row: figures.number(row["decode_tokens_per_second"], 1),
    "prefill tok/s": lambda row: figures.number(row["prefill_tokens_per_second"], 1),
    "first token": lambda row: figures.latency(row["first_token_seconds"]),
    "load": lambda row: figures.latency(row["load_seconds"]),
    "parameters": lambda row: figures.count(row["parameters"]),
    "sparsity": lambda row: figures.share(row["sparsity"]),
    "peak memory": lambda row: figures.size(row["peak_memory_bytes"]),
}
EXPORTED = "exported"
"""the stage of an exported file, with the format behind it where there are several"""
PLAIN = "plain"
BASELINES = {PLAIN: PLAIN, "start": "first", "projected": "projected"}
"""the ends of the names of prompts that no search found: the task's template and nothing else; where a search began; what
virtual tokens say as a text"""
COST = ("size", "parameters", "sparsity", "decode tok/s", "prefill tok/s", "first token", "load", "peak memory")
"""the columns on what a stage costs; the others are on how good it is"""
WORDS = ("stage", "task", "metric", "calibration", "against", "verdict")
"""the columns that hold words; the others hold numbers"""


def rows(state: RunState) -> list[Row]:
    """The result table: each stage in the order of measurement, followed by the prompts that were tested on it.

    Every row has all of KEYS; what was not measured is None. `perturbed` is {perturbation: its figures}.
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
    """Headers and cells of the result table, without the columns in which nothing was measured. The metrics are named in a
    column of their own where accuracy is not the only one.
    """
    found = [row for row in rows(state) if prompts or row["prompt"] is None]
    several = bool({row["metric"] for row in found} - {None, ACCURACY})
    cells = {name: [COLUMNS[name](row) for row in found] for name in columns if several or name != "metric"}
    kept = [name for name, column in cells.items() if set(column) - {figures.NOTHING}]
    headers = ["figure [95%]" if several and name == FIGURE else name for name in kept]
    return headers, [[cells[name][i] for name in kept] for i in range(len(found))]


def winners(state: RunState) -> list[dict[str, Any]]:
    """What each prompt step chose: {"step", "task", "stage", "winner", "baseline", "calibration"}."""
    keys = ("task", "stage", "winner", "baseline", "calibration")
    told = {index: {key: step.summary.get(key) for key in keys} for index, step in sorted(state.steps.items())}
    return [{"step": index} | choice for index, choice in told.items() if _named(choice)]


def _named(choice: dict[str, Any]) -> bool:
    """Whether a prompt was chosen and all that is told are names: a newer version may tell otherwise."""
    return choice["winner"] is not None and all(isinstance(value, str | None) for value in choice.values())


def chosen_folder(run: Run, task: str | None = None) -> Path:
    """Where the last prompt that the run chose is kept, or the last for the task. Raises UsageError when there is none."""
    state = run.state()
    found = winners(state)
    fitting = [choice for choice in found if task in (None, choice["task"])]
    if not fitting:
        tasks = list(dict.fromkeys(str(choice["task"]) for choice in found))
        hint = did_you_mean(task, tasks) if task and tasks else "a run with a prompt step has one, once that is done"
        raise UsageError(f"the run chose no prompt{f' for {task}' if task else ''}", where=run.name, hint=hint)
    return run.artifacts / str(state.steps[fitting[-1]["step"]].summary.get("prompts", "prompts"))


def _stage_rows(state: RunState, stage: str) -> list[Row]:
    """The stage's own row with its first task, then a row for each further task."""
    measured = [m for name, m in state.metrics.get(stage, {}).items() if registry.metric(name.partition(":")[0])]
    if stage not in state.metrics:
        return []
    first, *more = [_quality(m, m.name.partition(":")[2]) for m in measured] or [{}]
    return [
        _row(stage=stage, **_weights(state, stage), **first),
        *(_row(stage=stage, **figure) for figure in more),
    ]


def of_file(stage: str) -> bool:
    """Whether a stage is an exported file's; its task rows may be fewer than those of the model in memory."""
    return stage.partition(" ")[0] == EXPORTED


REFERENCE = "dense int"


def of_reference(stage: str) -> bool:
    """Whether a stage is that of the dense model, quantized only, which an exported file is held against."""
    return stage.startswith(REFERENCE)


def part(name: str) -> str:
    """What a tested prompt was to its step: plain, first, projected (see BASELINES), or else best."""
    return BASELINES.get(name.rpartition(".")[2], "best")


def _role(name: str, best: bool) -> str:
    """What a tested prompt, the chosen one or another, was to its step."""
    found = part(name)
    if best:
        return "best prompt" if found == "best" else f"best prompt = {found}"
    return f"{name.rpartition('.')[2].replace('-', ' ') if found == 'best' else found} prompt"


def unbeaten(name: str) -> str:
    """Words on a winner that no search found; empty for another."""
    return f"the {part(name)} prompt, nothing better was found" if part(name) != "best" else ""


def turned(compared: ev.PromptsCompared) -> ev.PromptsCompared:
    """The same comparison, told of its `b`."""
    verdict = {"better": "worse", "worse": "better"}.get(compared.verdict, compared.verdict)
    return replace(
        compared, a=compared.b, b=compared.a, difference=-compared.difference, low=-compared.high, high=-compared.low,
        verdict=verdict,
    )  # fmt: skip


def _prompt_rows(state: RunState) -> list[Row]:
    """Every finalist on a test split once, the winner last and tested against the step's baseline. A baseline that won is not
    tested against itself; the other baselines are tested against it."""
    out = []
    for choice in winners(state):
        winner, baseline = choice["winner"], choice["baseline"] or PLAIN
        for stage, calibration in _tested(state, choice):
            key = (choice["step"], winner, stage, "test", calibration)
            found = [c for c in state.comparisons if (c.step, c.a, c.stage, c.split, c.calibration) == key]
            found = [c for c in found if c.b != winner]
            told = {c.b: turned(c) if part(winner) != "best" else None for c in found}
            told[winner] = next((c for c in found if c.b == baseline), None)
            out += [_prompt_row(state, choice, stage, calibration, *item) for item in told.items()]
    return out


def _tested(state: RunState, choice: Row) -> list[tuple[str, str]]:
    """(stage, calibration) of every test that the winner took part in."""
    known = state.candidates.get(choice["winner"])
    scored = [(stage, kind) for stage, split, kind in (known.scores if known else ()) if split == "test"]
    compared = [(c.stage, c.calibration) for c in state.comparisons
                if (c.step, c.a, c.split) == (choice["step"], choice["winner"], "test")]  # fmt: skip
    return list(dict.fromkeys([*scored, *compared]))


def _prompt_row(
    state: RunState, choice: Row, stage: str, calibration: str, name: str, compared: ev.PromptsCompared | None
) -> Row:
    known = state.candidates.get(name)
    score = known.scores.get((stage, "test", calibration)) if known else None
    best = name == choice["winner"]
    tested: Row = {"verdict": "tie"} if best and name == (choice["baseline"] or PLAIN) else {}
    if compared:
        tested = {
            "against": compared.b,
            "p_value": compared.p_value,
            "p_holm": compared.p_holm,
            "verdict": compared.verdict,
        }
    return _row(
        stage=f"{stage} + {_role(name, best)}", stage_of=stage, prompt=name, calibration=calibration,
        **_weights(state, stage), **_quality(score, choice["task"]), **tested,
        perturbed=_disturbances(known, stage) if calibration == choice["calibration"] else None,
    )  # fmt: skip


def _disturbances(candidate: CandidateState | None, stage: str) -> Row | None:
    """What each perturbation made of a prompt at a stage; None where there was none."""
    keys = ("n", "changed", "accuracy", "low", "high", "before", *CHANGE)
    told = candidate.perturbed if candidate else {}
    found = {name: asdict(event) for (at, name), event in told.items() if at == stage}
    return {name: {key: event[key] for key in keys} for name, event in found.items()} or None


def _row(**values: Any) -> Row:
    return dict.fromkeys(KEYS) | values


def _weights(state: RunState, stage: str) -> Row:
    metrics = state.metrics.get(stage, {})
    return {name: metrics[name].value if name in metrics else None for name in WEIGHTS}


def _quality(measured: ev.Metric | ev.CandidateScored | None, task: str | None) -> Row:
    """A task's figure; by whatever metric, its key is "accuracy"."""
    if measured is None:
        return {"task": task}
    if isinstance(measured, ev.Metric):
        found = {"metric": measured.name.partition(":")[0], "accuracy": measured.value}
    else:
        found = {"metric": measured.metric, "accuracy": measured.accuracy}
    return {"task": task, **found, "low": measured.low, "high": measured.high, "n": measured.n}
