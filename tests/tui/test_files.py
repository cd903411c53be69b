"""What leaves the app as a file, and the files of a run: the table of prompts written, a run's files read."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from recorded import LARGE, SMALL, MakeRun, app_on, notices, settle, words

from engine.records import Latest
from engine.state import RunState
from tui import exporting
from tui.screens.dialogs import Ask, Choice, Reader, printed
from tui.screens.folder import READ, FolderScreen, readable, rows
from tui.widgets import candidates

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x45"])


@pytest.fixture
def state(make_run: MakeRun) -> RunState:
    return make_run("finished").state()


def test_every_form_holds_every_prompt_in_the_order_of_the_table(state: RunState) -> None:
    names = list(candidates.rows(state))
    records = json.loads(exporting.text(state, "c03", ".json"))
    assert [record["prompt"] for record in records] == names
    first = records[0]
    assert first["prompt"] == "c03"
    assert round(first["compressed accuracy"], 3) == 0.768
    assert round(first["difference"], 3) == 0.139
    assert (first["against"], first["verdict"], first["metric"]) == ("plain", "better", "accuracy")
    assert first["text"] == state.candidates["c03"].text
    plain = next(record for record in records if record["prompt"] == "plain")
    assert (plain["against"], plain["difference"]) == (None, None)
    read = list(csv.DictReader(io.StringIO(exporting.text(state, "c03", ".csv"))))
    assert [row["prompt"] for row in read] == names
    assert [row["text"] for row in read] == [record["text"] for record in records]
    head, _, *body = exporting.text(state, "c03", ".md").splitlines()
    assert head.split(" | ")[:3] == ["| prompt", "dense", "compr."]
    assert [line.split(" | ")[0].removeprefix("| ").removeprefix("★ ") for line in body] == names
    assert "76.8%" in body[0]
    assert exporting.text(state, "c03", ".txt") == state.candidates["c03"].text


def test_a_run_without_compression_compares_its_prompts_all_the_same(state: RunState) -> None:
    compressed = candidates.rows(state)
    for candidate in state.candidates.values():
        scores = {
            ("dense", *key[1:]): replace(s, stage="dense") for key, s in candidate.scores.items() if key[0] != "dense"
        }
        candidate.scores = scores
    told = [replace(c, stage="dense") for c in state.comparisons if c.stage != "dense"]
    state.comparisons = Latest()
    for at, compared in enumerate(told):
        state.comparisons.put(at, compared)
    assert all(how.dense for how in candidates.judged(state).values())
    rows = candidates.rows(state)
    assert list(rows) == list(compressed)
    for name, row in rows.items():
        kept = ("difference", "interval", "verdict", "rows")
        assert [row[key] for key in kept] == [compressed[name][key] for key in kept]
        assert (row["dense"], row["compressed"]) == (compressed[name]["compressed"], None)
    assert rows["c03"]["verdict"] == "better"
    assert "better against plain" in candidates.detail(state, "c03").plain


def test_what_confirm_rows_say_of_a_prompt_stands_beside_the_test_rows_verdict(state: RunState) -> None:
    test = candidates.comparison(state, "c03")
    assert test is not None
    before, row = candidates.detail(state, "c03").plain, candidates.rows(state)["c03"]
    assert "on confirm rows" not in before
    confirm = replace(
        test, split="confirm", seq=state.seq + 1, n=500, difference=0.021, low=-0.01, high=0.05, verdict="tie"
    )
    state.apply(confirm)
    assert candidates.rows(state)["c03"] == row
    after = candidates.detail(state, "c03").plain
    assert "tie against plain on confirm rows: +2.1 [-1.0, +5.0] points" in after
    assert "n=500" in after
    state.apply(replace(confirm, seq=state.seq + 1, calibration="none", verdict="better", difference=0.3))
    assert candidates.detail(state, "c03").plain == after, "of another calibration"
    assert "better against plain: +13.9 [+9.4, +18.6] points" in after


@SIZES
async def test_the_table_is_written_where_it_is_asked_for(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("finished")
    target = run.path.parent.parent / "work" / "prompts.csv"
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("3", "w")
        await settle(pilot)
        assert isinstance(app.screen, Ask)
        line = app.screen.query_one("Input")
        assert line.value == f"{run.name}-prompts.md"
        line.value = "prompts.pdf"
        await pilot.press("enter")
        assert "ends in .md or .csv" in words(app)
        line.value = "prompts.csv"
        await pilot.press("enter")
        await settle(pilot)
        assert target.read_text() == exporting.text(run.state(), "c03", ".csv")
        target.write_text("mine")
        await pilot.press("w")
        await settle(pilot)
        app.screen.query_one("Input").value = str(target)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Choice)
        await pilot.press("n")
        await settle(pilot)
        assert target.read_text() == "mine"
        await pilot.press("w")
        await settle(pilot)
        app.screen.query_one("Input").value = "missing/prompts.md"
        await pilot.press("enter")
        await settle(pilot)
        assert "cannot write: No such file or directory" in notices(app)[-1]


@pytest.mark.parametrize("recording", ["finished", "racing"])
def test_every_form_has_the_differences_of_the_screen(recording: str, make_run: MakeRun) -> None:
    state = make_run(recording).state()
    shown = {name: row["difference"] for name, row in candidates.rows(state).items()}
    assert any(shown.values())
    records = json.loads(exporting.text(state, "c03", ".json"))
    assert {r["prompt"]: r["difference"] for r in records} == {n: d and d.order for n, d in shown.items()}


@pytest.mark.parametrize("wrong", ["a name that is too long", "a text that is no UTF-8"])
async def test_what_cannot_be_written_is_said(wrong: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_on(make_run("finished"))
    if wrong == "a text that is no UTF-8":
        monkeypatch.setattr(exporting, "text", lambda *asked: "\ud800")
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("3", "w")
        await settle(pilot)
        app.screen.query_one("Input").value = f"{'x' * (300 if 'long' in wrong else 3)}.md"
        await pilot.press("enter")
        await settle(pilot)
        assert "cannot write: " in notices(app)[-1]
        assert app.current_mode == "prompts"


async def test_without_prompts_there_is_nothing_to_write(make_run: MakeRun) -> None:
    app = app_on(make_run("failed"))
    async with app.run_test(size=SMALL) as pilot:
        await settle(pilot)
        await pilot.press("3", "w")
        await settle(pilot)
        assert notices(app)[-1] == "there are no prompts yet"


@SIZES
async def test_a_runs_files_are_listed_and_read(size: tuple[int, int], make_run: MakeRun) -> None:
    run = make_run("finished")
    (run.artifacts / "weights.bin").write_bytes(bytes(3_000_000))
    app = app_on(run)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("F")
        await settle(pilot)
        assert isinstance(app.screen, FolderScreen)
        shown = words(app)
        assert "artifacts/prompts/examples.jsonl" in shown
        assert "3.0 MB" in next(line for line in shown.splitlines() if "weights.bin" in line)
        app.screen.target.select("profile.toml")
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(app.screen, Reader)
        assert app.screen.text.plain == run.profile_file.read_text()
        await pilot.press("escape")
        app.screen.target.select("artifacts/weights.bin")
        await pilot.press("enter")
        assert notices(app)[-1] == "not a text: y copies its path"
        await pilot.press("y")
        assert app.clipboard == str(run.artifacts / "weights.bin")
        (run.artifacts / "weights.bin").unlink()
        await pilot.press("enter")
        assert notices(app)[-1] == "cannot read: No such file or directory"
        await pilot.press("escape")
        assert app.current_mode == "run"


def test_what_goes_while_it_is_listed_is_left_out(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("finished").path
    (folder / ".model.12.part").mkdir()
    (folder / ".model.12.part" / "half.bin").write_bytes(b"1")
    (folder / "gone").symlink_to(folder / "nowhere")
    found = list(rows(folder))
    assert "artifacts/prompts/examples.jsonl" in found
    assert not [name for name in found if "half" in name or "gone" in name]
    assert found.index("state.json") < found.index("artifacts/prompts/examples.jsonl")
    monkeypatch.setattr("tui.screens.folder.MOST", 2)
    assert list(rows(folder)) == found[:2]


def test_a_file_gives_the_terminal_no_orders() -> None:
    text = printed("\x1b[31mred\x1b[0m\x1b[2J\r10%\r20%\r\nend")
    assert text.plain == "red\n10%\n20%\nend"


def test_one_long_line_is_read_too(make_run: MakeRun) -> None:
    file = make_run("finished").path / "vocab.json"
    file.write_text("x" * (2 * READ))
    assert str(readable(file)).endswith("x" * READ)


def test_of_a_long_text_the_end_is_read(make_run: MakeRun) -> None:
    file = make_run("finished").path / "worker.log"
    file.write_text("".join(f"line {n}\n" for n in range(50_000)))
    text = readable(file)
    assert text is not None
    assert text.startswith("… the last 131 kB of ")
    assert text.endswith("line 49998\nline 49999\n")
    assert READ - 100 < len(text) < READ + 100
    assert all(line.startswith("line ") for line in text.splitlines()[1:])
