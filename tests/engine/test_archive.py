"""The archive of artifacts: what nothing beats, by brute force; one entry an artifact; only what is comparable."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import archive, files
from engine.archive import Measured
from engine.errors import Unavailable
from engine.statistics import mean_difference

ONE = Measured(
    model="demo", text="t", run="r", path="artifacts/model", profile="p", format="sparse", steps="prune 0.5", time=1.0,
    device="cpu", threads=2, bytes=100, perplexity=20.0, decode=10.0,
)  # fmt: skip
SMALL = st.integers(1, 4)
ARTIFACTS = st.lists(
    st.builds(
        lambda size, perplexity, speed: replace(ONE, bytes=size, perplexity=float(perplexity), decode=speed),
        SMALL, SMALL, st.none() | SMALL.map(float),
    ),
    max_size=12,
)  # fmt: skip


@pytest.fixture
def add(tmp_path: Path) -> Callable[[Measured], None]:
    """Adds an artifact whose folder is there, of a run by name."""

    def made(artifact: Measured) -> None:
        artifact = replace(artifact, run=str(tmp_path / artifact.run))
        Path(artifact.run, artifact.path).mkdir(parents=True, exist_ok=True)
        archive.add(artifact)

    return made


def found(model: str) -> list[str]:
    return [Path(artifact.run).name for artifact in archive.of_model(model)]


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


@st.composite
def noisy(draw: st.DrawFn) -> list[Measured]:
    """Artifacts of one machine on the same windows, some of which are so near to each other that they are ties."""
    count, windows = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    level = st.sampled_from([3.0, 3.01, 3.03, 3.06, 3.1])
    out = []
    for number in range(count):
        losses = tuple(draw(level) + draw(level) for _ in range(windows))
        perplexity = math.exp(sum(losses) / windows)
        size, speed = draw(SMALL), draw(st.none() | SMALL.map(float))
        out.append(replace(ONE, run=str(number), bytes=size, decode=speed, perplexity=perplexity, losses=losses))
    return out


@given(noisy(), st.randoms(use_true_random=False))
def test_inside_the_noise_the_front_is_the_only_set_of_what_no_other_of_it_beats(
    artifacts: list[Measured], random: Any
) -> None:
    kept = {one.run for one, good in zip(artifacts, archive.front(artifacts), strict=True) if good}
    beaten = {one.run: {other.run for other in artifacts if archive.dominates(other, one)} for one in artifacts}
    fitting = []
    for size in range(len(artifacts) + 1):
        for members in map(set, itertools.combinations(beaten, size)):
            free = {name for name, by in beaten.items() if not by & members}
            fitting += [free] if free == members else []
    assert fitting == [kept]
    random.shuffle(artifacts)
    assert {one.run for one, good in zip(artifacts, archive.front(artifacts), strict=True) if good} == kept
    for one in artifacts:  # nothing that is left out beats all that stay
        better = [archive.gap(other, one) < 0 for other in artifacts if other.run in kept]
        assert one.run in kept or not all(better)


def test_what_only_a_beaten_artifact_beats_stays() -> None:
    """Each is a tie with the next larger one, but the largest is better than the smallest."""
    one = (3.9, 3.0, 2.95, 3.1, 3.5, 2.8)
    losses = [one, tuple(x - d for x, d in zip(one, (0.1, -0.02, 0.08, 0.03, 0.09, -0.01), strict=True))]
    losses.append(tuple(x - d for x, d in zip(losses[1], (-0.02, 0.1, 0.01, 0.06, -0.03, 0.09), strict=True)))
    artifacts = [
        replace(ONE, run=str(size), bytes=size, perplexity=math.exp(sum(found) / len(found)), losses=found)
        for size, found in zip((50, 80, 100), losses, strict=True)
    ]
    assert archive.dominates(artifacts[0], artifacts[1])
    assert archive.dominates(artifacts[1], artifacts[2])
    difference = mean_difference(losses[0], losses[2])
    assert difference is not None
    assert difference[1] > 0
    assert archive.front(artifacts) == [True, False, True]


def test_of_several_machines_what_is_left_out_is_beaten_by_what_stays() -> None:
    """Also where artifacts beat each other in a circle, as speeds of two machines are not compared."""
    losses = ((3.0, 3.0, 3.0), (3.1, 3.1, 3.11), (2.5, 3.4, 2.81), (2.6, 3.5, 2.92))
    circle = [
        replace(ONE, run=str(i), device=device, decode=speed, perplexity=math.exp(sum(found) / 3), losses=found)
        for i, (device, speed, found) in enumerate(
            zip(("cpu", "cuda", "cuda", "cpu"), (1.0, 2.0, 1.0, 2.0), losses, strict=True)
        )
    ]
    assert all(archive.dominates(one, other) for one, other in zip(circle, [*circle[1:], circle[0]], strict=True))
    found = archive.front(circle)
    kept = [one for one, good in zip(circle, found, strict=True) if good]
    assert kept
    assert all(
        good or any(archive.dominates(other, one) for other in kept) for one, good in zip(circle, found, strict=True)
    )
    assert archive.front(circle[::-1]) == found[::-1]


def test_after_five_runs_the_archive_holds_them_all(add: Callable[[Measured], None]) -> None:
    figures = [(100, 20.0, 10.0), (80, 21.0, 12.0), (90, 22.0, 11.0), (60, 30.0, 20.0), (60, 29.0, None)]
    for number, (size, perplexity, decode) in enumerate(figures):
        add(replace(ONE, run=f"r{number}", time=number, bytes=size, perplexity=perplexity, decode=decode))
    assert found("demo") == ["r0", "r1", "r2", "r3", "r4"]
    assert archive.front(archive.of_model("demo")) == [True, True, False, True, True]
    assert archive.models() == ["demo"]


def test_an_artifact_that_is_written_again_is_replaced(add: Callable[[Measured], None]) -> None:
    add(ONE)
    add(replace(ONE, perplexity=19.0))
    assert [artifact.perplexity for artifact in archive.of_model("demo")] == [19.0]


def test_only_what_was_measured_on_the_same_text_is_compared(add: Callable[[Measured], None]) -> None:
    add(replace(ONE, run="old", text="another", time=0.0))
    add(ONE)
    add(replace(ONE, run="nothing", perplexity=None))
    add(replace(ONE, run="other", model="else"))
    assert found("demo") == ["r"]
    assert archive.of_model("never") == []


def test_a_text_whose_windows_have_changed_is_another(add: Callable[[Measured], None]) -> None:
    for at, data in enumerate(("", "before", "after", "after")):
        add(replace(ONE, run=f"{at} {data}", data=data, time=float(at)))
    assert found("demo") == ["0 ", "2 after", "3 after"], "of an older version's nobody knows"
    assert archive.found("demo")[1] == 1


def test_what_was_measured_on_other_text_is_counted(add: Callable[[Measured], None]) -> None:
    add(replace(ONE, run="old", text="another", time=0.0))
    add(ONE)
    add(replace(ONE, run="gone", text="another", perplexity=None))
    artifacts, more = archive.found("demo")
    assert ([Path(one.run).name for one in artifacts], more) == (["r"], 1)
    assert archive.on_text(artifacts, more) == "measured on t (1 more measured on other text)"
    assert archive.on_text(artifacts, 0) == "measured on t"


def test_an_older_version_s_entries_of_a_folder_are_found(
    add: Callable[[Measured], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the name that the profile had. Where the folder has entries of its own, these are surely of one model."""
    add(replace(ONE, model="llama"))
    monkeypatch.chdir(tmp_path)
    assert found(str(tmp_path / "llama")) == ["r"]
    add(replace(ONE, run="new", model=str(tmp_path / "llama")))
    assert found(str(tmp_path / "llama")) == ["new"]


