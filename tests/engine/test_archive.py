"""The archive of artifacts: what nothing beats, by brute force; one entry an artifact; only what is comparable."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from engine import archive
from engine.archive import Measured

ONE = Measured(
    model="demo", text="t", run="r", path="artifacts/model", profile="p", format="sparse", steps="prune 0.5", time=1.0,
    threads=2, bytes=100, perplexity=20.0, decode=10.0,
)  # fmt: skip
SMALL = st.integers(1, 4)
ARTIFACTS = st.lists(
    st.builds(
        lambda size, perplexity, speed: replace(ONE, bytes=size, perplexity=float(perplexity), decode=speed),
        SMALL, SMALL, st.none() | SMALL.map(float),
    ),
    max_size=12,
)  # fmt: skip


def points(artifact: Measured) -> tuple[float, float, float]:
    assert artifact.perplexity is not None
    return artifact.bytes, artifact.perplexity, -(artifact.decode or 0)


@given(ARTIFACTS)
def test_the_front_is_what_no_other_beats(artifacts: list[Measured]) -> None:
    kept = [one for one, good in zip(artifacts, archive.front(artifacts), strict=True) if good]
    assert bool(kept) == bool(artifacts)
    for one in artifacts:
        better = [
            other for other in artifacts
            if points(other) != points(one) and all(a <= b for a, b in zip(points(other), points(one), strict=True))
        ]  # fmt: skip
        assert (one in kept) == (not better)


def test_after_five_runs_the_archive_holds_them_all() -> None:
    figures = [(100, 20.0, 10.0), (80, 21.0, 12.0), (90, 22.0, 11.0), (60, 30.0, 20.0), (60, 29.0, None)]
    for number, (size, perplexity, decode) in enumerate(figures):
        archive.add(replace(ONE, run=f"r{number}", time=number, bytes=size, perplexity=perplexity, decode=decode))
    found = archive.of_model("demo")
    assert [artifact.run for artifact in found] == ["r0", "r1", "r2", "r3", "r4"]
    assert archive.front(found) == [True, True, False, True, True]
    assert archive.models() == ["demo"]


def test_an_artifact_that_is_written_again_is_replaced() -> None:
    archive.add(ONE)
    archive.add(replace(ONE, perplexity=19.0))
    assert [artifact.perplexity for artifact in archive.of_model("demo")] == [19.0]


def test_only_what_was_measured_on_the_same_text_is_compared() -> None:
    archive.add(replace(ONE, run="old", text="another", time=0.0))
    archive.add(ONE)
    archive.add(replace(ONE, run="nothing", perplexity=None))
    archive.add(replace(ONE, run="other", model="else"))
    assert [artifact.run for artifact in archive.of_model("demo")] == ["r"]
    assert archive.of_model("never") == []
