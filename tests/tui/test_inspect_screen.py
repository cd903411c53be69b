"""The Inspect screen: the tree from headers, totals, one matrix, the sparsity that the open run gave it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from recorded import LARGE, MIDDLE, SMALL, MakeRun, app_on, settle, words
from textual.widgets import Input

from tui.app import CompressApp
from tui.widgets.modeltree import ModelTree
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
BLOCKS = 12


@pytest.fixture
def model() -> Path:
    """A safetensors file of a few layers, weights all zero, beside its configuration."""
    tensors = {"model.embed_tokens.weight": [64, 8]}
    for block in range(BLOCKS):
        tensors[f"model.layers.{block}.self_attn.q_proj.weight"] = [8, 8]
        tensors[f"model.layers.{block}.mlp.down_proj.weight"] = [8, 32]
    header, offset = {}, 0
    for name, (rows, columns) in tensors.items():
        size = 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, offset + size]}
        offset += size
    folder = Path("small").resolve()
    folder.mkdir()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    config = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": BLOCKS,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def lines(app: CompressApp) -> list[str]:
    tree = app.screen.query_one(ModelTree)
    return [str(line.node.label) for line in tree._tree_lines]


@SIZES
async def test_a_model_is_opened_by_its_path(size: tuple[int, int], model: Path) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await pilot.press("1")
        await settle(pilot)
        assert "No model is open" in words(app)
        await pilot.press("m")
        await pilot.pause()
        app.screen.query_one(Input).value = str(model)
        await pilot.press("enter")
        await settle(pilot)
        shown = words(app)
        for text in ("Llama", "parameters", "float32", "int4", "KV cache", "share"):
            assert text in shown
        assert lines(app)[:3] == ["model", "embed_tokens.weight", "layers"]
        assert "11" in lines(app)


async def test_branches_open_sort_and_filter(model: Path) -> None:
    app = app_on()
    app.model_source = str(model)
    async with app.run_test(size=MIDDLE) as pilot:
        await pilot.press("1")
        await settle(pilot)
        await pilot.press("j", "j", "j", "enter")
        await settle(pilot)
        assert "self_attn.q_proj.weight" in lines(app)
        assert "model.layers.0" in words(app)
        await pilot.press("slash", *"7.mlp", "enter")
        await settle(pilot)
        assert lines(app) == ["model", "layers", "7.mlp.down_proj.weight"] or "7" in lines(app)
        assert "self_attn.q_proj.weight" not in lines(app)
        await pilot.press("escape", "s")
        await settle(pilot)
        assert app.screen.query_one(ModelTree).order == "bytes"
        assert "bytes▼" in words(app)
        await pilot.press("E")
        await settle(pilot)
        assert lines(app).count("self_attn.q_proj.weight") == BLOCKS


@SIZES
async def test_the_open_run_adds_its_sparsity(size: tuple[int, int], model: Path, make_run: MakeRun) -> None:
    app = app_on(make_run("finished", source=str(model)))
    app.model_source = "small"  # the same folder in other words
    async with app.run_test(size=size) as pilot:
        await pilot.press("1")
        await settle(pilot)
        shown = words(app)
        assert "sparse" in shown
        assert "50.0%" in shown
        assert size == SMALL or "Error by block" in shown


@SIZES
async def test_a_run_of_another_model_adds_nothing(size: tuple[int, int], model: Path, make_run: MakeRun) -> None:
    app = app_on(make_run("allocated", source="/elsewhere/model"))
    app.model_source = str(model)  # its matrices have the same names
    async with app.run_test(size=size) as pilot:
        await pilot.press("1")
        await settle(pilot)
        shown = words(app)
        assert "50.0%" not in shown  # of the weights in its file all are zero
        assert "100.0% 100.0%" in shown
        assert "Error by block" not in shown
        await pilot.press("tab")
        await settle(pilot)
        assert "another model" in words(app)
        assert "/elsewhere/model" in words(app)


async def test_the_model_that_the_run_wrote_has_its_sparsity_too(model: Path, make_run: MakeRun) -> None:
    run = make_run("finished", source="/elsewhere/model")
    written = run.artifacts / "model"
    model.rename(written)
    app = app_on(run)
    app.model_source = str(written)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1")
        await settle(pilot)
        assert "50.0%" in words(app)


async def test_the_tree_sorts_by_what_matrices_err_alone(model: Path, make_run: MakeRun) -> None:
    app = app_on(make_run("allocated", source=str(model)))
    app.model_source = str(model)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("1")
        await settle(pilot)
        await pilot.press("s", "s", "s")
        await settle(pilot)
        tree = app.screen.query_one(ModelTree)
        assert tree.order == "sensitivity"
        assert "sens▼" in words(app)
        tree.expand_all(True)
        await settle(pilot)
        blocks = [node for node in tree.branches() if tree.path_of(node).rpartition(".")[2].isdigit()]
        shown = [
            tree.known.sensitivity(node.data, tree.path_of(node)) for node in sorted(blocks, key=lambda node: node.line)
        ]
        known = [error for error in shown if error is not None]
        assert len(known) > 2
        assert known == sorted(known, reverse=True)
        assert known[0] == max(
            error for name, error in tree.known.tried.items() if int(name.partition(".")[0]) < len(known)
        )


@SIZES
async def test_sensitivity_is_shown_worst_first_and_explained(
    size: tuple[int, int], model: Path, make_run: MakeRun
) -> None:
    app = app_on(make_run("allocated", source=str(model)))
    app.model_source = str(model)
    async with app.run_test(size=size) as pilot:
        await pilot.press("1")
        await settle(pilot)
        await pilot.press("tab")
        await settle(pilot)
        shown = words(app)
        assert "error at 30% 50% 70% sparsity" in shown
        assert "worst 29: 0.0711" in shown
        table = app.screen.query_one("#sensitivity", LiveTable)
        assert table.order[0] == "model.layers.29.mlp.down_proj.weight"
        assert str(table.get_cell(table.order[0], "curve")) == "▁▃█"
        losses = [str(table.get_cell(name, "loss")) for name in table.order]
        assert losses[:30] == sorted(losses[:30], key=float, reverse=True)
        assert set(losses[30:]) == {"-"}
        await pilot.press("j", "y")
        assert app.clipboard == table.order[1]
        await pilot.press("enter")
        await settle(pilot)
        shown = words(app)
        assert app.screen.active.id == "matrix-pane"
        for text in (table.order[1][:30], "because", "outliers", "loss at 50%", "nats a token"):
            assert text in shown


async def test_without_sensitivity_it_says_what_measures_it(model: Path) -> None:
    app = app_on()
    app.model_source = str(model)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1")
        await settle(pilot)
        await pilot.press("tab")
        await settle(pilot)
        assert 'use = "sensitivity"' in words(app)


async def test_what_is_not_there_is_said_with_a_hint() -> None:
    app = app_on()
    app.model_source = "nowhere/[x]/nothing.gguf"
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1")
        await settle(pilot)
        assert "error: nowhere/[x]/nothing.gguf" in words(app)
        assert "open another model" in words(app)
        assert app._exception is None


async def test_a_model_that_cannot_be_read_is_not_what_commands_are_about(model: Path) -> None:
    app = app_on()
    app.model_source = str(model)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1")
        await settle(pilot)
        app.inspect_model("nowhere/nothing.gguf")
        await settle(pilot)
        assert "error: nowhere/nothing.gguf" in words(app)
        assert app.model_source == str(model)


async def test_with_nothing_open_the_demo_is_one_key_away() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1")
        await settle(pilot)
        assert app.screen.focused is None
        await pilot.press("enter")
        await settle(pilot)
        assert app.model_source == "demo"


async def test_copying_the_name_of_a_matrix(model: Path) -> None:
    app = app_on()
    app.model_source = str(model)
    async with app.run_test(size=SMALL) as pilot:
        await pilot.press("1")
        await settle(pilot)
        await pilot.press("j", "y")
        assert app.clipboard == "model.embed_tokens.weight"


async def test_brackets_in_a_name_are_no_markup(model: Path) -> None:
    named = model.rename(model.with_name("my[red]model"))
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        app.inspect_model(str(named))
        await settle(pilot)
        assert "Model · my[red]model" in words(app)
