"""config.toml: keys, theme and mouse of one's own, and what is wrong with them said before the app opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import LARGE, SMALL, MakeRun, settle, words

from engine.errors import UsageError
from tui import keys, settings
from tui.app import CompressApp
from tui.screens.help import help_screen


def written(text: str) -> settings.Settings:
    settings.file().write_text(text)
    return settings.load()


def test_without_a_file_there_are_the_defaults() -> None:
    assert settings.load() == settings.Settings()


def test_the_file_lies_in_the_users_configuration_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COMPRESS_TUI_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings.file() == tmp_path / "compress-tui" / "config.toml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("theme = 'compress-drak'", "is no theme"),
        ("mouse = 'no'", "true or false"),
        ("colour = 1", "is no setting"),
        ("[keys]\ncancle = 'X'", "is no action"),
        ("[keys]\ncancel = 'y'", "'y' would be cancel and copy in run"),
        ("[keys]\ncancel = []", "a key or a list of keys"),
        ("theme = ", "cannot read the settings"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_place(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        written(text)
    assert str(settings.file()) in (caught.value.where or "")


async def test_own_keys_work_and_are_the_ones_shown(make_run: MakeRun) -> None:
    own = written('[keys]\nsort = "?"\nhelp = ["F1", "H"]\nprofiles = "ctrl+t"')
    app = CompressApp(None, make_run("finished"), own)
    async with app.run_test(size=LARGE) as pilot:
        await settle(pilot)
        foot = str(app.screen.query_one("#foot").content)
        assert foot.startswith(" f1 help")
        assert "? sort" in foot
        assert "ctrl+t Profiles" in words(app)
        assert "f1 H" in help_screen("run", app.keys).text.plain
        await pilot.press("question_mark")
        assert app.screen.query_one("#layers").sort_key is not None
        await pilot.press("s")
        assert app.screen.query_one("#layers").sort_key == "layer"
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert app.current_mode == "profiles"


@pytest.mark.parametrize("theme", settings.THEMES)
async def test_the_words_are_the_same_in_every_theme(theme: str, make_run: MakeRun) -> None:
    run = make_run("finished")
    seen = []
    for name in (settings.THEMES[0], theme):
        app = CompressApp(None, run, settings.Settings(theme=name))
        async with app.run_test(size=SMALL) as pilot:
            await settle(pilot)
            app.export_screenshot()
            seen.append(words(app))
    assert seen[0] == seen[1]


def test_people_write_keys_as_they_see_them() -> None:
    assert [keys.name(key) for key in ("?", "esc", "X", "ctrl+x", ":")] == [
        "question_mark", "escape", "X", "ctrl+x", "colon",
    ]  # fmt: skip