def test_runs_of_one_name_in_two_folders_are_two(add: Callable[[Measured], None]) -> None:
    add(replace(ONE, run="here/r"))
    add(replace(ONE, run="there/r"))
    assert found("demo") == ["r", "r"]


def test_what_is_gone_is_left_out(add: Callable[[Measured], None], tmp_path: Path) -> None:
    add(ONE)
    add(replace(ONE, run="gone", text="another", time=2.0))
    (tmp_path / "gone" / ONE.path).rmdir()
    assert found("demo") == ["r"]
    (tmp_path / "r" / ONE.path).rmdir()
    with pytest.raises(Unavailable, match="still there"):
        archive.found("demo")
    with pytest.raises(Unavailable, match="was measured"):
        archive.found("demos")


@pytest.mark.parametrize("change", [{"threads": 8}, {"device": "cuda"}], ids=str)
def test_speeds_of_another_machine_are_not_compared(change: dict[str, Any]) -> None:
    fast = replace(ONE, decode=99.0)
    assert archive.dominates(fast, ONE)
    assert not archive.dominates(replace(fast, **change), ONE)
    assert archive.dominates(replace(ONE, bytes=50, decode=1.0, **change), ONE)


def test_perplexities_are_compared_window_by_window(add: Callable[[Measured], None]) -> None:
    """Windows differ more than artifacts do: a difference that all of them show counts, one that changes its sign does not."""
    one = replace(ONE, run="one", losses=(2.0, 3.0, 4.0))
    worse = replace(ONE, run="worse", bytes=50, perplexity=20.8, losses=(2.03, 3.05, 4.04))
    level = replace(ONE, run="level", bytes=50, perplexity=20.8, losses=(2.2, 2.9, 4.1))
    assert archive.front([one, worse]) == [True, True]
    assert archive.front([one, level]) == [False, True]
    assert not archive.dominates(worse, one)
    for artifact in (one, worse):
        add(artifact)
    assert [artifact.losses for artifact in archive.of_model("demo")] == [one.losses, worse.losses]


def test_a_file_of_an_older_version_is_written_and_read(add: Callable[[Measured], None]) -> None:
    add(replace(ONE, losses=(1.0, 2.0)))
    with closing(sqlite3.connect(files.archive_file())) as old:
        for column in ("device", "losses", "low", "data"):
            old.execute(f"ALTER TABLE {archive.TABLE} DROP COLUMN {column}")
    add(replace(ONE, run="new", losses=(3.0, 4.0), low=19.0))
    known = {Path(artifact.run).name: artifact for artifact in archive.of_model("demo")}
    assert (known["r"].device, known["r"].losses, known["r"].low) == ("", (), None)
    assert (known["new"].device, known["new"].losses, known["new"].low) == ("cpu", (3.0, 4.0), 19.0)


def test_it_lies_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPRESS_TUI_STATE", str(tmp_path / "mine"))
    archive.add(ONE)
    assert (tmp_path / "mine" / "artifacts.sqlite").is_file()
