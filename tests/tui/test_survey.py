"""Inspect reads whole models in the background: zeros of every matrix, and how far each is from another model's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.folders import written
from recorded import LARGE, PATIENCE, SMALL, MakeRun, app_on, notices, settle, words
from textual.pilot import Pilot
from textual.widgets import Input

from engine.inspection import inspect
from engine.stored import survey
from tui.app import CompressApp
from tui.widgets.modeltree import ModelTree
from tui.widgets.table import LiveTable

BLOCKS, BUDGET = 4, survey.BUDGET
NAMES = [f"model.layers.{block}.mlp.up_proj.weight" for block in range(BLOCKS)]
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


def model(place: str, zeros: list[int]) -> Path:
    """A model whose matrices of 8x8 have so many zeros in each row, and otherwise ones."""
    tensors = {
        "model.embed_tokens.weight": np.ones((16, 8), np.float32),
        "model.codes.weight": np.ones((4, 4), np.int32),
    }
    for name, count in zip(NAMES, zeros, strict=True):
        tensors[name] = np.ones((8, 8), np.float32)
        tensors[name][:, :count] = 0
    return written(Path(place).resolve(), tensors)


@pytest.fixture
def mixed() -> Path:
    return model("mixed", [2, 6, 0, 4])


async def opened(pilot: Pilot[int], app: CompressApp, source: Path) -> ModelTree:
    app.model_source = str(source)
    await pilot.press("1")
    await settle(pilot)
    return app.screen.query_one(ModelTree)


async def compared(pilot: Pilot[int], app: CompressApp, source: Path) -> LiveTable:
    await pilot.press("equals_sign")
    app.screen.query_one(Input).value = str(source)
    await pilot.press("enter")
    return app.screen.query_one("#compare", LiveTable)


def blocks(tree: ModelTree) -> list[str]:
    """The blocks from top to bottom."""
    nodes = sorted(tree.branches(), key=lambda node: node.line)
    return [str(node.label) for node in nodes if str(node.label).isdigit()] or [
        str(line.node.label) for line in tree._tree_lines if str(line.node.label)[0].isdigit()
    ]


@SIZES
async def test_zeros_are_read_for_every_matrix_and_the_whole(size: tuple[int, int], mixed: Path) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        tree = await opened(pilot, app, mixed)
        known = tree.known
        layers = tree.model.children["model"].children["layers"]
        shares = [known.sparsity(layers.children[str(block)], f"model.layers.{block}") for block in range(BLOCKS)]
        assert shares == [0.25, 0.75, 0.0, 0.5]
        assert known.sparsity(layers, "model.layers") == 0.375
        assert (
            known.sparsity(tree.model, "") == 0.25
        )  # of 128 weights in the embedding none is zero; codes have no zeros
        shown = words(app)
        assert "sparse" in shown
        assert "37.5%" in shown
        assert "zeros       25.00%" in shown


async def test_the_tree_sorts_by_zeros_and_the_other_way(mixed: Path) -> None:
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        tree = await opened(pilot, app, mixed)
        await pilot.press("s", "s")
        assert notices(app)[-1] == "sorted by sparsity, largest first"
        tree.expand_all(True)
        await settle(pilot)
        assert blocks(tree)[:BLOCKS] == [f"{block}.mlp.up_proj.weight" for block in (1, 3, 0, 2)]
        await pilot.press("S")
        await settle(pilot)
        assert notices(app)[-1] == "sorted by sparsity, smallest first"
        assert "sparse▲" in words(app)
        tree.expand_all(True)
        await settle(pilot)
        assert blocks(tree)[:BLOCKS] == [f"{block}.mlp.up_proj.weight" for block in (2, 0, 3, 1)]


async def test_what_cannot_be_sorted_says_why(mixed: Path) -> None:
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await opened(pilot, app, mixed)
        await pilot.press("S")
        assert notices(app)[-1] == "the tree is as the file has it: s sorts it"
        await pilot.press("s", "s", "s")
        assert "no open run of this model has measured any" in notices(app)[-1]
        await pilot.press("S")
        assert notices(app)[-1].startswith("no open run of this model has measured any")
        await compared(pilot, app, mixed)
        await settle(pilot)
        await pilot.press("S")
        assert notices(app)[-1] == "the rows are in their natural order: s sorts them"


@SIZES
async def test_every_row_of_a_comparison_is_filled_and_sorted_by_change(size: tuple[int, int], mixed: Path) -> None:
    dense = model("dense", [0, 0, 0, 0])
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await opened(pilot, app, dense)
        table = await compared(pilot, app, mixed)
        await settle(pilot)
        changes = {name: str(table.get_cell(name, "change")) for name in table.order}
        expected = {
            f"{block}.mlp.up_proj": f"{100 * (zeros / 8) ** 0.5:.2f}%" for block, zeros in enumerate([2, 6, 0, 4])
        }
        assert changes == {"model.codes": "-", "model.embed_tokens": "0.00%", **expected}
        assert "6 read · s sorts" in words(app)
        await pilot.press("s")
        await settle(pilot)
        assert table.order[:3] == ["1.mlp.up_proj", "3.mlp.up_proj", "0.mlp.up_proj"]
        assert "change▼" in words(app)
        assert size == SMALL or "I32 values are codes" in words(app)


class Held:
    """Matrices are read when `go` allows it."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, plain: Any, summary: Any, tensor: Any, *more: Any) -> Any:
        self.read.append(f"{Path(summary.path).name} {tensor.name}")
        self.began.set()
        self.go.wait(PATIENCE)
        return plain(summary, tensor, *more)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr("tui.screens.surveying.TURN", 0)
    for name in ("zeros", "apart"):
        plain = getattr(survey, name)
        monkeypatch.setattr(survey, name, lambda *given, plain=plain: held(plain, *given))
    yield held
    held.go.set()


