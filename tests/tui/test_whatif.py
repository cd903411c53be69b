"""What-if sizes: by hand on a small model, and what was typed wrongly said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, settle, words
from textual.widgets import Input

from engine.errors import UsageError
from engine.summary import ModelSummary, TensorInfo
from tui import whatif
from tui.whatif import WhatIf

TENSORS = (
    TensorInfo("model.embed_tokens.weight", (100, 8), "BF16", 1600, "m"),
    TensorInfo("model.layers.0.mlp.up_proj.weight", (16, 8), "BF16", 256, "m"),
    TensorInfo("model.layers.0.input_layernorm.weight", (8,), "BF16", 16, "m"),
)
MODEL = ModelSummary("m", "safetensors", "Llama", TENSORS, {}, {})
REST = 1616


@pytest.mark.parametrize(
    ("text", "asked", "sizes"),
    [
        ("", WhatIf(), {"now": (1872, 1872), "zeros stored": (1872, 1872)}),
        ("bits=4 group=64", WhatIf(0.0, 4, 64), {"now": (1872, 1872), "zeros stored": (REST + 68, REST + 68)}),
        (
            "sparsity=50%",
            WhatIf(0.5),
            {
                "now": (1872, 1872),
                "zeros stored": (1872, 1872),
                "zeros masked": (REST + 128 + 16, 1872),
                "2:4 packed": (REST + 128 + 16, REST + 128 + 16),
            },
        ),
        (
            "sparsity=0.75, bits=8",
            WhatIf(0.75, 8),
            {"now": (1872, 1872), "zeros stored": (REST + 130, REST + 130), "zeros masked": (REST + 50, REST + 130)},
        ),
    ],
)
def test_sizes_by_hand(text: str, asked: WhatIf, sizes: dict[str, tuple[int, int]]) -> None:
    assert whatif.parse(text) == asked
    assert whatif.sizes(MODEL, asked) == sizes


def test_loaded_there_are_keys_and_values_too() -> None:
    config = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 8}
    found = whatif.sizes(replace(MODEL, config=config), WhatIf(bits=4, group=64))
    assert {name: taken.memory - taken.disk for name, taken in found.items()} == {
        "now": 1000 * 8 * 2 * 2, "zeros stored": 1000 * 8 * 2 * 2,
    }  # fmt: skip


def test_a_model_without_blocks_stays_as_it_is() -> None:
    found = whatif.sizes(replace(MODEL, tensors=TENSORS[:1]), WhatIf(0.5, 4))
    assert set(found.values()) == {(1600, 1600)}


@pytest.mark.parametrize("text", ["sparsity=1", "bits=0", "bits=64", "group=0", "half", "sparsity=-1", "speed=2"])
def test_what_cannot_be_meant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        whatif.parse(text)
    assert caught.value.hint == whatif.EXAMPLE


def test_the_words_say_the_change_against_now() -> None:
    said, head, now, stored, masked, loaded = whatif.table(MODEL, WhatIf(0.75, 8))
    assert said == "75.0% zeros, 8 bits, groups of 128"
    assert head.split() == ["on", "disk", "change", "loaded", "change"]
    assert now.split() == ["now", "1.9", "kB", "1.9", "kB"]
    assert stored.split()[2:] == ["1.7", "kB", "-6.7%", "1.7", "kB", "-6.7%"]
    assert masked.split()[2:] == ["1.7", "kB", "-11.0%", "1.7", "kB", "-6.7%"]
    assert "masks unpacked" in loaded
    narrow = [line.split() for line in whatif.narrow(MODEL, WhatIf(0.75, 8))]
    assert narrow[-3:-1] == [["zeros", "masked", "1.7", "kB", "-11.0%"], ["loaded", "1.7", "kB", "-6.7%"]]


async def test_what_is_typed_is_answered_at_once_and_kept_in_the_totals(tmp_path: Path) -> None:
    app = app_on()
    async with app.run_test(size=LARGE) as pilot:
        await pilot.press("1")
        await settle(pilot)
        app.screen.summary = MODEL
        app.screen._fill(MODEL)
        await settle(pilot)
        await pilot.press("t")
        await settle(pilot)
        assert "zeros masked" in words(app)
        app.screen.query_one(Input).value = "sparsity=2"
        await settle(pilot)
        assert "hint: sparsity=0.5" in words(app)
        app.screen.query_one(Input).value = "bits=4 group=64"
        await pilot.press("enter")
        await settle(pilot)
        assert "no zeros, 4 bits" in words(app)
        assert "-10.0%" in words(app)


async def test_the_command_of_a_run_that_may_run_code_says_so(make_run: MakeRun) -> None:
    run = make_run("finished")
    first, *rest = run.events_file.read_text().splitlines(keepends=True)
    run.events_file.write_text(json.dumps({**json.loads(first), "allow_code": True}) + "\n" + "".join(rest))
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("Y")
        assert app.clipboard == f"compress-tui run --profile {run.profile_file} --allow-code"


async def test_the_command_that_repeats_it_is_copied(make_run: MakeRun) -> None:
    run = make_run("finished")
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("Y")
        assert app.clipboard == f"compress-tui run --profile {run.profile_file}"
        await pilot.press("4")
        await settle(pilot)
        app.screen.take('model.source="./my model"')
        await pilot.press("Y")
        assert app.clipboard == "compress-tui run --profile demo --set 'model.source=\"./my model\"'"
