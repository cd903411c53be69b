"""Whole runs on a tiny model: what comes out, what is refused, and that nothing is lost by stopping at any moment."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, Killing, at, die_when
from fixtures.models import TEXT, save, subject, tiny, tokenizer
from fixtures.workspaces import workspace
from safetensors.torch import load_file

from engine import events as ev
from engine import files, pipeline, runs
from engine import profile as profiles
from engine.errors import UsageError
from engine.registry import CRITERIA
from engine.runs import Run
from engine.worker import execute

PROFILE = """
name = "tiny"
threads = 1

[model]
source = "{folder}/model"
device = "cpu"
dtype = "float32"

[calibration]
source = "file:{folder}/text.txt"
samples = 8
length = 48
compute = "float32"

[evaluate]
perplexity = "file:{folder}/text.txt"
windows = 3
length = 64
tasks = ["mood"]
rows = 20
speed = false

[task.mood]
test = "file:{folder}/mood.jsonl"
template = "Review: {{text}}\\nGood?"
labels = {{ bad = " no", good = " yes" }}

[[step]]
use = "prune"
criterion = "sparsegpt"

[[step]]
use = "select_prompt"
task = "mood"
candidates = ["Answer yes or no.", "Is it good?"]
demonstrations = [0, 2]
calibration = "batch"
budget = 60
control = true

