"""Numbers as people read them, in one place so that the report, the command line and the app show the same text.

Every function takes None for "not measured" and answers "-". Nothing here rounds what is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

from engine import registry

NOTHING = "-"
PERPLEXITY = "perplexity"
PERCENT, NATS = "percent", "nats"


def size(value: float | None) -> str:
    """Bytes in decimal units: 538 MB."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"), " ")


def count(value: float | None) -> str:
    """A number of things: 134.5M."""
    return _scaled(value, ("", "k", "M", "G", "T"), "")


def several(number: int, thing: str, things: str = "") -> str:
    """A number of things with its noun: 1 thread, 2 threads; `things` where the plural is not one s more."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"


def share(value: float | None, digits: int = 1) -> str:
    """A share of 1 as per cent: 50.0%."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}%"


def number(value: float | None, digits: int = 2) -> str:
    """A plain figure: 17.42, and 1.2e+05 where decimals would not fit."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.1e}"


def divergence(value: float | None) -> str:
    """A Kullback-Leibler divergence in nats: 0.0123."""
    return number(value, 4)


def accuracy(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """An accuracy with its 95% interval: 81.3% [77.0, 85.1]."""
    interval = f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else ""
    return share(value) + interval


ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def look(task: str, number: int, seen: int = 0, rows: int = 0) -> str:
    """What the number of a look at a task's test split says of its figures, and how many of its rows were seen before."""
    nth = f"{ORDINALS[number - 1]} look" if number <= len(ORDINALS) else f"look number {number}"
    before = f", {seen} of its {rows} rows were seen before" if seen else ""
    untouched = f": its figures are no longer untouched{before}" if number > 1 else ""
    return f"{nth} at the test split of {task}{untouched}"


def saved(tokens: int, before: int) -> str:
    """How much shorter a prompt is than the one that it is compared with; empty where it is not."""
    return f", {before - tokens} of {before} tokens saved" if tokens < before else ""


def quality(metric: str, value: float | None, low: float | None = None, high: float | None = None) -> str:
    """What a task's metric says, with its 95% interval, as it is shown: 81.3% [77.0, 85.1], for BLEU 42.0 [39.5, 44.7], in
    nats 0.512 [0.476, 0.550].
    """
    if value is None or _shown_as(metric) == PERCENT:
        return accuracy(value, low, high)
    interval = "" if low is None or high is None else f" [{plain(metric, low)}, {plain(metric, high)}]"
    return plain(metric, value) + interval


def plain(metric: str, value: float, sign: str = "") -> str:
    """A metric's value without its unit; `sign` "+" shows one."""
    return f"{value:{sign}.3f}" if _shown_as(metric) == NATS else f"{100 * value:{sign}.1f}"


def difference(value: float, low: float, high: float, metric: str = "accuracy") -> str:
    """A difference of a metric's figures, with its 95% interval: +12.3 [+9.0, +15.5] points."""
    unit = NATS if _shown_as(metric) == NATS else "points"
    return f"{plain(metric, value, '+')} [{plain(metric, low, '+')}, {plain(metric, high, '+')}] {unit}"


def change(value: float, low: float, high: float) -> str:
    """A change as a share of what it is compared with, with its 95% interval: +12.3% [+9.0, +15.5]."""
    return f"{100 * value:+.1f}% [{100 * low:+.1f}, {100 * high:+.1f}]"


def lower(metric: str) -> bool:
    """Whether less of a metric is better."""
    return bool(getattr(registry.metric(metric), "LOWER", False))


def binary(metric: str) -> bool:
    """Whether a row is right or wrong by it; not known of one that is not here."""
    return bool(getattr(registry.metric(metric), "BINARY", False))


def shared(metric: str) -> bool:
    """Whether a metric's figures are shares of 1, as all are but nats."""
    return _shown_as(metric) != NATS


def _shown_as(metric: str) -> str:
    """As its file says; per cent where another version's run names one that is not here."""
    return str(getattr(registry.metric(metric), "SHOWN", PERCENT))


