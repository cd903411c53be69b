"""The picture of a model's artifacts, over all runs, and two runs side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, notices, settle, words
from textual.widgets import DataTable

from engine import archive, files
from engine.archive import Measured
from engine.errors import UsageError
from engine.runs import Run
from tui import says
from tui.screens.artifacts import ArtifactsScreen
from tui.screens.dialogs import Reader
from tui.widgets.frontview import BEATEN, GOOD, MARKED

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
ONE = Measured(
    model="demo", text="demo, 20 windows", run="", device="cpu", path="artifacts/a", profile="p", format="onnx_int4",
    steps="quantize gptq", time=1.0, threads=2, bytes=90_000_000, perplexity=22.0, decode=110.0,
)  # fmt: skip


def filled(run: Run) -> None:
    """Two artifacts that nothing beats, one that is beaten, one of them without a speed."""
    larger = replace(
        ONE, path="artifacts/b", format="sparse", bytes=270_000_000, perplexity=20.6, decode=None, time=2.0
    )
    beaten = replace(ONE, path="artifacts/c", format="safetensors", bytes=180_000_000, perplexity=30.0, decode=18.0)
    for artifact in (ONE, larger, beaten):
        (run.path / artifact.path).mkdir(parents=True)
        archive.add(replace(artifact, run=str(run.path)))


@SIZES
async def test_the_best_artifacts_are_told_from_the_beaten_ones_without_colour(
    size: tuple[int, int], make_run: MakeRun
) -> None:
    run, other = make_run("finished"), make_run("failed")
    filled(run)
    app = app_on(other)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("p")
        await settle(pilot)
        assert isinstance(app.screen, ArtifactsScreen)
        lines = words(app).splitlines()
        rows = {one.format: next(line for line in lines if f" {one.format} " in line) for one, _ in shown(app)}
        assert [next(word for word in ("best", "beaten") if word in row) for row in rows.values()] == [
            "best", "beaten", "best",
        ]  # fmt: skip
        assert "270 MB" in rows["sparse"]
        assert "22.00" in rows["onnx_int4"]
        assert "● 2 of 3" in words(app)
        assert "perplexity over tok/s · 1 unmeasured" in words(app)
        assert points(lines) == {MARKED: 2, GOOD: 1, BEATEN: 2}  # the one without a speed is in one picture
        await pilot.press("G")
        await settle(pilot)
        assert points(words(app).splitlines()) == {MARKED: 1, GOOD: 2, BEATEN: 2}
        await pilot.press("y")
        assert app.clipboard == str(run.path / "artifacts/b")
        await pilot.press("enter")
        await settle(pilot)
        assert app.follower.run == run
        assert app.current_mode == "run"


def shown(app: object) -> list[tuple[Measured, bool]]:
    return list(app.screen.artifacts.values())


def points(lines: list[str]) -> dict[str, int]:
    """How many signs of each kind stand within the pictures' frames."""
    inside = "".join(line[11:] for line in lines if "┫" in line or "┃" in line)
    return {sign: inside.count(sign) for sign in (MARKED, GOOD, BEATEN)}


async def test_a_model_without_artifacts_says_how_to_get_one(make_run: MakeRun) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("p")
        await settle(pilot)
        assert "no exported artifact of this model was measured" in notices(app)[-1]
        await pilot.press("2", "p")
        await settle(pilot)
        assert notices(app)[-1] == "no run is open: o lists them"
        files.archive_file().parent.mkdir(parents=True, exist_ok=True)
        files.archive_file().write_bytes(b"no database " * 100)
        await pilot.press("4", "p")
        await settle(pilot)
        assert "the archive of artifacts cannot be read" in notices(app)[-1]


@SIZES
async def test_two_runs_are_compared_from_the_list(size: tuple[int, int], make_run: MakeRun) -> None:
    make_run("finished")
    make_run("failed", name="20251123T160000-demo-old1")
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        await pilot.press("c")
        await settle(pilot)
        assert "compares it with 20251124T160000-demo-fini" in words(app)
        await pilot.press("c", "c", "j", "c")
        await settle(pilot)
        assert isinstance(app.screen, Reader)
        text = app.screen.text.plain
        header, states, *_ = text.splitlines()
        assert header.split() == ["stage", "figure", "demo-fini", "demo-old1"]
        assert states.split() == ["state", "✓", "done", "✗", "failed"]
        assert "17.42" in text
        await pilot.press("escape")
        assert app.screen.query_one(DataTable).has_focus


def test_the_command_line_compares_too(make_run: MakeRun) -> None:
    one, other = make_run("finished"), make_run("failed")
    assert says.text("compare", f"{one.name} {other.name}") == says.comparison([one, other])
    with pytest.raises(UsageError, match="two runs or more"):
        says.text("compare", one.name)
