"""A metric's figures as its file says they are shown."""

from __future__ import annotations

import pytest

from engine import figures


@pytest.mark.parametrize(
    ("metric", "shown", "gained"),
    [
        ("accuracy", "81.3% [77.0, 85.1]", "+12.3 [+9.0, +15.5] points"),
        ("chrf", "81.3 [77.0, 85.1]", "+12.3 [+9.0, +15.5] points"),
        ("nll", "0.813 [0.770, 0.851]", "+0.123 [+0.090, +0.155] nats"),
        ("of another version", "81.3% [77.0, 85.1]", "+12.3 [+9.0, +15.5] points"),
    ],
)
def test_a_figure_and_a_difference(metric: str, shown: str, gained: str) -> None:
    assert figures.quality(metric, 0.813, 0.77, 0.851) == shown
    assert figures.quality(metric, 0.813) == shown.partition(" ")[0]
    assert figures.quality(metric, None) == figures.NOTHING
    assert figures.difference(0.123, 0.09, 0.155, metric) == gained


def test_a_measured_figure_of_a_task() -> None:
    assert figures.metric("bleu:captions", 0.25, 0.2, 0.3) == "25.0 [20.0, 30.0]"
    assert figures.metric("accuracy_norm:piqa", 0.5) == "50.0%"
    assert figures.disturbed(0.5, 0.6, "chrf") == "50.0 (-10.0)"
    assert figures.disturbed(0.7, 0.75, "accuracy", -0.09, -0.01) == "70.0% (-5.0 [-9.0, -1.0])"
    assert not figures.judged("perplexity")
    shares = ["accuracy:x", "exact_match:x", "accuracy_norm:x", "chrf:x", "nll:x", "bytes"]
    assert [name for name in shares if figures.share_right(name)] == ["accuracy:x", "exact_match:x"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, ("0 matrices", "0 threads")), (1, ("1 matrix", "1 thread")), (2, ("2 matrices", "2 threads"))],
)
def test_one_thing_is_not_said_as_several(number: int, said: tuple[str, str]) -> None:
    assert (figures.several(number, "matrix", "matrices"), figures.several(number, "thread")) == said