[[step]]
use = "export"
"""
PRUNE, SELECT, EXPORT = 0, 1, 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a text and a task."""
    folder = tmp_path_factory.mktemp("data")
    save("llama", folder / "model")
    (folder / "text.txt").write_text(TEXT)
    words = TEXT.split()
    lines = [{"text": " ".join(words[7 * i : 7 * i + 5 + i % 4]), "label": ["bad", "good"][i % 2]} for i in range(90)]
    (folder / "mood.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Callable[..., Run]:
    """A new run of the profile with some texts in it replaced; `steps` keeps only those steps."""
    number = iter(range(100))

    def create(*replaced: tuple[str, str], steps: tuple[int, ...] = (0, 1, 2)) -> Run:
        head, *parts = PROFILE.format(folder=data).split("[[step]]")
        text = head + "".join(f"[[step]]{parts[i]}" for i in steps)
        for old, new in replaced:
            assert old in text, old
            text = text.replace(old, new)
        profiles.parse(text, "test")
        return runs.create("tiny", text, tmp_path / f"run-{next(number)}")

    return create


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole profile, run without interruption."""
    run = runs.create("tiny", PROFILE.format(folder=data), tmp_path_factory.mktemp("reference") / "run")
    assert execute(run) == 0, run.state().failure
    return run


def weights(run: Run) -> bytes:
    return (run.artifacts / "model" / "model.safetensors").read_bytes()


def winner(run: Run) -> str:
    return (run.artifacts / "prompts" / "winner.json").read_text()


def of_kind(run: Run, kind: type[Any]) -> list[Any]:
    return [event for event in run.events() if isinstance(event, kind)]


def leftovers(run: Run) -> list[Path]:
    return [path for path in run.path.rglob("*") if path.name.endswith((".part", ".old"))]


def refused(run: Run, code: int, *words: str) -> None:
    """The run failed with this code and these words, and has left no weights."""
    assert execute(run) == code, run.state().failure
    failure = run.events()[-1]
    assert isinstance(failure, ev.RunFailed)
    assert failure.exit_code == code
    for word in words:
        assert word in f"{failure.where} {failure.message} {failure.hint}"
    assert "bug" not in (failure.hint or "")
    assert not list(run.artifacts.iterdir())
    assert not list(run.checkpoints.glob("*.safetensors"))
    assert not leftovers(run)


# What comes out


def test_the_whole_job(reference: Run, data: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = reference.artifacts / "model"
    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("yes or no").input_ids == tokenizer()("yes or no").input_ids
    state, dense = plain.state_dict(), tiny("llama").state_dict()
    pruned = {}
    for block in (0, 1):
        pruned |= load_file(reference.checkpoints / f"step-0-block-{block}.safetensors")
    assert len(pruned) == 14
    for name, value in state.items():
        if name in pruned:
            assert torch.equal(value, pruned[name])
            assert 2 * int((value == 0).sum()) == value.numel()
            assert torch.isfinite(value).all()
        else:
            assert torch.equal(value, dense[name])
    assert not leftovers(reference)
    assert (folder / "config.json").is_file()


def test_the_events_tell_the_whole_story(reference: Run) -> None:
    events = reference.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], ev.RunStarted)
    assert isinstance(events[-1], ev.RunFinished)
    state = reference.state()
    assert state.status == "done"
    assert list(state.metrics) == ["dense", "pruned", "exported"]
    for stage in state.metrics:
        names = set(state.metrics[stage])
        assert {"perplexity", "accuracy:mood", "bytes", "parameters", "sparsity", "peak_memory_bytes"} <= names
        for name in ("perplexity", "accuracy:mood"):
            figure = state.metrics[stage][name]
            assert figure.n
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high
        rows = state.metrics[stage]["accuracy:mood"]
        assert rows.right.count("1") / len(rows.right) == rows.value
        assert len(rows.right) == rows.n
        for name in ("perplexity", "accuracy:mood"):  # the same windows and rows at every stage
            assert state.metrics[stage][name].data == state.metrics["dense"][name].data != ""
    for name in ("perplexity", "accuracy:mood"):  # measured on the file, equal to what was in memory
        assert state.metrics["exported"][name].value == pytest.approx(state.metrics["pruned"][name].value, rel=1e-6)
    assert state.metrics["dense"]["perplexity"].value != state.metrics["pruned"]["perplexity"].value
    assert [layer.sparsity for layer in state.layers.values()] == [0.5] * 14
    assert all(layer.error is not None and 0 < layer.error < 1 for layer in state.layers.values())
    assert [step.status for step in state.steps.values()] == ["done"] * 4
    exported = state.steps[EXPORT].summary
    assert exported["identical"] is True
    assert exported["bytes"] == len(weights(reference)) == state.metrics["exported"]["bytes"].value


def test_the_prompts_are_compared_on_rows_that_chose_nothing(reference: Run) -> None:
    state = reference.state()
    assert list(state.candidates)[0] == "plain"
    assert len(state.candidates) == 6
    summary = state.steps[SELECT].summary
    assert summary["scored"] <= 60 + 60
    assert summary["stage"] == "pruned"
    scored = [c for c in of_kind(reference, ev.CandidateScored) if c.split == "test"]
    kinds = {("pruned", "none"), ("pruned", "batch"), ("dense", "none"), ("dense", "batch")}
    finalists = {"plain", summary["winner"]}
    tested = {(f, *kind) for f in finalists for kind in kinds} | {(summary["winner"], "exported", "batch")}
    assert {(c.candidate, c.stage, c.calibration) for c in scored} == tested
    compared = {(c.a, c.b, c.stage, c.calibration) for c in state.comparisons}
    assert compared == {(summary["winner"], base, *kind) for base in finalists - {summary["winner"]} for kind in kinds}
    record = json.loads(winner(reference))
    assert record["name"] == summary["winner"]
    assert len(record["offsets"]) == 2
    lines = [json.loads(line) for line in (reference.artifacts / "prompts" / "examples.jsonl").read_text().splitlines()]
    assert len(lines) == summary["rows"]
    assert {c.n for c in (*scored, *state.comparisons)} == {len(lines)}
    assert len({line["digest"] for line in lines}) > 1
    right = sum(line["answers"][summary["winner"]]["correct"] for line in lines)
    assert right / len(lines) == pytest.approx(summary["accuracy"])
    dev = {c.n for c in of_kind(reference, ev.CandidateScored) if c.split == "dev"}
    assert max(dev) <= 32


def test_the_folder_holds_report_result_and_a_profile_that_repeats_it(reference: Run, tmp_path: Path) -> None:
    result = json.loads((reference.path / "result.json").read_text())
    assert result["exit_code"] == 0
    assert "pruned" in (reference.path / "report.md").read_text()
    assert json.loads((reference.path / "environment.json").read_text())["threads"] == 1
    again = runs.create("again", reference.profile_file.read_text(), tmp_path / "again")
    assert execute(again) == 0
    assert weights(again) == weights(reference)
    assert winner(again) == winner(reference)
    assert again.profile_file.read_text() == reference.profile_file.read_text()


def test_the_dense_model_is_measured_once(reference: Run, begin: Callable[..., Run]) -> None:
    run = begin(steps=())
    assert execute(run) == 0
    mine, known = run.state().metrics["dense"], reference.state().metrics["dense"]
    assert all(metric.cached for metric in mine.values())
    assert {name: m.value for name, m in mine.items()} == {name: m.value for name, m in known.items()}
    other = begin(("windows = 3", "windows = 4"), steps=())
    assert execute(other) == 0
    assert not any(metric.cached for metric in other.state().metrics["dense"].values())


@pytest.mark.parametrize(("bound", "code"), [(1e-6, 4), (1e6, 0)])
@pytest.mark.parametrize("gate", ["perplexity_ratio", "size_ratio", "accuracy_drop"])
def test_a_missed_gate_is_exit_code_4(begin: Callable[..., Run], gate: str, bound: float, code: int) -> None:
    if gate == "accuracy_drop" and code == 4:
        bound = -1.0
    run = begin(('[[step]]\nuse = "prune"', f'[gate]\n{gate} = {bound}\n\n[[step]]\nuse = "prune"'), steps=(0, 2))
    assert execute(run) == code
    checked = of_kind(run, ev.GateChecked)
    assert [(g.name, g.passed) for g in checked] == [(gate, code == 0)]
    assert isinstance(run.events()[-1], ev.RunFinished)
    assert run.events()[-1].exit_code == code
    assert (run.artifacts / "model" / "model.safetensors").is_file()
    assert json.loads((run.path / "result.json").read_text())["exit_code"] == code


@pytest.mark.parametrize("criterion", ["wanda", "magnitude", "random"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_prune_twice_in_one_profile(begin: Callable[..., Run], criterion: str, chunk: int | None) -> None:
    replaced = [
        ('use = "prune"\ncriterion = "sparsegpt"', f'use = "prune"\ncriterion = "{criterion}"\nsparsity = 0.25')
    ]
    replaced += [("samples = 8", f"samples = 8\nchunk = {chunk}")] if chunk else []
    run = begin(*replaced, ("use = \"export\"", f"use = \"prune\"\ncriterion = \"{criterion}\"\n\n[[step]]\nuse = \"export\""),
                steps=(0, 2))  # fmt: skip
    assert execute(run) == 0, run.state().failure
    state = load_file(run.artifacts / "model" / "model.safetensors")
    for name in load_file(run.checkpoints / "step-1-block-0.safetensors"):
        assert 2 * int((state[name] == 0).sum()) == state[name].numel()
        first = load_file(run.checkpoints / "step-0-block-0.safetensors")[name] == 0
        assert 4 * int(first.sum()) == first.numel()
    assert list(run.state().metrics) == ["dense", "pruned", "pruned-2", "exported"]


def test_export_in_half_the_bytes(begin: Callable[..., Run], reference: Run) -> None:
    run = begin(('use = "export"', 'use = "export"\ndtype = "bfloat16"\ntolerance = 0.2'), steps=(0, 2))
    assert execute(run) == 0, run.state().failure
    mine, full = (load_file(r.artifacts / "model" / "model.safetensors") for r in (run, reference))
    assert all(torch.equal(mine[name], full[name].bfloat16()) for name in full)
    config = json.loads((run.artifacts / "model" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_a_file_that_holds_another_model_fails(begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.export.formats import safetensors

    def write(subject: Any, folder: Path, dtype: torch.dtype) -> None:
        subject.module.lm_head.weight.mul_(-3)
        try:
            safetensors.save_language_model(subject, folder, dtype)
        finally:
            subject.module.lm_head.weight.div_(-3)

    monkeypatch.setattr(safetensors, "FORMAT", replace(safetensors.FORMAT, write=write))
    run = begin(steps=(0, 2))
    assert execute(run) == 1
    assert "after reload" in run.events()[-1].message


def test_calibration_on_the_models_own_text(begin: Callable[..., Run], data: Path) -> None:
    one = begin((f'source = "file:{data}/text.txt"', 'source = "self"'), steps=(0, 2))
    assert execute(one) == 0, one.state().failure
    other = begin((f'source = "file:{data}/text.txt"', 'source = "self"'), steps=(0, 2))
    assert execute(other) == 0
    assert weights(one) == weights(other)
    tokens = load_file(one.checkpoints / "self-text.safetensors")["tokens"]
    assert tokens.shape == (8, 48)


# Stopping and going on


@pytest.mark.parametrize("part", range(8))
def test_a_run_that_dies_at_any_event_ends_with_the_same_bytes(
    begin: Callable[..., Run], reference: Run, part: int
) -> None:
    """Every run dies at four moments, the next process goes on from there; all moments together cover the run."""
    last = len(reference.events())
    run = begin()
    moments = sorted({1 + round((last - 2) * (part + 8 * i) / 32) for i in range(4)})
    for moment in moments:
        try:
            execute(run, also=die_when(at(moment)))
        except Killed:
            assert not isinstance(run.events()[-1], ev.FINAL)
    assert execute(run) == 0, run.state().failure
    assert weights(run) == weights(reference)
    assert winner(run) == winner(reference)
    assert not [path for path in leftovers(run) if path.parent == run.artifacts]


@pytest.mark.parametrize("criterion", CRITERIA.names())
@pytest.mark.parametrize("chunk", [8, 3])
def test_resume_within_a_step_is_bit_identical(begin: Callable[..., Run], criterion: str, chunk: int) -> None:
    replaced = (('"sparsegpt"', f'"{criterion}"'), ("samples = 8", f"samples = 8\nchunk = {chunk}"))
    whole, broken = begin(*replaced, steps=(0, 2)), begin(*replaced, steps=(0, 2))
    assert execute(whole) == 0

    with pytest.raises(Killed):
        execute(broken, also=die_when(lambda event: isinstance(event, ev.LayerPruned) and event.done == 10))
    assert [f.name for f in broken.checkpoints.glob("*.safetensors")] == ["step-0-block-0.safetensors"]
    assert execute(broken) == 0
    assert weights(broken) == weights(whole)
    assert [event.done for event in of_kind(broken, ev.LayerPruned)] == [*range(1, 11), *range(8, 15)]
    assert broken.state().metrics["pruned"]["perplexity"].value == whole.state().metrics["pruned"]["perplexity"].value


def test_a_finished_run_may_be_resumed(begin: Callable[..., Run]) -> None:
    run = begin(steps=(0, 2))
    assert execute(run) == 0
    before = weights(run)
    assert execute(run) == 0
    assert weights(run) == before
    assert len(of_kind(run, ev.LayerPruned)) == 14
    steps, (first, second) = of_kind(run, ev.StepFinished), of_kind(run, ev.RunFinished)
    assert [event.resumed for event in steps] == [False] * 3 + [True] * 3
    assert [event.seconds for event in steps[:3]] == [event.seconds for event in steps[3:]]
    assert second.seconds > first.seconds


def in_a_step(kind: type[ev.Event], step: int) -> Callable[[ev.Event], bool]:
    return lambda event: isinstance(event, kind) and getattr(event, "step", None) == step


SLOW = ("samples = 8\nlength = 48", "samples = 48\nlength = 96")


@pytest.mark.parametrize(("kind", "step"), [(ev.LayerPruned, PRUNE), (ev.CandidateAdded, SELECT)])
def test_kill_9_loses_no_bit(begin: Callable[..., Run], killed: Killing, kind: type[ev.Event], step: int) -> None:
    whole, run = begin(SLOW), begin(SLOW)
    killed(run, in_a_step(kind, step))
    state = run.state()
    assert (state.status, state.failure.where) == ("failed", "crashed")
    for one in (run, whole):
        assert execute(one) == 0, one.state().failure
    assert weights(run) == weights(whole)
    assert winner(run) == winner(whole)


@pytest.mark.parametrize("criterion", [name for name in CRITERIA.names() if CRITERIA.load(name).CRITERION.solve])
def test_kill_9_during_a_solver_loses_no_bit(begin: Callable[..., Run], killed: Killing, criterion: str) -> None:
    solver = ('"sparsegpt"', f'"{criterion}"')
    whole, run = begin(SLOW, solver, steps=(0, 2)), begin(SLOW, solver, steps=(0, 2))
    killed(run, lambda event: isinstance(event, ev.LayerPruned) and event.block == 1)
    for one in (run, whole):
        assert execute(one) == 0, one.state().failure
    assert weights(run) == weights(whole)


@pytest.mark.parametrize("kind", [ev.Progress, ev.SparsityPlanned, ev.LayerPruned])
def test_kill_9_while_a_plan_is_made_or_carried_out_loses_no_bit(
    begin: Callable[..., Run], killed: Killing, kind: type[ev.Event]
) -> None:
    keys = 'allocation = "search"\ngenerations = 4\noffspring = 3\ntrial_windows = 2\nunit = "matrix"'
    planned = ('criterion = "sparsegpt"', f'criterion = "sparsegpt"\n{keys}')
    whole, run = begin(SLOW, planned, steps=(0, 2)), begin(SLOW, planned, steps=(0, 2))
    killed(run, in_a_step(kind, PRUNE))
    for one in (run, whole):
        assert execute(one) == 0, one.state().failure
    assert weights(run) == weights(whole)
    plan, *others = of_kind(run, ev.SparsityPlanned)
    assert len(set(plan.shares.values())) > 1
    assert all(other.shares == plan.shares for other in others)


def test_a_run_that_measures_first_and_plans_says_why(begin: Callable[..., Run]) -> None:
    step = '[[step]]\nuse = "sensitivity"\nwindows = 2\n\n[[step]]\nuse = "prune"\nallocation = "sensitivity"'
    run = begin(('[[step]]\nuse = "prune"', step), steps=(0,))
    assert execute(run) == 0, run.state().failure
    report = (run.path / "report.md").read_text()
    for words in (
        "## Sensitivity, most first",
        "## Head groups",
        "## Plan of step 2: sensitivity, 50.0%",
        "nats at 50.0%",
    ):
        assert words in report
    layers = json.loads((run.path / "result.json").read_text())["layers"]
    assert all(layer["planned"] is not None and layer["loss"] is not None for layer in layers)
    assert (run.artifacts / "sensitivity.json").is_file()


@pytest.mark.parametrize("more", ['allocation = "owl"', 'shares = { "0" = 0.4 }'])
def test_a_pattern_cannot_be_allocated(begin: Callable[..., Run], more: str) -> None:
    run = begin(('criterion = "sparsegpt"', f'pattern = "2:4"\n{more}'), steps=(0,))
    refused(run, 2, "nothing is left to allocate")


def test_sigint_stops_at_the_next_safe_point_and_resume_goes_on(begin: Callable[..., Run], worker: Any) -> None:
    whole, run = begin(SLOW, steps=(0, 2)), begin(SLOW, steps=(0, 2))
    process = worker(run, in_a_step(ev.LayerPruned, PRUNE))
    with pytest.raises(UsageError, match="another process is working on this run"):
        execute(run)
    runs.send_signal(run)
    assert process.wait(30) == 130, run.log_tail()
    assert isinstance(run.events()[-1], ev.RunCancelled)
    assert run.state().status == "cancelled"
    assert not run.alive()
    assert not leftovers(run)
    state = run.state()
    assert execute(run) == 0
    assert execute(whole) == 0
    assert weights(run) == weights(whole)
    assert of_kind(run, ev.RunFinished)[0].seconds > (state.seconds or 0.0) > 0.0
    assert of_kind(run, ev.StepFinished)[-2].seconds > state.steps[PRUNE].worked > 0.0


def test_another_profile_is_not_resumed(begin: Callable[..., Run]) -> None:
    run = begin(steps=(0,))
    assert execute(run) == 0
    kept = {file.name: file.read_bytes() for file in run.checkpoints.iterdir()}
    text = run.profile_file.read_text()
    run.profile_file.write_text(text.replace('criterion = "sparsegpt"', 'criterion = "wanda"'))
    assert execute(run) == 2
    failed = run.events()[-1]
    assert failed.message == 'the profile changed since this run began: step.0.criterion "sparsegpt" is now "wanda"'
    assert "profile.toml" in failed.hint
    assert {file.name: file.read_bytes() for file in run.checkpoints.iterdir()} == kept
    run.profile_file.write_text(text)
    assert execute(run) == 0


def test_another_model_is_not_resumed(begin: Callable[..., Run], tmp_path: Path, data: Path) -> None:
    save("llama", tmp_path / "own")
    run = begin((f"{data}/model", f"{tmp_path}/own"), steps=(0,))
    assert execute(run) == 0
    save("llama", tmp_path / "own", seed=1)
    assert execute(run) == 2
    assert run.events()[-1].message == "the model changed since this run began"


def test_other_data_are_not_resumed(begin: Callable[..., Run], tmp_path: Path, data: Path) -> None:
    words = (data / "text.txt").read_text().split()
    own = tmp_path / "own.txt"
    own.write_text(" ".join(words))
    run = begin((f"{data}/text.txt", str(own)), steps=(0,))
    assert execute(run) == 0
    own.write_text(" ".join(reversed(words)))
    assert execute(run) == 2
    assert run.events()[-1].message == "the data changed since this run began"


# What is refused


def test_weights_that_are_no_numbers(begin: Callable[..., Run], tmp_path: Path, data: Path) -> None:
    model = tiny("llama")
    model.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "own")
    tokenizer().save_pretrained(tmp_path / "own")
    refused(begin((f"{data}/model", f"{tmp_path}/own")), 3, "mlp.up_proj.weight", "NaN")


def test_a_pickle(begin: Callable[..., Run], tmp_path: Path, data: Path) -> None:
    folder = save("llama", tmp_path / "own")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    refused(begin((f"{data}/model", str(folder))), 3, "pickle", str(folder))


def test_a_model_without_its_tokenizer(begin: Callable[..., Run], tmp_path: Path, data: Path) -> None:
    folder = save("llama", tmp_path / "own")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    refused(begin((f"{data}/model", str(folder))), 3, "tokenizer", str(folder))


def test_a_pattern_that_does_not_fit(begin: Callable[..., Run]) -> None:
    refused(
        begin(('criterion = "sparsegpt"', 'criterion = "sparsegpt"\npattern = "2:5"')), 2, "5 does not divide", "32"
    )


@pytest.mark.parametrize("text", ["", " \n ", "too short"])
def test_calibration_text_that_is_too_short(begin: Callable[..., Run], tmp_path: Path, data: Path, text: str) -> None:
    (tmp_path / "short.txt").write_text(text)
    old = f'[calibration]\nsource = "file:{data}/text.txt"'
    refused(begin((old, old.replace(f"{data}/text", f"{tmp_path}/short"))), 3, "text")


def test_evaluation_text_that_is_too_short(begin: Callable[..., Run]) -> None:
    refused(begin(("windows = 3", "windows = 3\nstart = 100000")), 3, "evaluate.perplexity", "100000")


def test_windows_longer_than_the_model_has_positions(begin: Callable[..., Run]) -> None:
    refused(begin(("length = 64", "length = 1000")), 2, "evaluate.length", "512 positions")


def test_labels_outside_the_choices(begin: Callable[..., Run], tmp_path: Path, data: Path) -> None:
    lines = (data / "mood.jsonl").read_text().splitlines()
    lines[4] = json.dumps({"text": "so so", "label": "middling"})
    (tmp_path / "mood.jsonl").write_text("\n".join(lines))
    refused(begin((f"{data}/mood", f"{tmp_path}/mood")), 3, "middling", "line 5", "bad, good")


def test_calibration_of_words_that_change_from_row_to_row(
    begin: Callable[..., Run], tmp_path: Path, data: Path
) -> None:
    rows = [{"text": f"q {i}", "gold": 0, "choices": ["a", "b"]} for i in range(30)]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    run = begin(
        (f"{data}/mood", f"{tmp_path}/own"), ("labels = { bad = \" no\", good = \" yes\" }",
        "label_column = \"gold\"\nchoices_column = \"choices\""), steps=(1,),
    )  # fmt: skip
    refused(run, 2, "calibration", "fixed labels")


def test_a_budget_smaller_than_the_pool(begin: Callable[..., Run]) -> None:
    refused(begin(("budget = 60", "budget = 3"), steps=(1,)), 2, "budget of 3 examples for 6 prompts")


def test_a_gate_on_what_nobody_measures(begin: Callable[..., Run], data: Path) -> None:
    run = begin(
        (f'perplexity = "file:{data}/text.txt"', 'perplexity = "none"'),
        ('[[step]]\nuse = "prune"', '[gate]\nperplexity_ratio = 2.0\n\n[[step]]\nuse = "prune"'),
    )
    refused(run, 2, "gate.perplexity_ratio")
    assert not of_kind(run, ev.StepStarted), "said before the work"


@pytest.mark.parametrize("where", ["step-0-block-1", "model", "winner.json"])
def test_a_full_disk(begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    plain = files._sync

    def full(path: Path) -> None:
        if path.name.startswith(f".{where}") or (where == "model" and ".model." in str(path)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        plain(path)

    run = begin()
    monkeypatch.setattr(files, "_sync", full)
    assert execute(run) == 1
    failure = run.events()[-1]
    assert isinstance(failure, ev.RunFailed)
    assert "No space left on device" in failure.message
    assert "bug" not in (failure.hint or "")
    assert not leftovers(run)
    assert not (run.artifacts / "model").exists()
    monkeypatch.setattr(files, "_sync", plain)
    assert execute(run) == 0, run.state().failure


def test_a_full_disk_as_the_weight_writer_reports_it(
    begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from engine import checkpoints

    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    refused(begin(), 1, "No space left on device")


# Models that are no language models


def test_the_worked_example(tmp_path: Path) -> None:
    text = profiles.find("worked-example").text() + '\n[[step]]\nuse = "export"\n'
    run = runs.create("linear", text, tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    state = run.state()
    w = load_file(run.checkpoints / "step-0-block-0.safetensors")["linear.weight"]
    assert int((w != 0).sum()) == 500
    taught = load_file(run.checkpoints / "step-1-trained.safetensors")["linear.weight"]
    assert torch.equal(taught != 0, w != 0)
    assert not torch.equal(taught, w)
    assert int((load_file(run.artifacts / "model" / "model.safetensors")["linear.weight"] != 0).sum()) == 500
    summary = state.steps[0].summary
    assert summary["sparsity"] == 0.5
    from engine import builtin

    dense = builtin.linear(0)[0].linear.weight.detach()
    share = dense.abs() / dense.abs().sum()
    assert torch.equal(w, dense * (share >= summary["threshold"]))
    assert summary["threshold"] == pytest.approx(float(share[w != 0].min()))
    accuracy = state.metrics["dense"]["accuracy:features"]
    assert (accuracy.value, accuracy.n) == (1.0, 100)
    assert list(state.metrics) == ["dense", "pruned", "distilled", "sparse", "exported"]
    assert state.metrics["distilled"]["accuracy:features"].value == 1.0
    assert state.metrics["sparse"]["accuracy:features"].value > 0.9
    assert state.steps[3].summary["identical"] is True


@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_a_threshold_that_empties_the_layer(tmp_path: Path, threshold: float) -> None:
    text = profiles.find("worked-example").text().replace("sparsity = 0.5", f"threshold = {threshold}")
    refused(
        runs.create("linear", text, tmp_path / "run"),
        2,
        f"threshold {threshold:g} removes every weight",
        "largest threshold",
    )


CODE = """
import numpy as np, torch
from engine.data.features import Features
def make():
    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
    features = Features(x, (x[:, 0] > 0).astype(np.int64), tuple("abcdefghijklmnop"), "mine", np.zeros(16), np.ones(16))
    return torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), features
