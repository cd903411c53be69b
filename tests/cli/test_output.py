"""Golden output: what each command prints, byte for byte; data on stdout, narration and errors on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import events as ev
from engine import registry, runs
from engine.runs import Run
from tui import output

Cli, Golden, Record = Callable[..., Any], Callable[[str, str], None], Callable[..., Run]
COMMANDS = ["run", "inspect", "runs", "attach", "cancel", "report", "compare", "pareto", "list", "profile"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(cli: Cli, golden: Golden, command: str) -> None:
    result = cli(*command.split(), "--help")
    assert (result.code, result.err) == (0, "")
    golden(f"help-{command or 'app'}", result.out)


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("compress-tui ")


# Lists and profiles


def test_list(cli: Cli, golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pieces_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "by_size.py").write_text('"""Small ones go first.\n\nNot shown."""\n')
    (package / "a_name_longer_than_its_column.py").write_text('"""Long."""\n')
    (package / "broken.py").write_text("def (:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.FAMILIES, "criteria", registry.Family("criterion", "pieces_of_a_test"))
    golden("list", cli("list", "criteria").out)
    assert json.loads(cli("list", "criteria", "--json").out.splitlines()[2]) == {
        "name": "by_size",
        "summary": "Small ones go first.",
    }


@pytest.mark.parametrize("kind", [*registry.FAMILIES, "steps"])
def test_list_names_every_piece(cli: Cli, kind: str) -> None:
    names = registry.STEPS if kind == "steps" else registry.FAMILIES[kind].names()
    result = cli("list", kind)
    assert [line.split()[0] for line in result.out.splitlines()] == list(names)
    assert [line for line in result.out.splitlines() if not line.endswith(".")] == [], "cut off within a sentence"


def test_profile_list(cli: Cli, golden: Golden) -> None:
    golden("profile-list", cli("profile", "list").out)


def test_profile_show_prints_the_file(cli: Cli) -> None:
    file = Path(registry.__file__).parent.parent / "profiles" / "worked-example.toml"
    assert cli("profile", "show", "worked-example").out == file.read_text()


def test_profile_show_resolved(cli: Cli, golden: Golden) -> None:
    golden("profile-show-resolved", cli("profile", "show", "worked-example", "--resolved").out)


def test_profile_check(cli: Cli) -> None:
    result = cli("profile", "check", "demo", "--set", "step.0.sparsity=0.6")
    assert (result.code, result.out, result.err) == (0, "demo: ok (prune > select_prompt > export)\n", "")


def test_profile_check_tells_every_problem(
    cli: Cli, golden: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(
        'sede = 1\n[model]\nsource = "demo"\ndtype = "float31"\n[evaluate]\ntasks = ["sst3"]\n'
        '[[step]]\nuse = "prune"\nsparsity = 1.5\ncriterion = "wnda"\n[[step]]\nuse = "fly"\n'
    )
    result = cli("profile", "check", "bad.toml")
    assert (result.code, result.out) == (2, "")
    golden("profile-check-bad", result.err.replace(str(tmp_path), "FOLDER"))


def test_profile_schema_is_one_json_document(cli: Cli) -> None:
    schema = json.loads(cli("profile", "schema").out)
    assert {"model", "step", "gate"} <= set(schema["properties"])


# Runs


@pytest.fixture
def several(record: Record, story: list[ev.Event]) -> list[Run]:
    """A finished run, a cancelled, a failed, a crashed, one that missed its gate, one not begun; an hour apart."""
    cut = story[:20]
    endings: list[Sequence[ev.Event]] = [
        story,
        [*cut, ev.RunCancelled(seconds=12.0, seq=99, time=1.0)],
        [*cut, ev.RunFailed(message="no", seq=99, time=1.0)],
        cut,
        [*story[:-1], ev.RunFinished(seconds=1.0, exit_code=4, seq=99, time=1.0)],
        [],
    ]
    made = []
    for index, events in enumerate(endings):
        run = record(events, f"2023111{index}T221320-small-ab1{index}")
        when = time.time() - 3600 * (len(endings) - index) - 5
        for file in (run.events_file, run.profile_file):
            os.utime(file, (when, when))
        made.append(run)
    dead = {"host": os.uname().nodename, "boot": "an earlier one", "pid": 1, "process_started": 1.0, "heartbeat": 1.0}
    (made[3].path / "state.json").write_text(json.dumps(dead))
    return made


def test_runs(cli: Cli, golden: Golden, several: list[Run]) -> None:
    result = cli("runs")
    assert (result.code, result.err) == (0, "")
    golden("runs", result.out)


def test_runs_as_json(cli: Cli, several: list[Run]) -> None:
    records = [json.loads(line) for line in cli("runs", "--json").out.splitlines()]
    assert [record["status"] for record in records] == ["empty", "done", "failed", "failed", "cancelled", "done"]
    assert records[-1]["path"] == str(several[0].path)


def test_no_runs_is_no_data_and_a_hint(cli: Cli) -> None:
    result = cli("runs")
    assert (result.code, result.out, result.err) == (0, "", "no runs yet\nhint: compress-tui run --profile demo\n")


def test_prune_older_removes_what_ended_before(cli: Cli, several: list[Run]) -> None:
    result = cli("runs", "--prune-older", "3h")
    assert result.out.splitlines() == [run.name for run in reversed(several[:4])]
    assert [run.path.exists() for run in several] == [False] * 4 + [True] * 2


def test_what_is_pruned_is_a_json_object_a_line(cli: Cli, several: list[Run]) -> None:
    listed = [json.loads(line) for line in cli("runs", "--json").out.splitlines()]
    gone = [json.loads(line) for line in cli("runs", "--json", "--prune-older", "3h").out.splitlines()]
    assert [record["path"] for record in gone] == [str(run.path) for run in reversed(several[:4])]
    assert [record | {"age": 0} for record in gone] == [record | {"age": 0} for record in listed[2:]]


def test_runs_say_who_waits_for_whom(cli: Cli, record: Record) -> None:
    names = ["20231114T221320-small-ab12", "20231114T221321-small-cd34"]
    found = []
    for at in (1, 2):
        waits = ev.RunQueued(
            run="x", profile="small", source="demo", steps=["prune"], ahead=names[:at], seq=1, time=1.0
        )
        found.append(record([waits], f"2023111{4 + at}T221320-small-ef5{at}"))
    with runs.lock(found[0]), runs.lock(found[1]):
        lines = cli("runs").out.splitlines()[1:]
        records = [json.loads(line) for line in cli("runs", "--json").out.splitlines()]
    assert ["○ queued after 2 runs  " in lines[0], "○ queued after small-ab12  " in lines[1]] == [True, True], lines
    assert [one["ahead"] for one in records] == [names, names[:1]]
    assert all(one["state"] == "○ queued" for one in records)
    assert [json.loads(line)["ahead"] for line in cli("runs", "--json").out.splitlines()] == [[], []], "nobody waits"


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1.5d", "30 d"])
def test_prune_older_wants_an_age_and_else_deletes_nothing(cli: Cli, several: list[Run], age: str) -> None:
    result = cli("runs", "--prune-older", age)
    assert result.code == 2
    assert "hint: hours, days or weeks" in result.err
    assert all(run.path.exists() for run in several)


# What a run amounts to


def test_report_is_made_from_the_events(cli: Cli, golden: Golden, record: Record, story: list[ev.Event]) -> None:
    record(story)
    result = cli("report", "ab12")
    assert (result.code, result.err) == (0, "")
    golden("report", result.out)


def test_report_prints_the_file_of_a_finished_run(cli: Cli, record: Record, story: list[ev.Event]) -> None:
    run = record(story)
    (run.path / "report.md").write_text("# as written\n")
    assert cli("report").out == "# as written\n"


def test_report_as_json(cli: Cli, record: Record, story: list[ev.Event]) -> None:
    run = record(story)
    (line,) = cli("report", "last", "--json").out.splitlines()
    assert json.loads(line)["winners"][0]["winner"] == "c01"
    (run.path / "result.json").write_text('{\n  "as": "written"\n}\n')
    assert cli("report", "last", "--json").out == '{"as": "written"}\n'


def test_what_a_newer_version_told_otherwise_is_said_and_left_out(
    cli: Cli, record: Record, story: list[ev.Event]
) -> None:
    run = record(story)
    lines = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "layer_pruned":
            line["shape"] = {"rows": 4, "columns": 8}
    run.events_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "\n4 events of a newer version could not be read: what they tell is missing here.\n" in cli("report").out
    assert json.loads(cli("report", "--json").out)["unread"] == 4
    assert "50.0%" in cli("report").out, "the rest is read"
    assert cli("attach", "ab12", "--plain").err.count("cannot read layer_pruned: a newer version wrote it") == 1


def test_report_of_a_run_that_said_nothing(cli: Cli, record: Record) -> None:
    record([])
    result = cli("report")
    assert (result.code, result.out) == (3, "")


def test_compare(cli: Cli, golden: Golden, record: Record, story: list[ev.Event]) -> None:
    record(story, "20231114T221320-small-aaaa")
    record(story[:20], "20231114T221320-small-bbbb")
    result = cli("compare", "aaaa", "bbbb")
    assert (result.code, result.err) == (0, "")
    golden("compare", result.out)
    lines = [json.loads(line) for line in cli("compare", "aaaa", "bbbb", "--json").out.splitlines()]
    runs = {"20231114T221320-small-aaaa": 17.42, "20231114T221320-small-bbbb": 17.42}
    assert lines[0] == {"stage": "dense", "figure": "perplexity", "runs": runs}
    assert lines[-1]["prompt"]["verdict"] == "better"


def test_attach_plain_replays_and_ends_with_the_runs_code(
    cli: Cli, golden: Golden, record: Record, story: list[ev.Event]
) -> None:
    record(story)
    result = cli("attach", "ab12", "--plain")
    assert result.code == 0
    golden("attach-narration", result.err)
    golden("attach-table", result.out)


def test_attach_plain_json_is_the_events(cli: Cli, record: Record, story: list[ev.Event]) -> None:
    run = record(story)
    result = cli("attach", "ab12", "--plain", "--json")
    assert (result.out, result.err) == (run.events_file.read_text(), "")


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (ev.RunFinished(seconds=1.0, exit_code=4), 4),
        (ev.RunFailed(message="no", hint="try again", exit_code=3), 3),
        (ev.RunCancelled(seconds=1.0), 130),
    ],
)
def test_attach_plain_ends_as_the_run_did(
    cli: Cli, record: Record, story: list[ev.Event], ending: ev.Event, code: int
) -> None:
    object.__setattr__(ending, "seq", 99)
    record([*story[:12], ending])
    assert cli("attach", "ab12", "--plain").code == code


# Colour, control characters


def test_colour_only_on_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    assert output.paint("x", output.RED) == "x"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert output.paint("x", output.RED) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("x", output.RED) == "x"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert output.table(["a"], [["red\x1b[31m\nline\u202e"]])[1] == "red\\x1b[31m\\nline\\u202e"


def test_tables_are_aligned_and_never_cut() -> None:
    lines = output.table(["name", "n"], [["a" * 100, "1"], ["b", "200"]], right=["n"])
    assert [line.index(last) for line, last in zip(lines[1:], ("1", "200"), strict=True)] == [104, 102]


# Inspection


def test_inspect(cli: Cli, golden: Golden, tiny_model: Path) -> None:
    result = cli("inspect", str(tiny_model))
    assert (result.code, result.err) == (0, "")
    golden("inspect", result.out.replace(str(tiny_model), "FOLDER"))


def test_inspect_as_json(cli: Cli, tiny_model: Path) -> None:
    model, *tensors = [json.loads(line) for line in cli("inspect", str(tiny_model), "--json").out.splitlines()]
    assert (model["kind"], model["format"], model["tensors"]) == ("model", "safetensors", 6)
    assert model["parameters"] == 16 * 8 + 8 + 2 * (64 + 192) == sum(math.prod(tensor["shape"]) for tensor in tensors)
    assert model["bytes"] == sum(tensor["bytes"] for tensor in tensors) == 4 * 136 + 2 * 512


def test_inspect_nothing(cli: Cli, tmp_path: Path) -> None:
    result = cli("inspect", str(tmp_path / "nothing"))
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error: ")


@pytest.mark.parametrize("code", [0, 4])
def test_a_run_that_is_done_is_shown_again_and_not_gone_on_with(
    code: int, cli: Cli, record: Record, story: list[ev.Event]
) -> None:
    run = record([*story[:-1], replace(story[-1], exit_code=code)])
    before = run.events_file.read_bytes()
    result = cli("run", "--resume")
    assert result.code == code
    assert "nothing is left to do" in result.err
    assert "pruned" in result.out
    assert run.events_file.read_bytes() == before
    told = cli("run", "--resume", "--json")
    assert [json.loads(line)["kind"] for line in told.out.splitlines()] == ["run_finished"]
