"""The rows of the layer table and of the figures table, made from a run's state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.text import Text

from engine import events as ev
from engine import figures, means
from engine.state import LayerState, RunState
from tui.widgets.columns import Column, Shown


def _error(error: float) -> str:
    return figures.number(error, 4)


LAYER_COLUMNS = (
    Column("layer", "matrix", keep="end", room=19),
    Column("shape", "shape", 11, lambda shape: "×".join(map(str, shape)), numeric=True, least=58),
    Column("sensitivity", "sens", 7, _error, numeric=True, optional=True, least=46),
    Column("planned", "plan", 6, figures.share, numeric=True, optional=True, least=42),
    Column("sparsity", "sparse", 7, figures.share, numeric=True, optional=True),
    Column("bits", "bits", 4, numeric=True, optional=True),
    Column("error", "error", 8, _error, numeric=True, optional=True),
    Column("seconds", "sec", 6, lambda seconds: figures.number(seconds, 2), numeric=True, optional=True, least=48),
    Column("loss", "loss", 8, lambda loss: f"{loss:+.4f}", numeric=True, optional=True, least=76),
    Column("reason", "because", 28, optional=True, least=110),
)
FIGURE_COLUMNS = (
    Column("figure", "figure"),
    Column("stage", "stage", 9),
    Column("value", "value [95%]", 18, numeric=True),
    Column("change", "to dense", 8, numeric=True, least=62),
    Column("n", "n", 5, numeric=True, least=46),
)
NAMES = {
    "bytes": "size",
    "decode_tokens_per_second": "decode t/s",
    "prefill_tokens_per_second": "prefill t/s",
    "peak_memory_bytes": "peak memory",
}


def layer_rows(state: RunState) -> dict[str, dict[str, Any]]:
    """One row a matrix, in order of calculation; what all names begin or end with is left out."""
    names, tried = short_names(state.layers), state.tried
    return {
        name: {
            "layer": names[name],
            "shape": tuple(layer.shape),
            "sensitivity": tried[name].error if name in tried else None,
            "planned": layer.planned,
            "sparsity": layer.sparsity,
            "bits": _bits(layer),
            "error": layer.error,
            "seconds": layer.seconds,
            "loss": tried[name].loss if name in tried else None,
            "reason": layer.reason or None,
        }
        for name, layer in state.layers.items()
    }


def _bits(layer: LayerState) -> Shown | None:
    """The width of a matrix's codes, or in brackets the one that is planned."""
    if layer.bits is not None:
        return Shown(layer.bits, str(layer.bits))
    return None if layer.planned_bits is None else Shown(layer.planned_bits, f"({layer.planned_bits})")


def changed(layer: LayerState) -> bool:
    """Whether a step has pruned or quantized a matrix."""
    return layer.sparsity is not None or layer.bits is not None


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without what all of them begin or end with."""
    found = list(names)
    ends = all(name.endswith(".weight") for name in found)
    bare = {name: name.removesuffix(".weight") if ends else name for name in found}
    start = _shared_start(bare.values())
    return {name: short[start:] for name, short in bare.items()}


def _shared_start(names: Iterable[str]) -> int:
    """How long the dotted beginning is that all names share, with its last dot; the last part of a name never is in it."""
    split = [name.split(".")[:-1] for name in names]
    shared = 0
    for level in zip(*split, strict=False):
        if len(set(level)) > 1:
            break
        shared += len(level[0]) + 1
    return shared


def layers_line(state: RunState) -> Text:
    """The table's figures in one line: how many matrices are done, their sparsity and mean error."""
    done = [layer for layer in state.layers.values() if changed(layer)]
    if not done:
        measured = len(state.layers.keys() & state.tried.keys())
        tried = f" · {measured} of them tried alone" if measured else ""
        return Text(f"{figures.several(len(state.layers), 'matrix', 'matrices')}{tried}")
    sparsity = means.weighted((layer.sparsity, layer.parameters) for layer in done)
    bits = means.weighted((layer.bits, layer.parameters) for layer in done)
    error = means.mean(layer.error for layer in done)
    told = "" if sparsity is None else f" · sparse {figures.share(sparsity)}"
    told += "" if bits is None else f" · {figures.number(bits)} bits"
    told += "" if error is None else f" · mean error {figures.number(error, 4)}"
    return Text(f"{len(done)} of {len(state.layers)}{told}")


def figure_rows(state: RunState) -> dict[str, dict[str, Any]]:
    """One row a figure and stage, the stages of a figure below each other, each against the dense model's."""
    names = list(dict.fromkeys(name for metrics in state.metrics.values() for name in metrics))
    names.sort(key=lambda name: name != "perplexity" and not figures.judged(name))
    rows = {}
    for name in names:
        dense = state.metrics.get("dense", {}).get(name)
        for stage, metrics in state.metrics.items():
            if name in metrics:
                rows[f"{name} {stage}"] = _figure(metrics[name], dense)
    return rows


def _figure(metric: ev.Metric, dense: ev.Metric | None) -> dict[str, Any]:
    return {
        "figure": _name(metric.name),
        "stage": metric.stage,
        "value": _value(metric),
        "change": None if dense is None or metric.stage == "dense" else _change(metric, dense),
        "n": metric.n,
    }


def _name(name: str) -> str:
    kind, _, task = name.partition(":")
    return f"{task} {kind.replace('accuracy', 'acc')}" if task else NAMES.get(name, name.replace("_", " "))


def _value(metric: ev.Metric) -> Shown:
    return Shown(metric.value, _text(metric))


def _text(metric: ev.Metric) -> str:
    value, low, high = metric.value, metric.low, metric.high
    if figures.of_its_own(metric.name):
        return figures.metric(metric.name, value, low, high)
    if metric.unit == "B":
        return figures.size(value)
    if low is None or high is None:
        return _short(value)
    return f"{_short(value)} [{_short(low, 1)}, {_short(high, 1)}]"


def _short(value: float, digits: int = 2) -> str:
    """A figure with fewer decimals the larger it is: 17.42, 949.3, 1362."""
    size = abs(value)
    return figures.number(value, max(0, digits - (size >= 100) - (size >= 1000)))


def _change(metric: ev.Metric, dense: ev.Metric) -> Shown | None:
    """Against the dense model: points for shares of right answers and the like, a factor for what is no task's figure; points
    sort before factors.
    """
    if metric.name == "sparsity" or (metric.name == "parameters" and metric.value == dense.value):
        return None
    if figures.judged(metric.name):
        kind, more = metric.name.partition(":")[0], metric.value - dense.value
        return Shown((0, more), figures.plain(kind, more, "+") + (" pt" if figures.shared(kind) else ""))
    ratio = metric.value / dense.value if dense.value else None
    return None if ratio is None else Shown((1, ratio), f"×{ratio:.2f}")


def outcome_line(state: RunState) -> Text:
    """What a finished run amounts to, in a line: the leading figures of the dense and of the last stage."""
    text = Text()
    if "dense" not in state.metrics or len(state.metrics) < 2:
        return text
    dense, last = state.metrics["dense"], list(state.metrics.values())[-1]
    for name in last:
        if name in dense and (name == "perplexity" or figures.judged(name)):
            text.append(f"  {_name(name)} ", "bright_black")
            text.append(" → ".join(figures.metric(name, at[name].value) for at in (dense, last)))
    return text