def ratio(value: float | None, low: float | None, high: float | None) -> str:
    """A share of something lost, which may be below 0 or above 1, with its 95% interval: 0.62 [0.41, 0.84]."""
    if value is None or low is None or high is None:
        return "undefined"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def disturbed(
    value: float, before: float, metric: str = "accuracy", low: float | None = None, high: float | None = None
) -> str:
    """A metric's figure on disturbed inputs, and what the disturbance made of it, with its 95% interval where it is known:
    70.5% (-3.0 [-6.5, +0.5]).
    """
    interval = "" if low is None or high is None else f" [{plain(metric, low, '+')}, {plain(metric, high, '+')}]"
    return f"{quality(metric, value)} ({plain(metric, value - before, '+')}{interval})"


def metric(name: str, value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A measured figure as its name asks: bytes as sizes, counts, shares, accuracies, rates."""
    if judged(name):
        return quality(name.partition(":")[0], value, low, high)
    return _reading(name, number)(value)


def of_its_own(name: str) -> bool:
    """Whether a measured figure is no plain number to read: sizes, counts, shares, short times."""
    return judged(name) or _reading(name, number) is not number


def _reading(name: str, otherwise: Callable[[float | None], str]) -> Callable[[float | None], str]:
    """What makes a text of a measured figure."""
    read = {"parameters": count, "sparsity": share, "first_token_seconds": latency, "load_seconds": latency,
            "agreement": share, "divergence": divergence}  # fmt: skip
    return read.get(name, size if name.endswith("bytes") else otherwise)


def judged(name: str) -> bool:
    """Whether a measured figure is a task's: accuracy:sst2, chrf:captions."""
    return name.startswith("accuracy") or registry.metric(name.partition(":")[0]) is not None


def share_right(name: str) -> bool:
    """Whether a measured figure is a task's share of right answers: accuracy:sst2, exact_match:antonyms."""
    return binary(name.partition(":")[0])


def p_value(value: float | None) -> str:
    """A p-value: 0.031, and <0.001 below that."""
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """Seconds as 3.2 s, 4 m 05 s or 2 h 07 m."""
    if seconds is None or not isfinite(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def latency(seconds: float | None) -> str:
    """A short time: 85 ms, and seconds from one on."""
    return f"{1000 * seconds:.0f} ms" if seconds is not None and seconds < 0.9995 else duration(seconds)


def rough(seconds: float | None) -> str:
    """An estimated time, to one unit: 40 s, 5 m, 3 h."""
    if seconds is None:
        return NOTHING
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, round(seconds))} s"


def need(name: str, value: float, unit: str, available: float | None = None) -> str:
    """One estimated need in bytes (B) or seconds (s): 2.1 GB memory (23 GB free), or 5 m."""
    if unit == "s":
        return rough(value)
    there = "" if available is None else f" ({size(available)} free)"
    return f"{size(value)} {name}{there}"


def need_of(value: float, unit: str, available: float | None = None) -> str:
    """A need without its name, for a narrow place: 2.1 of 7.9 GB, about 12 m."""
    if unit == "s" or available is None:
        return f"about {rough(value) if unit == 's' else size(value)}"
    wanted, there = size(value), size(available)
    return f"{wanted.split()[0] if wanted.split()[-1] == there.split()[-1] else wanted} of {there}"


def age(seconds: float | None) -> str:
    """How long ago, in one unit: 40s, 3m, 2h, 5d."""
    if seconds is None:
        return NOTHING
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def _scaled(value: float | None, units: tuple[str, ...], gap: str) -> str:
    if value is None:
        return NOTHING
    for unit in units:
        if abs(value) < 999.5 or unit == units[-1]:
            break
        value /= 1000
    digits = 0 if unit == units[0] or abs(value) >= 99.95 and gap else 1
    return f"{value:.{digits}f}{gap}{unit}"
