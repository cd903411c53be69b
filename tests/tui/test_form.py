"""The form of a profile: every key of the options models, what is wrong in its row, the text beside it, both live."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli
from recorded import LARGE, MINE, SMALL, app_on, settle, words
from textual.widgets import Input

from engine import profile
from engine.registry import STEPS
from tui import completion, fields
from tui.widgets.formview import FormView
from tui.widgets.tomlview import TomlView

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])
SHIPPED = pytest.mark.parametrize("file", profile.shipped(), ids=lambda file: file.stem)


@SHIPPED
def test_every_field_typed_as_it_is_changes_nothing(file: profile.ProfileFile) -> None:
    """The round trip: the profile with every value of the form as an override is the profile."""
    text = file.text()
    checked = profile.parse(text, "x", base=file.path.parent)
    found = fields.of(text)
    typed = [f"{field.key}={field.value}" for field in found if field.value or field.given]
    assert profile.parse(text, "x", typed, base=file.path.parent) == checked
    assert len({field.key for field in found}) == len(found)


@pytest.mark.parametrize("use", list(STEPS))
def test_a_step_has_every_key_of_its_options_with_help(use: str) -> None:
    found = {field.key: field for field in fields.of(f'[[step]]\nuse = "{use}"\n')}
    flat = {key.split(".")[2] for key in found if key.startswith("step.0.")}
    assert flat == set(STEPS[use].options_model().model_fields)
    assert all(field.kind for field in found.values())
    assert found["step.0.use"].help.startswith(completion.complete("")[use].split("\n")[0][:20])


def test_what_a_value_may_be_is_said() -> None:
    found = {field.key: field for field in fields.of(MINE)}
    assert found["step.0.sparsity"].kind == "a number, at least 0, below 1"
    assert found["step.0.criterion"].kind.startswith("one of admm, importance, magnitude")
    assert "such as blocks" in found["step.0.pattern"].kind
    assert found["seed"].kind == "a whole number, at least 0 · default 0"
    assert (found["step.1.pattern"].value, found["step.1.pattern"].given) == ("2:4", True)
    assert tomli.loads("x = " + found["step.2.shares"].value)["x"]["2"] == 0.5


@pytest.mark.parametrize("text", ["[[step\n", "step = 3\n", '[[step]]\nuse = "nosuch"\n', "model = 1\n", "task = 1\n"])
def test_a_text_with_mistakes_has_the_fields_that_it_can_have(text: str) -> None:
    found = fields.of(text)
    assert (not found) == (text == "[[step\n")


def test_the_line_of_a_key_is_found() -> None:
    lines = (MINE + "[step.select]\nseed = 1\n[gate]\nsize_ratio = 0.5\n").splitlines()
    text = "\n".join(lines)

    def line(key: str) -> str | None:
        number = fields.line_of(text, key)
        return None if number is None else lines[number]

    assert line("name") == 'name = "mine"'
    assert line("model.source") == 'source = "demo"'
    assert line("model.device") == "[model]"
    assert line("step.0.sparsity") == "sparsity = 0.6"
    assert line("step.2.sparsity") == "sparsity = 0.7"
    assert line("step.2.select.seed") == "seed = 1"
    assert line("gate.size_ratio") == "size_ratio = 0.5"
    assert line("seed") is None
    assert fields.line_of(text, "step.1.criterion") == lines.index("[[step]]", lines.index("[[step]]") + 1)


@SIZES
async def test_a_value_is_changed_in_its_row_with_the_text_beside_it(size: tuple[int, int]) -> None:
    Path("mine.toml").write_text(MINE)
    app = app_on(profile="mine.toml")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        form, text = app.screen.query_one(FormView), app.screen.query_one(TomlView)
        await pilot.press("e")
        await settle(pilot)
        assert form.line.has_focus
        assert form.line.value == "name=mine"
        form.mark("step.0.criterion")
        await pilot.press("down")
        assert form.line.value == "step.0.sparsity=0.6"
        await pilot.press(*["backspace"] * 3, *"1", "full_stop", "5")
        await settle(pilot)
        shown = words(app)
        assert re.search(r"✗  step\.0\.sparsity +1\.5", shown)
        assert "✗ Input should be less than 1" in shown
        assert "sparsity = 0.6" in text.shown
        await pilot.press("enter")
        assert app.screen.draft.changes == []
        await pilot.press(*["backspace"] * 3, "0", "full_stop", "7")
        await settle(pilot)
        shown = words(app)
        assert re.search(r"~  step\.0\.sparsity +0\.7", shown)
        assert "sparsity = 0.7" in shown, "the text stands beside the form, at the marked line"
        assert app.screen.draft.changes == [], "nothing is entered yet"
        await pilot.press("enter")
        assert app.screen.draft.changes == ["step.0.sparsity=0.7"]
        await pilot.press("enter")
        await settle(pilot)
        assert form.table.has_focus, "with nothing changed, enter goes back to the rows"
        await pilot.press("escape", "u")
        await settle(pilot)
        assert text.shown == MINE


@SIZES
async def test_the_row_follows_the_key_that_is_typed(size: tuple[int, int]) -> None:
    app = app_on()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("tab", "j", "enter")
        await settle(pilot)
        form = app.screen.query_one(FormView)
        assert form.line.value.startswith("description=")
        app.screen.query_one("#change", Input).value = "step.1.robustness_rows=30"
        await settle(pilot)
        assert form.marked
        assert form.marked.key == "step.1.robustness_rows"
        assert "test rows that are disturbed" in words(app)
        assert "a whole number, at least 1" in words(app)


async def test_rows_are_filtered_and_the_enter_key_is_named(tmp_path: Path) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("tab")
        await settle(pilot)
        assert "enter change" in words(app)
        await pilot.press("slash", *"sparsity", "enter")
        await settle(pilot)
        assert app.screen.query_one(FormView).table.order[0] == "step.0.sparsity"
        assert app.why_not("queue") is None
