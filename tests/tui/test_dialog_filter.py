"""The filter in dialogs with lists and tables: as on screens, at once, kept by enter, gone with esc."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import SMALL, MakeRun, app_on, settle, words

from tui.app import CompressApp
from tui.screens.dialogs import Dialog
from tui.widgets.table import LiveTable
from tui.widgets.typed import Options

PLACES = {
    "runs": ("o", "failed", "20251123T160000-edge-old1"),
    "files": ("F", "examples", "artifacts/prompts/examples.jsonl"),
    "steps": ("4 a a", "integer", "quantize"),
    "profiles": ("4 equals_sign", "edg", "edge"),
    "themes": ("T", "contr", "compress-contrast"),
    "folders": ("1 m tab", "aa", "aa"),
}
"""{dialog: the keys that open it, what is typed, the one row that is left}"""


def shown(app: CompressApp) -> list[str]:
    """The rows of the dialog."""
    target = app.screen.target
    if isinstance(target, LiveTable):
        return target.order
    assert isinstance(target, Options)
    return [Path(str(option.id)).stem if "/" in str(option.id) else str(option.id) for option in target.options]


@pytest.mark.parametrize("place", PLACES)
async def test_what_is_typed_leaves_the_rows_that_contain_it(place: str, make_run: MakeRun) -> None:
    for folder in ("aa", "bb"):
        Path(folder).mkdir()
    make_run("failed", name="20251123T160000-edge-old1")
    keys, typed, left = PLACES[place]
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        for key in keys.split():
            await pilot.press(key)
            await settle(pilot)
        dialog, every = app.screen, shown(app)
        assert isinstance(dialog, Dialog)
        assert len(every) > 1
        await pilot.press("slash", *typed)
        await settle(pilot)
        assert shown(app) == [left]
        assert f"/{typed}" in words(app)
        await pilot.press("enter")  # keeps it
        await settle(pilot)
        assert (app.screen, shown(app), app.focused) == (dialog, [left], dialog.target)
        await pilot.press("escape")
        await settle(pilot)
        assert (app.screen, shown(app)) == (dialog, every)
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is not dialog


async def test_the_row_that_was_found_is_the_one_that_opens(make_run: MakeRun) -> None:
    run = make_run("failed", name="20251123T160000-edge-old1")
    app = app_on(make_run("finished"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        await pilot.press("slash", *"edge", "enter", "enter")
        await settle(pilot)
        assert app.follower.run == run
