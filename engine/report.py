"""The outcome of a run for people (report.md) and for scripts (result.json), folded from its `RunState`; no torch.

What the numbers amount to is in `outcome`; this module writes them down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine import events as ev
from engine import figures, outcome
from engine.outcome import rows as rows
from engine.outcome import table as table
from engine.outcome import winners as winners
from engine.state import CandidateState, LayerState, RunState, StepState

SCHEMA = 1
WORST = 5
"""layers with the largest error that the report names"""


def markdown(state: RunState, environment: Mapping[str, Any] | None = None) -> str:
    """report.md: the result table, the prompts, the steps, the layers and why they are so, gates, artifacts, environment."""
    parts = [
        _head(state),
        _results(state),
        _prompts(state),
        _steps(state),
        _layers(state),
        _plans(state),
        _sensitivity(state),
        _section("Gates", ["gate", "bound", "value", "result"], [_gate(gate) for gate in state.gates]),
        _section("Artifacts", ["path", "format", "size"], [_artifact(a) for a in state.artifacts]),
        _environment(state, environment or {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def result(state: RunState, environment: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """result.json: stable keys; a change of meaning raises `schema`."""
    return {
        "schema": SCHEMA,
        "run": state.run,
        "profile": state.profile,
        "description": state.description,
        "source": state.source,
        "status": state.status,
        "exit_code": state.exit_code,
        "seconds": state.seconds,
        "failure": _fields(state.failure) if state.failure else None,
        "model": _without(_fields(state.model), "matrices") if state.model else None,
        "rows": outcome.rows(state),
        "stages": {s: {n: _fields(m) for n, m in metrics.items()} for s, metrics in state.metrics.items()},
        "steps": [{"step": i, **_step(step)} for i, step in sorted(state.steps.items())],
        "winners": outcome.winners(state),
        "prompts": [_prompt(candidate) for candidate in state.candidates.values()],
        "comparisons": [_fields(c) for c in state.comparisons],
        "layers": [dataclasses.asdict(layer) for layer in state.layers.values()],
        "gates": [_fields(gate) for gate in state.gates],
        "artifacts": [_fields(artifact) for artifact in state.artifacts],
        "estimates": {
            name: {**_without(_fields(e), "name"), "used": state.used.get(name)} for name, e in state.estimates.items()
        },
        "environment": dict(environment or {}),
    }


def _head(state: RunState) -> str:
    lines = (
        [f"# {state.profile or 'run'}", "", state.description] if state.description else [f"# {state.profile or 'run'}"]
    )
    lines += ["", f"Run `{state.run}`: {state.status}, {figures.duration(state.seconds)}, exit code {state.exit_code}."]
    if state.estimates:
        expected = [figures.need(name, e.value) for name, e in state.estimates.items()]
        used = [figures.duration(v) if name == "time" else figures.need(name, v) for name, v in state.used.items()]
        lines += ["", f"Estimated: {', '.join(expected)}. Used: {', '.join(used) or figures.NOTHING}."]
    if state.failure:
        where = f"{state.failure.where}: " if state.failure.where else ""
        lines += ["", *(f"> {line}" for line in f"{where}{state.failure.message}".splitlines())]
    return "\n".join(lines)


def _results(state: RunState) -> str:
    headers, cells = outcome.table(state)
    note = (
        "Intervals are 95%. `p` and the verdict compare the best prompt with the plain one on the same test rows "
        "under the same calibration (exact McNemar); a gain inside the noise is a tie."
    )
    section = _section("Result", headers, cells)
    return f"{section}\n\n{note}" if section and "verdict" in headers else section


def _prompts(state: RunState) -> str:
    """The text of every winner, then the pool."""
    parts = []
    for choice in outcome.winners(state):
        known = state.candidates.get(choice["winner"])
        same = ": the plain prompt, nothing better was found" if choice["winner"] == choice["baseline"] else ""
        parts.append(f"Best prompt for {choice['task']} on the {choice['stage']} model, `{choice['winner']}`{same}:")
        parts.append(_fenced(known.text if known else ""))
    headers = ["prompt", "origin", "tokens", "split", "stage", "calibration", "accuracy [95%]", "n", "text"]
    pool = _section("Prompts", headers, [row for c in state.candidates.values() for row in _candidate(c)])
    return "\n\n".join([pool, *parts]) if pool else ""


def _candidate(candidate: CandidateState) -> list[list[str]]:
    text = candidate.text.replace("\n", "\\n")
    start = [candidate.name, candidate.origin, str(candidate.tokens)]
    return [
        [*start, split, stage, calibration, figures.accuracy(s.accuracy, s.low, s.high), str(s.n), text]
        for (stage, split, calibration), s in candidate.scores.items()
    ]


def _steps(state: RunState) -> str:
    body = [
        [figures.NOTHING if i < 0 else str(i + 1), s.use, s.status, figures.duration(s.seconds), _summary(s)]
        for i, s in sorted(state.steps.items())
    ]
    return _section("Steps", ["step", "use", "state", "time", "summary"], body)


def _summary(step: StepState) -> str:
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in step.summary.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items())


def _layers(state: RunState) -> str:
    """Per block the mean error and sparsity; then the worst matrices."""
    pruned = [layer for layer in state.layers.values() if layer.sparsity is not None]
    blocks: dict[int, list[LayerState]] = {}
    for layer in pruned:
        blocks.setdefault(layer.block, []).append(layer)
    body = [
        [str(block), str(len(xs)), figures.share(_mean(x.sparsity for x in xs)), _error(_mean(x.error for x in xs))]
        for block, xs in sorted(blocks.items())
    ]
    worst = sorted((x for x in pruned if x.error is not None), key=lambda x: x.error or 0.0, reverse=True)[:WORST]
    named = [[x.name, "x".join(map(str, x.shape)), figures.share(x.sparsity), _error(x.error)] for x in worst]
    parts = [
        _section("Layers", ["block", "matrices", "sparsity", "mean error"], body),
        _section("Largest errors", ["matrix", "shape", "sparsity", "error"], named),
    ]
    return "\n\n".join(part for part in parts if part)


def _plans(state: RunState) -> str:
    """Per matrix that got another share than the mean: how far from it, and why; the densest and the sparsest."""
    parts = []
    for step, plan in sorted(state.plans.items()):
        ranked = sorted(plan.shares, key=plan.shares.__getitem__)
        if not ranked or plan.shares[ranked[0]] == plan.shares[ranked[-1]]:
            continue
        named = ranked if len(ranked) <= 2 * WORST else [*ranked[:WORST], *ranked[-WORST:]]
        body = [[name, figures.share(plan.shares[name]), plan.reasons.get(name, "")] for name in named]
        title = f"Plan of step {step + 1}: {plan.allocation}, {figures.share(plan.sparsity)}"
        parts.append(_section(title, ["matrix", "sparsity", "why"], body))
    return "\n\n".join(parts)


def _sensitivity(state: RunState) -> str:
    """The most and the least sensitive matrices, by loss where it was measured and else by error; the head groups."""
    known = [layer for layer in state.layers.values() if layer.sensitivity]
    if not known:
        return ""
    ranked = sorted(known, key=lambda x: (x.loss or 0.0, x.sensitivity[(len(x.ratios) - 1) // 2]), reverse=True)
    named = ranked if len(ranked) <= 2 * WORST else [*ranked[:WORST], *ranked[-WORST:]]
    ratios = [f"error at {figures.share(ratio, 0)}" for ratio in known[0].ratios]
    body = [[x.name, _error(x.loss), *map(_error, x.sensitivity)] for x in named]
    heads = sorted(((loss, x.name, i) for x in known for i, loss in enumerate(x.heads)), reverse=True)
    chosen = heads if len(heads) <= 2 * WORST else [*heads[:WORST], *heads[-WORST:]]
    parts = [
        _section("Sensitivity, most first", ["matrix", "loss", *ratios], body),
        _section("Head groups", ["matrix", "group", "loss"], [[name, str(i), _error(x)] for x, name, i in chosen]),
    ]
    note = "Losses are KL divergences from the dense model in nats a token, when that part alone is pruned or silenced."
    return "\n\n".join([part for part in parts if part] + [note])


def _gate(gate: ev.GateChecked) -> list[str]:
    return [gate.name, f"{gate.bound:g}", f"{gate.value:.4g}", "passed" if gate.passed else "missed"]


def _artifact(artifact: ev.ArtifactWritten) -> list[str]:
    return [artifact.path, artifact.format, figures.size(artifact.bytes)]


def _environment(state: RunState, environment: Mapping[str, Any]) -> str:
    known: dict[str, Any] = {}
    if state.model:
        known = {key: getattr(state.model, key) for key in ("source", "architecture", "device", "dtype", "threads")}
    body = [[key, _plainly(value)] for key, value in {**known, **environment}.items()]
    return _section("Environment", ["what", "value"], body)


def _plainly(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _section(title: str, headers: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A heading and a Markdown table; nothing for an empty one."""
    if not body:
        return ""
    lines = [headers, ["---"] * len(headers), *([cell.replace("|", "\\|") for cell in row] for row in body)]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _fenced(text: str) -> str:
    fence = "```" if "```" not in text else "````"
    return f"{fence}text\n{text}\n{fence}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _error(value: float | None) -> str:
    return figures.NOTHING if value is None else f"{value:.3g}"


def _fields(event: ev.Event) -> dict[str, Any]:
    return _without(dataclasses.asdict(event), "seq", "time")


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _step(step: StepState) -> dict[str, Any]:
    return {key: getattr(step, key) for key in ("use", "title", "status", "seconds", "resumed", "summary")}


def _prompt(candidate: CandidateState) -> dict[str, Any]:
    known = {key: getattr(candidate, key) for key in ("name", "text", "origin", "tokens", "alive", "round")}
    return known | {"scores": [_without(_fields(score), "step", "candidate") for score in candidate.scores.values()]}
