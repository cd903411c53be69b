"""The themes: which are offered, shown while they are chosen, kept in config.toml, and what NO_COLOR leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import SMALL, app_on, notices, settle, words
from textual.pilot import Pilot
from textual.widgets import OptionList

from tui import settings
from tui.app import CompressApp

MINE = """# mine
mouse = false  # the terminal's

[keys]
# as in vi
cancel = "X"
"""


async def choose(pilot: Pilot[int], *keys: str) -> None:
    await settle(pilot)
    await pilot.press("T")
    await settle(pilot)
    await pilot.press(*keys)
    await settle(pilot)


async def test_only_the_apps_own_themes_are_offered() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await choose(pilot)
        offered = [option.id for option in app.screen.query_one(OptionList).options]
        assert offered == list(settings.THEMES)
        assert all(word in words(app) for word in ("dark", "light", "ansi", "high contrast"))


async def test_the_marked_theme_is_shown_and_goes_with_esc() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await choose(pilot, "j")
        assert app.theme == "compress-light"
        await pilot.press("escape")
        await settle(pilot)
        assert app.theme == "compress-dark"
        assert not settings.file().exists()


async def test_a_screen_shown_again_has_the_theme_chosen_on_another() -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await choose(pilot)
        await pilot.press("escape", "1")
        await settle(pilot)
        dark = app.screen.styles.background
        await pilot.press("4")
        await choose(pilot, "j", "enter")
        light = app.screen.styles.background
        await pilot.press("1")
        await settle(pilot)
        assert app.screen.id == "inspect"
        assert app.screen.styles.background == light != dark


@pytest.mark.parametrize("before", [None, "", MINE, "theme = 'compress-ansi' # now\n" + MINE])
async def test_a_chosen_theme_is_there_at_the_next_start_and_comments_stay(before: str | None) -> None:
    if before is not None:
        settings.file().write_text(before)
    app = CompressApp(settings=settings.load())
    async with app.run_test(size=SMALL) as pilot:
        await choose(pilot, "j", "enter")
        chosen = app.theme
        assert str(settings.file()) in notices(app)[-1]
    kept = settings.file().read_text()
    assert settings.load().theme == CompressApp(settings=settings.load()).theme == chosen
    assert all(line in kept for line in (before or "").replace("'compress-ansi'", f'"{chosen}"').splitlines())


async def test_a_linked_settings_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    settings.file().symlink_to(tmp_path / "dotfiles" / "mine.toml")
    settings.store("theme", "compress-light")
    assert settings.file().is_symlink()
    assert settings.load().theme == "compress-light"


@pytest.mark.parametrize("flaw", ["a file for a folder", "no TOML"])
async def test_settings_that_cannot_be_written_are_told_and_the_theme_holds(
    flaw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        settings.file().write_text("theme = ")
        if flaw != "no TOML":
            monkeypatch.setenv("COMPRESS_TUI_CONFIG", str(tmp_path / "config.toml" / "config.toml"))
        await choose(pilot, "j", "enter")
        assert app.theme == "compress-light"
        assert "cannot keep the settings" in notices(app)[-1]
        assert "theme holds until the app is left" in notices(app)[-1]


async def test_no_color_stays_above_the_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = app_on()
    async with app.run_test(size=SMALL) as pilot:
        await choose(pilot, "j", "enter")
        assert app.theme == "compress-light"
        assert "NO_COLOR is set, so none is shown" in notices(app)[-1]
        assert "#0b7285" not in app.export_screenshot().lower()
