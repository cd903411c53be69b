"""The outcome of a run for people (report.md) and for scripts (result.json), folded from its `RunState`; no torch.

What the numbers amount to is in `outcome`, what was done to the model's parts in `sections`; here they become two files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from engine import artifacts, figures, gates, grids, outcome, sections
from engine import events as ev
from engine.outcome import rows as rows
from engine.outcome import table as table
from engine.outcome import winners as winners
from engine.registry import PERTURBATIONS
from engine.sections import fenced, section
from engine.state import CandidateState, LayerState, RunState, StepState, Used

SCHEMA = 1


def markdown(state: RunState, environment: Mapping[str, Any] | None = None) -> str:
    """report.md: the result table, the prompts, the steps, what was done to the model and why, gates, artifacts."""
    parts = [
        _head(state),
        _results(state),
        grids.sections(state),
        _prompts(state),
        _steps(state),
        sections.layers(state),
        sections.quantized(state),
        sections.plans(state),
        sections.sensitivity(state),
        sections.removals(state),
        sections.recoveries(state),
        sections.trainings(state),
        sections.readings(state),
        artifacts.references(state),
        artifacts.speeds(state),
        gates.table(state),
        section("Artifacts", ["path", "format", "size"], [_artifact(a) for a in state.artifacts]),
        artifacts.scripts(state),
        _environment(state, environment or {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def result(state: RunState, environment: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """result.json: stable keys; a change of meaning raises `schema`."""
    tried = state.tried
    return {
        "schema": SCHEMA,
        "run": state.run,
        "profile": state.profile,
        "description": state.description,
        "source": state.source,
        "status": state.status,
        "exit_code": state.exit_code,
        "seconds": state.took,
        "failure": _fields(state.failure) if state.failure else None,
        "model": _without(_fields(state.model), "matrices") if state.model else None,
        "rows": outcome.rows(state),
        "stages": {s: {n: _fields(m) for n, m in metrics.items()} for s, metrics in state.metrics.items()},
        "steps": [{"step": i, **_step(step)} for i, step in sorted(state.steps.items())],
        "winners": outcome.winners(state),
        "prompts": [_prompt(candidate) for candidate in state.candidates.values()],
        "comparisons": [_fields(c) for c in state.comparisons],
        "layers": [_layer(layer, tried.get(layer.name)) for layer in state.layers.values()],
        "sensitivities": [_event(event) for event in state.sensitivities.values()],
        "removals": [_event(event) for event in state.removals],
        "recoveries": [_event(event) for event in state.recoveries],
        "losses": [_event(event) for event in state.losses],
        "trainings": [_event(event) for event in state.trainings],
        "readings": [_event(event) for event in state.readings],
        "tested": [_without(_fields(event), "step") for event in state.tested.values()],
        "grid": [_fields(event) for event in state.grid.values()],
        "recovered": [_fields(event) for event in state.recovered.values()],
        "transfers": [_fields(event) for event in state.transfers.values()],
        "references": [_fields(event) for event in state.references.values()],
        "unreferenced": [_fields(event) for event in state.unreferenced.values()],
        "speeds": [_fields(event) for event in state.speeds.values()],
        "gates": [_fields(gate) for gate in state.gates],
        "artifacts": [_fields(artifact) for artifact in state.artifacts],
        "estimates": {
            name: {**_without(_fields(e), "name"), "used": used.value if (used := state.used.get(name)) else None}
            for name, e in state.estimates.items()
        },
        "unread": state.unknown,
        "environment": dict(environment or {}),
    }


def _head(state: RunState) -> str:
    lines = [f"# {state.profile or 'run'}", *(["", state.description] if state.description else [])]
    lines += ["", f"Run `{state.run}`: {state.status}, {figures.duration(state.took)}, exit code {state.exit_code}."]
    if state.estimates:
        expected = [figures.need(name, e.value, e.unit) for name, e in state.estimates.items()]
        used = [_used(name, amount) for name, amount in state.used.items()]
        lines += ["", f"Estimated: {', '.join(expected)}. Used: {', '.join(used) or figures.NOTHING}."]
    if state.unknown:
        lines += ["", f"{state.unknown} events of a newer version could not be read: what they tell is missing here."]
    if state.failure:
        where = f"{state.failure.where}: " if state.failure.where else ""
        lines += ["", *(f"> {line}" for line in f"{where}{state.failure.message}".splitlines())]
    return "\n".join(lines)


def _used(name: str, amount: Used) -> str:
    exact = amount.unit == "s"  # an estimated time is rough, a measured one is not
    return figures.duration(amount.value) if exact else figures.need(name, amount.value, amount.unit)


def _results(state: RunState) -> str:
    headers, cells = outcome.table(state)
    note = (
        "Intervals are 95%. `p` and the verdict compare a prompt with the one it stands `against`, on the same test rows "
        f"under the same calibration ({_tests(state)}); a gain inside the noise is a tie, and the interval of the difference "
        "and Holm's p-value over the step's comparisons must agree on it."
    )
    results = section("Result", headers, cells)
    if confirmed := [_confirmed(compared) for compared in state.comparisons if compared.split == "confirm"]:
        note += (
            f" A verdict that the task's confirm rows did not repeat is a tie too; on these: {'; '.join(confirmed)}."
        )
    if set(headers) & set(PERTURBATIONS.names()):
        note += (
            " Under a perturbation's name stands the figure on the first test rows with disturbed inputs, and behind it the "
            "points by which it differs from the same rows as they were, with their paired interval."
        )
    parts = [results, note] if results and "verdict" in headers else [results]
    if "KL" in headers:
        parts.append(
            "`KL` (nats a token) and `same top-1` (how often the likeliest token is the same) hold a file's answers against "
            "those of the model in memory, over the first tokens of the text."
        )
    said = [figures.look(e.task, e.look, e.seen, e.rows) for e in state.tested.values() if e.look > 1]
    looks = [f"{text[0].upper()}{text[1:]}." for text in said]
    return "\n\n".join(filter(None, [*parts, *looks]))


def _confirmed(compared: ev.PromptsCompared) -> str:
    shown = figures.difference(compared.difference, compared.low, compared.high, compared.metric)
    about = f"{compared.a} against {compared.b} ({compared.stage}, {compared.calibration})"
    return f"{about} {shown}, n {compared.n}, {compared.verdict}"


def _tests(state: RunState) -> str:
    """The tests that the comparisons were made by."""
    metrics = {compared.metric for compared in state.comparisons} or {outcome.ACCURACY}
    return " or ".join(
        dict.fromkeys("exact McNemar" if figures.binary(m) else "approximate randomization" for m in metrics)
    )


def _prompts(state: RunState) -> str:
    """The text of every winner, then the pool."""
    parts = []
    for choice in outcome.winners(state):
        known, base = (state.candidates.get(choice[role]) for role in ("winner", "baseline"))
        same = outcome.unbeaten(choice["winner"])
        said = (f": {same}" if same else "") + (figures.saved(known.tokens, base.tokens) if known and base else "")
        parts.append(f"Best prompt for {choice['task']} on the {choice['stage']} model, `{choice['winner']}`{said}:")
        parts.append(fenced(known.text if known else ""))
    metrics = dict.fromkeys(s.metric for c in state.candidates.values() for s in c.scores.values())
    figure = f"{'/'.join(metrics) or outcome.ACCURACY} [95%]"
    headers = ["prompt", "origin", "tokens", "split", "stage", "calibration", figure, "n", "text"]
    pool = section("Prompts", headers, [row for c in state.candidates.values() for row in _candidate(c)])
    return "\n\n".join([pool, *parts]) if pool else ""


def _candidate(candidate: CandidateState) -> list[list[str]]:
    text = candidate.text.replace("\n", "\\n")
    start = [candidate.name, candidate.origin, str(candidate.tokens)]
    return [
        [*start, split, stage, calibration, figures.quality(s.metric, s.accuracy, s.low, s.high), str(s.n), text]
        for (stage, split, calibration), s in candidate.scores.items()
    ]


def _steps(state: RunState) -> str:
    body = [
        [figures.NOTHING if i < 0 else str(i + 1), s.use, s.status, figures.duration(s.seconds), _summary(s)]
        for i, s in sorted(state.steps.items())
    ]
    return section("Steps", ["step", "use", "state", "time", "summary"], body)


def _summary(step: StepState) -> str:
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in step.summary.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items())


def _artifact(artifact: ev.ArtifactWritten) -> list[str]:
    return [artifact.path, artifact.format, figures.size(artifact.bytes)]


def _environment(state: RunState, environment: Mapping[str, Any]) -> str:
    known: dict[str, Any] = {}
    if state.model:
        known = {key: getattr(state.model, key) for key in ("source", "architecture", "device", "dtype", "threads")}
    body = [[key, _plainly(value)] for key, value in {**known, **environment}.items()]
    return section("Environment", ["what", "value"], body)


def _plainly(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _fields(event: ev.Event) -> dict[str, Any]:
    return _without(dataclasses.asdict(event), "seq", "time")


def _event(event: ev.Event) -> dict[str, Any]:
    """What a part of a step's work amounted to, without how far the work was."""
    return _without(_fields(event), "done", "total")


def _layer(layer: LayerState, tried: ev.LayerSensitivity | None) -> dict[str, Any]:
    return dataclasses.asdict(layer) | {
        "ratios": tried.ratios if tried else [],
        "sensitivity": tried.errors if tried else [],
        "loss": tried.loss if tried else None,
        "heads": tried.heads if tried else [],
    }


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _step(step: StepState) -> dict[str, Any]:
    return {key: getattr(step, key) for key in ("use", "title", "status", "seconds", "resumed", "summary")}


def _prompt(candidate: CandidateState) -> dict[str, Any]:
    known = {key: getattr(candidate, key) for key in ("name", "text", "origin", "tokens", "alive", "round")}
    return known | {
        "scores": [_figures_of(event) for event in candidate.scores.values()],
        "perturbed": [_figures_of(event) for event in candidate.perturbed.values()],
    }


def _figures_of(event: ev.Event) -> dict[str, Any]:
    """What was told of one prompt, without saying again of which."""
    return _without(_fields(event), "step", "candidate")
