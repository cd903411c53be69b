"""Whole screens, word for word: a small and a narrow terminal, with colours and without. UPDATE_GOLDEN=1 records them anew."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from recorded import SMALL, MakeRun, app_on, settle, words

from tui.app import CompressApp
from tui.usage import Meter

Golden = Callable[[str, str], None]
NARROW = (50, 24)
STATES = {
    "empty": (None, "2"),
    "running": ("running", "2"),
    "error": ("failed", "2"),
    "finished": ("finished", "2"),
    "prompts": ("finished", "3"),
}
"""{state: the recording, the key of the screen}"""


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands two seconds after the last event; what this process takes of the machine is no part of a picture."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(Meter, "read", lambda *asked: None)
    monkeypatch.setattr(
        CompressApp, "now", lambda app: (app.follower.state.updated or 0.0) + 2 if app.follower else 0.0
    )


@pytest.mark.parametrize("colours", ["colours", "NO_COLOR"])
@pytest.mark.parametrize("size", [SMALL, NARROW], ids=["80x24", "50x24"])
@pytest.mark.parametrize("state", STATES)
async def test_a_screen_word_for_word(
    state: str, size: tuple[int, int], colours: str, golden: Golden, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colours == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    recording, key = STATES[state]
    app = app_on(make_run(recording, alive=recording == "running") if recording else None)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        app.export_screenshot()  # goes through the filter that takes the colours out
        shown = "".join(f"{line.rstrip()}\n" for line in words(app).splitlines())
    golden(f"{state}-{size[0]}x{size[1]}", shown)
