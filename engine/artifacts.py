"""What the report says of exported files: how they stand against the dense model when it is only quantized, and how fast they
are on one thread and on more.
"""

from __future__ import annotations

from engine import events as ev
from engine import figures
from engine.sections import fenced, section
from engine.state import RunState

SAME = 1.02
"""files whose sizes differ by less are as large"""


def references(state: RunState) -> str:
    """Every file beside its reference, in words and figures, or why it has none."""
    said = [f"- {against(event)}{_paired(event)}." for event in state.references.values()]
    said += [f"- {alone(event)}." for event in state.unreferenced.values()]
    return "\n".join(["## Against the dense model, only quantized", "", *said]) if said else ""


def against(event: ev.ReferenceMeasured) -> str:
    """Which of the two is the better one to have, by size and perplexity, which differs where the interval of the paired
    difference leaves zero out; one that is worse in one of them and no better in the other is dominated.
    """
    here, there = (event.perplexity_low, event.perplexity_high), (event.reference_low, event.reference_high)
    mine = f"{event.stage} ({_figures(event.bytes, event.perplexity, *here)})"
    other = f"{event.reference} ({_figures(event.reference_bytes, event.reference_perplexity, *there)})"
    if event.perplexity is None or event.reference_perplexity is None:
        return f"{mine} beside {other}: no perplexity was measured"
    smaller, larger = event.bytes * SAME < event.reference_bytes, event.reference_bytes * SAME < event.bytes
    change = event.perplexity - event.reference_perplexity
    low, high = event.difference_low, event.difference_high
    better, worse = (change if high is None else high) < 0, (change if low is None else low) > 0
    if (larger or worse) and not (smaller or better):
        return f"{mine} is dominated by {other}: quantization alone does more for fewer or as many bytes"
    if (smaller or better) and not (larger or worse):
        return f"{mine} dominates {other}"
    found = "is smaller and worse than" if smaller else "is larger and better than" if larger else "is worth as much as"
    return f"{mine} {found} {other}"


def alone(event: ev.ReferenceSkipped) -> str:
    """Why nothing stands beside a file."""
    return f"{event.stage}: the dense model was not quantized to as many bytes, as {event.reason}"


def _paired(event: ev.ReferenceMeasured) -> str:
    """The difference of log-perplexity, where it is known."""
    if event.difference is None or event.difference_low is None or event.difference_high is None:
        return ""
    low, high = (figures.number(end, 3) for end in (event.difference_low, event.difference_high))
    return f" (log-perplexity {event.difference:+.3f} [{low}, {high}], paired over windows)"


def _figures(size: float, perplexity: float | None, low: float | None, high: float | None) -> str:
    if perplexity is None:
        return figures.size(size)
    interval = "" if low is None or high is None else f" [{figures.number(low)}, {figures.number(high)}]"
    return f"{figures.size(size)}, perplexity {figures.number(perplexity)}{interval}"


def speeds(state: RunState) -> str:
    """Every file by its number of threads."""
    found = sorted(state.speeds.values(), key=lambda event: (event.step, event.threads))
    body = [
        [event.stage, str(event.threads), figures.number(event.decode, 1), figures.number(event.prefill, 1)]
        for event in found
    ]
    return section("Speed by threads", ["stage", "threads", "decode tok/s", "prefill tok/s"], body)


def scripts(state: RunState) -> str:
    """The programs that load artifacts without this package."""
    return "\n\n".join(_script(artifact) for artifact in state.artifacts if artifact.script)


def _script(artifact: ev.ArtifactWritten) -> str:
    head = f"## Load and run {artifact.path}"
    said = "The script lies beside the weights and works wherever the folder is taken."
    return f"{head}\n\n{said}\n\n{fenced(artifact.script.strip(), 'python')}"