async def test_keys_work_while_matrices_are_read_and_another_screen_ends_it(mixed: Path, held: Held) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        app.model_source = str(mixed)
        await pilot.press("1")
        await asyncio.to_thread(held.began.wait, PATIENCE)
        await pilot.pause()
        tree = app.screen.query_one(ModelTree)
        assert "reading 0 of 6" in words(app)
        await pilot.press("j", "j")
        assert tree.cursor_line == 2
        await pilot.press("4")
        await pilot.pause()
        assert not [worker for worker in app.workers if worker.group == "survey" and not worker.is_finished]
        held.go.set()
        await settle(pilot)
        assert len(held.read) == 1
        await pilot.press("1")
        await settle(pilot)
        assert len(held.read) == 7  # the one that was under way is read again
        assert "zeros       25.00%" in words(app)


async def test_another_model_ends_the_reading_of_the_first(
    mixed: Path, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, there = model("dense", [0, 0, 0, 0]), threading.Event()

    def headers(source: str) -> Any:
        assert source != str(dense) or there.wait(PATIENCE)
        return inspect(source)

    monkeypatch.setattr("tui.screens.inspect.headers", headers)
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        app.model_source = str(mixed)
        await pilot.press("1")
        await asyncio.to_thread(held.began.wait, PATIENCE)
        app.screen.open_model(str(dense))
        await pilot.pause()
        assert not [worker for worker in app.workers if worker.group == "survey" and not worker.is_finished]
        held.go.set()
        there.set()
        await settle(pilot)
        assert [name.partition(" ")[0] for name in held.read] == ["mixed", *["dense"] * 6]
        assert set(app.screen.zeros.values()) == {0.0, None}


async def test_the_chosen_row_is_read_first(mixed: Path, held: Held) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        held.go.set()
        await opened(pilot, app, mixed)
        held.go.clear()
        held.read.clear()
        held.began.clear()
        await compared(pilot, app, mixed)
        await asyncio.to_thread(held.began.wait, PATIENCE)
        await pilot.press("G")
        await pilot.pause()
        held.go.set()
        await settle(pilot)
        assert [name.partition("layers.")[2] for name in held.read[:3]] == ["", "3.mlp.up_proj.weight", ""]
        assert len(held.read) == 6


async def test_a_tree_sorted_before_all_is_read_is_sorted_again_where_one_is(mixed: Path, held: Held) -> None:
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        app.model_source = str(mixed)
        await pilot.press("1")
        await asyncio.to_thread(held.began.wait, PATIENCE)
        await pilot.press("s", "s")
        assert "no sparsity is known yet" in notices(app)[-1]
        tree = app.screen.query_one(ModelTree)
        tree.expand_all(True)
        await pilot.pause()
        await pilot.press("G", "k")
        at = tree.path_of(tree.cursor_node)
        held.go.set()
        await settle(pilot)
        assert blocks(tree)[:BLOCKS] == [f"{block}.mlp.up_proj.weight" for block in (1, 3, 0, 2)]
        assert tree.path_of(tree.cursor_node) == at


async def test_a_run_of_the_model_says_what_it_pruned(mixed: Path, make_run: MakeRun) -> None:
    app = app_on(make_run("finished", source=str(mixed)))
    async with app.run_test(size=LARGE) as pilot:
        tree = await opened(pilot, app, mixed)
        layers = tree.model.children["model"].children["layers"]
        assert tree.known.zeros["1.mlp.up_proj"] == 0.75
        assert tree.known.sparsity(layers.children["1"], "model.layers.1") == pytest.approx(0.5, abs=0.01)


def test_large_matrices_are_read_in_part(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "BUDGET", BUDGET)
    assert survey.most_of_one(1) == survey.MOST
    assert survey.most_of_one(562) * 562 <= survey.BUDGET
    summary = inspect(str(mixed))
    seen: list[int] = []
    plain = survey.read
    monkeypatch.setattr(survey, "read", lambda *given: (found := plain(*given), seen.append(found.values_RC.size))[0])
    assert survey.zeros(summary, next(t for t in summary.tensors if t.name == NAMES[1]), 32) == 0.75
    assert seen == [32]
