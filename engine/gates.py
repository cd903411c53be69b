"""Bounds that were checked, as people read them: one text for the report, the command line and the app; no torch."""

from __future__ import annotations

from engine import events as ev
from engine import figures
from engine.sections import section
from engine.state import RunState


def name(gate: ev.GateChecked) -> str:
    """Which bound, and of which level of a `joint` step."""
    return f"{gate.name} at {gate.level}" if gate.level else gate.name


def bound(gate: ev.GateChecked) -> str:
    """What is asked: 2.5, at least 0.5."""
    if gate.instead:
        return "no significant drop"
    if not gate.level:
        return f"{gate.bound:g}"
    return f"at {'least' if gate.least else 'most'} {gate.bound:g}"


def value(gate: ev.GateChecked) -> str:
    """What decided, with its interval and rows where it has any."""
    instead = f"undefined, {gate.instead.replace('_', ' ')} " if gate.instead else ""
    return instead + _figure(gate.value, gate.low, gate.high, gate.n)


def brief(gate: ev.GateChecked) -> str:
    """Value and bound for a narrow place: 1.45 of at most 2.50."""
    if gate.instead:
        return f"drop {figures.number(gate.low)} to {figures.number(gate.high)}"
    return f"{figures.number(gate.value)} of at {'least' if gate.least else 'most'} {figures.number(gate.bound)}"


def test(gate: ev.GateChecked) -> str:
    """The same figure on test rows; empty where there is none."""
    if gate.test_n is None:
        return ""
    if gate.test is None:
        return f"undefined, n {gate.test_n}"
    return _figure(gate.test, gate.test_low, gate.test_high, gate.test_n)


def result(gate: ev.GateChecked) -> str:
    return "passed" if gate.passed else "missed"


def table(state: RunState) -> str:
    """The report's section; the test rows' figures where a gate has any."""
    tested = any(test(gate) for gate in state.gates)
    headers = ["gate", "bound", "value", *(["test"] if tested else []), "result"]
    body = [[name(g), bound(g), value(g), *([test(g)] if tested else []), result(g)] for g in state.gates]
    return section("Gates", headers, body)


def unmet(state: RunState) -> list[int]:
    """The `joint` steps none of whose levels meets the gate."""
    met: dict[int, dict[str, bool]] = {}
    for gate in state.gates:
        if gate.level:
            levels = met.setdefault(gate.step, {})
            levels[gate.level] = levels.get(gate.level, True) and gate.passed
    return [step for step, levels in met.items() if not any(levels.values())]


def _figure(value: float, low: float | None, high: float | None, n: int | None) -> str:
    interval = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{value:.4g}{interval}" + ("" if n is None else f", n {n}")
