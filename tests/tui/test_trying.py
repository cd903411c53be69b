"""Editing a prompt and scoring it at once: what is asked of the worker, what it answers, what cannot be edited."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, append, notices, settle, words
from textual.pilot import Pilot
from textual.widgets import TextArea

from engine import events as ev
from engine.errors import EngineError
from tui.app import CompressApp
from tui.resident import Resident, Said
from tui.screens.trying import TryScreen
from tui.widgets.table import LiveTable

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


class Worker(Resident):
    """Answers with two looks for each model; `held` stops before the second."""

    def __init__(self, error: EngineError | None = None) -> None:
        super().__init__()
        self.asked: list[Said] = []
        self.error, self.closed, self.held = error, False, threading.Event()
        self.held.set()

    def said(self, request: Said) -> Generator[Said, None, None]:
        self.asked.append(request)
        if self.error:
            raise self.error
        for rows in (8, 100):
            for model in request["models"]:
                yield {"model": model, **figures(rows)}
            self.held.wait(30)

    def close(self) -> None:
        self.closed = True
        self.held.set()


def figures(rows: int) -> dict[str, Any]:
    both = {"original": 0.6, "edited": 0.75}
    line = {name: {"value": v, "low": v - 0.1, "high": v + 0.1, "tokens": 9} for name, v in both.items()}
    told = {
        "done": True,
        "n": 100,
        "difference": 0.15,
        "low": 0.05,
        "high": 0.25,
        "p_value": 0.004,
        "verdict": "better",
    }
    return {"rows": rows, "of": 100, "metric": "accuracy", "seconds": 1.5, **line, **(told if rows == 100 else {})}


async def editing(pilot: Pilot[int], app: CompressApp) -> Any:
    """The editor of the chosen prompt."""
    await pilot.press("3")
    await settle(pilot)
    await pilot.press("e")
    await settle(pilot)
    return app.screen


@SIZES
async def test_the_edited_text_is_scored_beside_the_original(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("finished")
    folder = run.artifacts / "model-safetensors"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    app, worker = app_on(run), Worker()
    app.resident = worker
    async with app.run_test(size=size) as pilot:
        screen = await editing(pilot, app)
        original = app.follower.state.candidates["c03"].text
        assert screen.query_one(TextArea).text == original
        await pilot.press(*"Hm. ", "ctrl+r")
        await settle(pilot)
        (asked,) = worker.asked
        assert (asked["text"], asked["original"], asked["step"]) == (f"Hm. {original}", original, 1)
        assert asked["models"] == ["demo", str(folder)]
        assert asked["profile"] == str(run.profile_file)
        shown = words(app)
        for text in ("dense", "compressed", "100 of 100 development rows", "original 60.0%", "75.0% [65.0, 85.0]"):
            assert text in shown
        assert "▲ better  +15.0 [+5.0, +25.0] points, p 0.004" in shown
        await pilot.press("ctrl+o")
        assert app.clipboard == f"Hm. {original}"
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen.id == "prompts"
        assert not worker.closed


async def test_first_figures_come_before_the_last_and_leaving_ends_the_worker(make_run: MakeRun) -> None:
    app, worker = app_on(make_run("finished")), Worker()
    app.resident = worker
    worker.held.clear()
    async with app.run_test(size=SMALL) as pilot:
        screen = await editing(pilot, app)
        assert "the dense one alone" in words(app)  # the run's folder holds no model
        await pilot.press("ctrl+r")
        while not screen.lines:
            await pilot.pause()
        await pilot.pause()
        assert "8 of 100 development rows" in words(app)
        assert "better" not in str(screen.query_one("#tried").content)
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert "still scoring" in notices(app)[-1]
        await pilot.press("escape")
        await settle(pilot)
        assert worker.closed
        assert len(worker.asked) == 1
        assert app.screen.id == "prompts"


async def test_what_the_worker_refuses_is_said_with_its_hint(make_run: MakeRun) -> None:
    app = app_on(make_run("finished"))
    app.resident = Worker(EngineError("unknown field {txet}", where="the edited prompt", hint="did you mean text?"))
    async with app.run_test(size=SMALL) as pilot:
        screen = await editing(pilot, app)
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert "hint: did you mean text?" in words(app)
        assert not screen.going


@SIZES
async def test_a_chat_is_edited_turn_by_turn_and_scored(size: tuple[int, int], make_run: MakeRun) -> None:
    run, chat = make_run("finished"), "<system>\nBe brief.\n\n<user>\n{text}"
    append(run, ev.to_json(ev.CandidateAdded(step=1, candidate="talk", text=chat, origin="pool", tokens=8)))
    app, worker = app_on(run), Worker()
    app.resident = worker
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await settle(pilot)
        app.screen.query_one("#candidates", LiveTable).select("talk")
        await pilot.press("e")
        await settle(pilot)
        assert isinstance(app.screen, TryScreen)
        assert "a line <system>, <user> or <assistant> begins each turn" in words(app)
        await pilot.press("down", *"Very. ", "ctrl+r")
        await settle(pilot)
        assert worker.asked[0]["text"] == "<system>\nVery. Be brief.\n\n<user>\n{text}"
        assert worker.asked[0]["original"] == chat
        assert "▲ better" in words(app)


@pytest.mark.parametrize(
    ("text", "why"), [("<8 virtual tokens>Review", "soft prompt"), ("<8 virtual tokens><user>\nHm", "soft")]
)
async def test_what_no_text_shows_is_not_edited(text: str, why: str, make_run: MakeRun) -> None:
    run = make_run("running")
    append(run, ev.to_json(ev.CandidateAdded(step=1, candidate="other", text=text, origin="pool", tokens=8)))
    app = app_on(run)
    async with app.run_test(size=SMALL) as pilot:
        await editing(pilot, app)
        assert not isinstance(app.screen, TryScreen)
        assert why in notices(app)[-1]
