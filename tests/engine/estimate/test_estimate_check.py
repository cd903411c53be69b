"""Whole runs and their estimates: said before the work, refused with the numbers, and of the size that was needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.models import TEXT, save

from engine import events as ev
from engine import files, inspection, memory, model, pipeline, runs
from engine import profile as profiles
from engine.errors import UsageError
from engine.estimate import check, machine
from engine.estimate.machine import Rates
from engine.profile import ModelOptions
from engine.runs import Run
from engine.summary import ModelSummary
from engine.worker import execute

PROFILE = """
name = "estimated"
threads = 1
[model]
source = "{folder}/model"
device = "cpu"
dtype = "float32"
memory = "resident"
[calibration]
source = "file:{folder}/text.txt"
samples = 8
length = 48
compute = "float32"
[evaluate]
perplexity = "file:{folder}/text.txt"
windows = 2
length = 64
speed = false
[task.mood]
test = "file:{folder}/mood.jsonl"
template = "Review: {{text}}\\nGood?"
labels = {{ bad = " no", good = " yes" }}
"""
PRUNE = '[[step]]\nuse = "prune"\ncriterion = "sparsegpt"\n'
RECOVER = '[[step]]\nuse = "recover"\nepochs = 1\nlearning_rate = 1e-3\n'
DISTILL = '[[step]]\nuse = "distill"\nsteps = 4\nheld_out = 2\n'
EXPORT = '[[step]]\nuse = "export"\n'
SELECT = '[[step]]\nuse = "select_prompt"\ntask = "mood"\ncandidates = ["Yes or no?"]\nbudget = 30\n'
EVALUATE = '[[step]]\nuse = "evaluate"\n'
JOINT = (
    '[[step]]\nuse = "joint"\ntask = "mood"\nlevels = [0.5]\nselect = { candidates = ["Yes or no?"], budget = 30 }\n'
)
EMBED = '[[step]]\nuse = "embed_prompt"\ntask = "mood"\nepochs = 2\nbatch = 4\nbudget = 60\ncontrol = true\n'
GB = 10**9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of which the weights, 3 MB, are the largest part, a text and a task."""
    folder = tmp_path_factory.mktemp("data")
    save("llama", folder / "model", hidden_size=128, intermediate_size=384, num_hidden_layers=3)
    (folder / "text.txt").write_text(TEXT)
    words = TEXT.split()
    lines = [{"text": " ".join(words[7 * i : 7 * i + 6]), "label": ["bad", "good"][i % 2]} for i in range(60)]
    (folder / "mood.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Callable[..., Run]:
    """A new run of these steps."""
    number = iter(range(10))
    return lambda *steps: runs.create(
        "x", PROFILE.format(folder=data) + "".join(steps), tmp_path / f"run-{next(number)}"
    )


def estimates(run: Run) -> dict[str, ev.Estimated]:
    return run.state().estimates


def refused(run: Run, *words: str) -> None:
    assert execute(run) == 2, run.state().failure
    failure = run.events()[-1]
    assert isinstance(failure, ev.RunFailed)
    for word in words:
        assert word in f"{failure.where} {failure.message} {failure.hint}"
    assert not list(run.artifacts.iterdir())
    assert not list(run.checkpoints.iterdir())


# Said


def test_estimates_come_before_the_first_long_work(begin: Callable[..., Run]) -> None:
    run = begin(PRUNE, SELECT, EXPORT)
    assert execute(run) == 0, run.state().failure
    kinds = [event.kind for event in run.events()]
    assert kinds.index("estimated") < kinds.index("step_started")
    found = estimates(run)
    assert list(found) == ["memory", "disk", "time"]
    assert found["memory"].value > run.state().model.bytes
    assert all(e.value > 0 for e in found.values())
    assert all((found[name].available or 0) > found[name].value for name in ("memory", "disk"))
    assert found["time"].available is None
    text, result = (run.path / "report.md").read_text(), json.loads((run.path / "result.json").read_text())
    assert "Estimated: " in text
    assert {"memory", "disk", "time"} == set(result["estimates"])
    assert all(e["used"] > 0 for e in result["estimates"].values())


def test_a_resumed_run_needs_only_what_is_left(begin: Callable[..., Run]) -> None:
    run = begin(PRUNE, EXPORT)
    assert execute(run) == 0
    before = estimates(run)
    assert execute(run) == 0
    after = estimates(run)
    assert after["time"].value == 0
    assert after["memory"].value < before["memory"].value + GB
    assert after["disk"].value == pytest.approx(files.folder_bytes(run.path), rel=0.1)


def test_a_step_that_was_broken_off_needs_room_for_its_rest_only(begin: Callable[..., Run]) -> None:
    run = begin(PRUNE, EXPORT)
    assert execute(run) == 0
    whole = estimates(run)["disk"].value
    (run.checkpoints / "step-0-done.json").unlink()
    assert list(run.checkpoints.glob("step-0-block-*"))
    assert execute(run) == 0
    assert estimates(run)["disk"].value < 1.1 * max(whole, files.folder_bytes(run.path))


def test_a_number_format_that_the_machine_emulates_is_a_warning(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = DISTILL + 'compute = "bfloat16"\n'
    speeds = {"float32": 6e10, "bfloat16": 1e9}
    monkeypatch.setattr(machine, "rates", lambda names, device: Rates({name: speeds[name] for name in names}, 1e9))
    run = begin(half)
    assert execute(run) == 0, run.state().failure
    (warning,) = [log for log in run.state().log if log.level == "warning" and "float32" in log.message]
    assert warning.message == "step.0.compute: this machine multiplies bfloat16 60 times more slowly than float32"
    assert warning.hint == 'step.0.compute = "float32"'
    assert execute(run) == 0  # what is done already is no reason
    assert len([log for log in run.state().log if "float32" in log.message]) == 1
    speeds["bfloat16"] = 4e10
    fast = begin(half)
    assert execute(fast) == 0
    assert not [log for log in fast.state().log if "more slowly" in log.message]


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_model_without_language_is_estimated_in_any_number_format(compute: str, tmp_path: Path) -> None:
    text = f"""
name = "numbers"
threads = 1
[model]
source = "builtin:linear"
device = "cpu"
[calibration]
source = "builtin"
compute = "{compute}"
"""
    run = runs.create("numbers", text + PRUNE + EXPORT, tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    assert estimates(run)["time"].value > 0


# Refused


@pytest.mark.parametrize(
    ("step", "words"),
    [(PRUNE, ["step.0 (prune)", "calibration.samples"]), (RECOVER, ["step.0 (recover)", "step.0.batch"]),
     (DISTILL, ["step.0 (distill)", "step.0.micro_batch"]),
     (JOINT, ["step.0 (joint)", "step.0.embed.batch"]), (EVALUATE, ["step.0 (evaluate)", "evaluate.length", "step.0.rows"]),
     (EXPORT, ["step.0 (export)", "step.0.verify"]), ("", ["measuring", "evaluate.length"])],
)  # fmt: skip
def test_too_little_memory_is_refused_with_the_numbers(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, step: str, words: list[str]
) -> None:
    monkeypatch.setattr(check, "check_source", lambda options: None)
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    monkeypatch.setattr(memory, "held_memory", lambda device: GB)
    monkeypatch.setattr(check, "measured_before", lambda workspace: None if step == "" else [])
    if step in (RECOVER, DISTILL, EXPORT, ""):  # so that this is the largest
        step += "" if step != EXPORT else 'dtype = "bfloat16"\n'
    run = begin(step)
    refused(run, "needs about 1.0 GB of memory", "there are 1.0 GB", *words)
    assert estimates(run)["memory"].available == GB


def test_a_full_disk_is_refused_before_anything_is_written(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "disk", lambda path: (1, 10**6))
    run = begin(PRUNE, EXPORT)
    refused(run, "of room on disk, and there are 1.0 MB", str(run.path), "--run-dir")


def test_the_cache_may_lie_on_another_disk(begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = files.cache_folder()
    monkeypatch.setattr(machine, "disk", lambda path: (2, 5000) if path == cache else (1, GB))
    refused(begin(PRUNE + 'statistics = "dense"\n'), "for the cache", str(cache), "COMPRESS_TUI_CACHE")
    assert execute(begin(PRUNE)) == 0


@pytest.mark.parametrize(
    ("steps", "instead"),
    [
        ([PRUNE + 'statistics = "dense"\n'], 'step.0.statistics = "sequential"'),
        ([PRUNE + 'allocation = "owl"\n'], 'step.0.allocation = "uniform"'),
        ([PRUNE + 'statistics = "dense"\nallocation = "owl"\n'],
         'step.0.statistics = "sequential", step.0.allocation = "uniform"'),
        ([PRUNE, '[[step]]\nuse = "quantize"\nsize_ratio = 0.9\n'], "step.1.bits in place of size_ratio"),
        ([JOINT + '[step.prune]\nstatistics = "dense"\n'], 'step.0.prune.statistics = "sequential"'),
        ([PRUNE, DISTILL], "step.1.cache = false"),
        ([PRUNE + 'statistics = "dense"\n', DISTILL], 'step.0.statistics = "sequential", step.1.cache = false'),
        (['[[step]]\nuse = "sensitivity"\n'], ""),
        (['[[step]]\nuse = "sensitivity"\n', DISTILL], ""),
    ],
)  # fmt: skip
def test_what_needs_no_cache_is_said_where_it_helps(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, steps: list[str], instead: str
) -> None:
    cache = files.cache_folder()
    monkeypatch.setattr(machine, "disk", lambda path: (2, 0) if path == cache else (1, GB))
    run = begin(*steps)
    refused(run, "for the cache")
    told = f"; none is needed with {instead}" if instead else ""
    assert run.events()[-1].hint == f"COMPRESS_TUI_CACHE names a folder on another disk{told}"
    if instead and "in place of" not in instead:
        changes = [change.replace(" = ", "=") for change in instead.split(", ")]
        followed = profiles.parse(run.profile_file.read_text(), "test", changes)
        said: list[ev.Event] = []
        pipeline.prepare(begin(), followed, said.append, lambda: False, allow_code=False)
        assert "cache" not in {e.name for e in said if isinstance(e, ev.Estimated)}


def test_on_one_disk_cache_and_run_are_added(begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(PRUNE + 'statistics = "dense"\n')
    monkeypatch.setattr(machine, "disk", lambda path: (1, GB))
    assert execute(run) == 0
    found = estimates(run)
    room = found["disk"].value + found["cache"].value - 50_000
    monkeypatch.setattr(machine, "disk", lambda path: (1, int(room)))
    refused(begin(PRUNE + 'statistics = "dense"\n'), "of room on disk")


def test_nearly_all_is_a_warning(begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(PRUNE)
    assert execute(run) == 0
    assert not [log for log in run.state().log if log.level == "warning"]
    monkeypatch.setattr(machine, "disk", lambda path: (1, int(estimates(run)["disk"].value * 1.1)))
    again = begin(PRUNE)
    assert execute(again) == 0
    (warning,) = [log.message for log in again.state().log if log.level == "warning"]
    assert warning.startswith("disk: about ")


def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**6)
    monkeypatch.setattr(model, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    refused(begin(PRUNE), "needs about 2.9 MB of memory, and there are 1.0 MB", "model.source", "bfloat16")


def test_a_gguf_that_does_not_fit_into_the_cache_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    summary = ModelSummary(str(tmp_path / "m.gguf"), "gguf", "llama", (), {}, {})
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(ModelSummary, "parameters", 10**9)
    monkeypatch.setattr(inspection, "inspect", lambda source: summary)
    monkeypatch.setattr(machine, "disk", lambda path: (1, 10**6))
    with pytest.raises(UsageError, match=r"4\.0 GB of room on disk, and there are 1\.0 MB"):
        check.check_source(ModelOptions(source=str(tmp_path / "m.gguf"), device="cpu", dtype="float32"))


# Of the right size


@pytest.mark.parametrize(
    "steps",
    [(), (PRUNE,), (PRUNE, EXPORT), (EXPORT + 'dtype = "bfloat16"\ntolerance = 0.5\n',), (PRUNE, DISTILL),
     (PRUNE, RECOVER, EXPORT, EXPORT),
     (PRUNE, SELECT), (PRUNE, EMBED), (PRUNE, EMBED + 'form = "prefix"\n'), (PRUNE + 'statistics = "dense"\n', PRUNE, EXPORT)],
)  # fmt: skip
def test_disk_is_estimated_within_a_factor_of_two(begin: Callable[..., Run], steps: tuple[str, ...]) -> None:
    run = begin(*steps)
    assert execute(run) == 0, run.state().failure
    found, used = estimates(run)["disk"].value, run.state().used["disk"].value
    assert used <= files.folder_bytes(run.path)
    assert used / 2 < found < used * 2 + 2 * check.NOTES, (found, used)


@pytest.mark.parametrize("last", [EXPORT, RECOVER])
def test_a_streamed_run_needs_less_than_the_model(last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the model, nor what export reads back, nor recovery's dense model is in memory as a whole."""
    monkeypatch.setattr(memory, "held_memory", lambda device: 0)
    save("llama", tmp_path / "model", hidden_size=128, intermediate_size=384, num_hidden_layers=40)
    (tmp_path / "text.txt").write_text(TEXT)
    needed, size = {}, 0
    for mode in ("resident", "stream"):
        text = PROFILE.format(folder=tmp_path).replace('"resident"', f'"{mode}"') + PRUNE + last
        told: list[ev.Event] = []
        run = runs.create("x", text, tmp_path / mode)
        workspace = pipeline.prepare(run, profiles.parse(text, "test"), told.append, lambda: False, allow_code=False)
        needed[mode] = next(e.value for e in told if isinstance(e, ev.Estimated) and e.name == "memory")
        size = workspace.subject.bytes
    assert needed["resident"] > size
    assert needed["stream"] < size / 2


def test_the_cache_of_statistics_is_estimated_closely(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))
    run = begin(PRUNE + 'statistics = "dense"\n')
    assert execute(run) == 0, run.state().failure
    used = files.folder_bytes(tmp_path / "cache" / "grams")
    assert estimates(run)["cache"].value == pytest.approx(used, rel=0.05)