"""
CODE_PROFILE = """
[model]
source = "python:mine_b:make"
[calibration]
source = "{source}"
[evaluate]
perplexity = "none"
[[step]]
use = "prune"
criterion = "{criterion}"
[[step]]
use = "export"
"""


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_a_users_own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, criterion: str) -> None:
    (tmp_path / "mine_b.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = CODE_PROFILE.format(source="builtin", criterion=criterion)
    refused(runs.create("own", text, tmp_path / "no"), 2, "--allow-code")
    run = runs.create("own", text, tmp_path / "run")
    assert execute(run, allow_code=True) == 0, run.state().failure
    assert run.state().allow_code, "so that the run can be repeated"
    state = load_file(run.artifacts / "model" / "model.safetensors")
    for name in ("0.weight", "2.weight"):
        assert 2 * int((state[name] == 0).sum()) == state[name].numel()
    assert set(state) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert run.state().metrics["exported"]["accuracy:features"].n == 60


def test_a_users_own_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_b.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    header = ",".join([*"abcdefghijklmnop", "label"])
    rows = [",".join([*(str((7 * i * j) % 11) for j in range(1, 17)), "xy"[i % 2]]) for i in range(40)]
    (tmp_path / "own.csv").write_text("\n".join([header, *rows]))
    text = CODE_PROFILE.format(source=f"file:{tmp_path}/own.csv", criterion="wanda")
    run = runs.create("own", text, tmp_path / "run")
    assert execute(run, allow_code=True) == 0, run.state().failure
    assert run.state().metrics["dense"]["accuracy:features"].n == 40


def test_a_gate_goes_by_the_last_file_that_answered_the_dense_model_s_rows(tmp_path: Path) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    made.stage = "pruned"
    for stage, n, value in (("dense", 300, 0.8), ("pruned", 300, 0.6), ("exported onnx_int4", 200, 0.9)):
        made.state.apply(ev.Metric(step=0, stage=stage, name="accuracy:a", value=value, n=n))
    found = pipeline.last_measured(made, "accuracy:a")
    assert found is not None
    assert found.value == 0.6
    made.state.apply(ev.Metric(step=0, stage="exported safetensors", name="accuracy:a", value=0.5, n=300))
    made.state.apply(ev.Metric(step=0, stage="exported + best prompt", name="perplexity", value=0.9, n=9))
    found = pipeline.last_measured(made, "accuracy:a")
    assert found is not None
    assert found.value == 0.5
