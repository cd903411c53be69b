"""Profiles: shipped ones load, written ones read back equal, and every problem is told at once and in words."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from engine import profile
from engine.errors import ProfileError, Unavailable

SMALL = """
name = "small"
[model]
source = "demo"
[[step]]
use = "prune"
sparsity = 0.5
[[step]]
use = "select_prompt"
task = "sst2"
candidates = ["Good or bad?"]
"""
SHIPPED = [file.stem for file in profile.shipped()]


def problems(text: str, *overrides: str) -> dict[str, tuple[str, str | None]]:
    """Key path -> (message, hint) of everything wrong with a profile."""
    with pytest.raises(ProfileError) as caught:
        profile.parse(text, "p.toml", overrides)
    return {problem.key: (problem.message, problem.hint) for problem in caught.value.problems}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_load_under_their_own_name(name: str) -> None:
    loaded = profile.load(name)
    assert loaded.name == name
    assert loaded.description
    assert loaded.step


def test_the_expected_profiles_are_shipped() -> None:
    assert {"demo", "edge", "prompt-only", "quality", "worked-example"} <= set(SHIPPED)


def test_the_demo_has_a_pool_of_eight_or_more() -> None:
    (step,) = [step for step in profile.load("demo").step if step.use == "select_prompt"]
    assert len(set(step.candidates)) == len(step.candidates)
    assert len(step.candidates) * len(set(step.demonstrations)) * step.demonstration_sets >= 8


@pytest.mark.parametrize("name", SHIPPED)
def test_a_written_profile_reads_back_equal_and_writes_the_same_again(name: str) -> None:
    loaded = profile.load(name)
    text = profile.dump(loaded)
    again = profile.parse(text, "again.toml")
    assert again == loaded
    assert profile.dump(again) == text


@given(
    sparsity=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**40),
    description=st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    candidates=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda t: "file:" not in t)),
    length=st.integers(2, 4096),
    damping=st.floats(1e-9, 1.0),
)
def test_any_values_survive_being_written(
    sparsity: float, seed: int, description: str, candidates: list[str], length: int, damping: float
) -> None:
    raw = tomli.loads(SMALL)
    raw |= {"seed": seed, "description": description, "calibration": {"length": length}}
    raw["step"][0] |= {"sparsity": sparsity, "damping": damping}
    raw["step"][1] |= {"candidates": candidates, "demonstrations": [4]}
    loaded = profile.parse(tomlkit.dumps(raw), "p.toml")
    assert loaded.step[0].sparsity == sparsity
    assert profile.parse(profile.dump(loaded), "p.toml") == loaded


def test_a_users_task_survives_being_written() -> None:
    text = (
        SMALL
        + '[task.mine]\ntest = "file:/rows.tsv"\nlabels = {"0" = [" bad", " poor"], "1" = " good"}\nclean = {min_chars = 3}\n'
    )
    loaded = profile.parse(text, "p.toml")
    assert loaded.task["mine"].labels == {"0": [" bad", " poor"], "1": " good"}
    assert profile.parse(profile.dump(loaded), "p.toml") == loaded


# What can be wrong


@pytest.mark.parametrize(
    ("change", "key", "message", "hint"),
    [
        ("modle = 1\n", "modle", "unknown key", "did you mean 'model'"),
        ("seed = 'x'\n", "seed", "Input should be a valid integer", None),
        ("seed = -1\n", "seed", "Input should be greater than or equal to 0", None),
        ("name = 'a b'\n", "name", "String should match pattern", None),
        ("[calibration]\nsample = 3\n", "calibration.sample", "unknown key", "did you mean 'samples'"),
        ("[calibration.clean]\nunicod = 'NFC'\n", "calibration.clean.unicod", "unknown key", "did you mean 'unicode'"),
        ("[task.mine]\ntst = 'file:x'\n", "task.mine.tst", "unknown key", "did you mean 'test'"),
        ("[task.sst2]\ntest = 'file:x'\nlabels = {a = 'b', c = 'd'}\n", "task", "'sst2' is a built-in task", None),
        ("[evaluate]\ntasks = ['sst3']\n", "evaluate.tasks", "unknown task 'sst3'", "did you mean 'sst2'"),
        ("[gate]\nperplexity_ratio = 0\n", "gate.perplexity_ratio", "Input should be greater than 0", None),
        ("[evaluate]\nperplexity = 'dmeo'\n", "evaluate.perplexity", "unknown source of text 'dmeo'", "did you mean 'demo'"),
        ("[evaluate]\nperplexity = 'flie:a.txt'\n", "evaluate.perplexity", "unknown source of", "did you mean 'file:PATH'"),
        ("[calibration]\nsource = 'dmo'\n", "calibration.source", "unknown source of text 'dmo'", "did you mean 'demo'"),
        ("[calibration]\nsource = 'none'\n", "calibration.source", "unknown source of text 'none'", "builtin, demo, file:PATH"),
        ("[[step]]\nuse = 'evaluate'\nperplexity = 'wikitxt'\n", "step.2.perplexity", "unknown source of text", "stdlib"),
        ("[[step]]\nuse = 'evaluate'\ntasks = ['sst2', 'sst3']\n", "step.2.tasks", "unknown task 'sst3'", "mean 'sst2'"),
        ("[[step]]\nuse = 'finetune'\ndata = 'calbration'\n", "step.2.data", "unknown source", "mean 'calibration'?"),
        ("[[step]]\nuse = 'finetune'\ndata = 'task:ssst2'\n", "step.2.data", "unknown task 'ssst2'", "did you mean 'sst2'"),
        ("[[step]]\nuse = 'distill'\ndata = 'tsk:sst2'\n", "step.2.data", "unknown source of", "did you mean 'task:NAME'"),
        ("[[step]]\nuse = 'distill'\nteacher = 'builtin:circle'\n", "step.2.teacher", "unknown built-in model", "linear"),
        ("[[step]]\nuse = 'distill'\nstudent = 'a student'\n", "step.2.student", "unknown source of a model", "every-second"),
        ("[[step]]\nuse = 'prun'\n", "step.2.use", "unknown step 'prun'", "did you mean 'prune'"),
        ("[[step]]\nsparsity = 0.5\n", "step.2.use", "missing: which step this is", "known: "),
        ("[[step]]\nuse = 'prune'\nsparsity = 1.0\n", "step.2.sparsity", "Input should be less than 1", None),
        ("[[step]]\nuse = 'prune'\nsparsity = -0.1\n", "step.2.sparsity", "Input should be greater than or", None),
        ("[[step]]\nuse = 'prune'\ncriterion = 'wnda'\n", "step.2.criterion", "unknown criterion", "mean 'wanda'"),
        ("[[step]]\nuse = 'prune'\npattern = '4:2'\n", "step.2.pattern", "N:M keeps N of every M", None),
        ("[[step]]\nuse = 'prune'\npattern = '2;4'\n", "step.2.pattern", "must be \"unstructured\", N:M", None),
        ("[[step]]\nuse = 'prune'\npattern = '2:4'\nsparsity = 0.7\n", "step.2", "pattern 2:4 means", None),
        ("[[step]]\nuse = 'prune'\nthreshold = 0.1\n", "step.2", "threshold goes with criterion", None),
        ("[[step]]\nuse = 'prune'\ncriterion = 'importance'\nthreshold = 0.1\npattern = 'channels'\n", "step.2",
         "threshold does not go with pattern channels", None),
        ("[[step]]\nuse = 'quantize'\nbits = 5\n", "step.2.bits", "Input should be 3, 4 or 8, not 5", "bits = 4"),
        ("[[step]]\nuse = 'quantize'\ngroup = 48\n", "step.2.group", "Input should be 0, 32,", "group = 32 or 64"),
        ("[[step]]\nuse = 'quantize'\ngroup = '48'\n", "step.2.group", "Input should be 0, 32,", "group = 32 or 64"),
        ("[[step]]\nuse = 'quantize'\ngroup = 'x'\n", "step.2.group", "Input should be 0, 32,", "group = 0 or 32 or"),
        ("[[step]]\nuse = 'quantize'\nstatistics = 'dens'\n", "step.2.statistics", "Input should be", "mean 'dense'"),
        ("[[step]]\nuse = 'quantize'\nbits = 3\nsize_ratio = 0.4\n", "step.2.size_ratio", "size_ratio chooses", "leave"),
        ("[[step]]\nuse = 'select_prompt'\n", "step.2.task", "missing", None),
        ("[[step]]\nuse = 'select_prompt'\ntask = 'sst2'\n", "step.2.candidates", "the pool is the plain", "templates"),
        ("[[step]]\nuse = 'select_prompt'\ntask = 'sst2'\ncandidates = ['', ' ']\n", "step.2.candidates", "the pool is", None),
        ("[task.x]\ntest = 'file:x'\nlabels = {a = 'b'}\n", "task.x.labels", "'a' is the only label", "answer_column"),
        ("[task.x]\ntest = 'file:x'\nlabels = {a = 'b', c = ' '}\n", "task.x.labels", "label 'c' needs a word", '" yes"'),
        ("[[step]]\nuse = 'select_prompt'\ntask = 'sst3'\npool = 'file:x'\n", "step.2.task", "unknown task 'sst3'", "did you"),
        ("[[step]]\nuse = 'select_prompt'\ntask = 'sst2'\npool = 'x'\n", "step.2.pool", 'must be "file:PATH"', None),
        ("[[step]]\nuse = 'export'\nformat = 'pickle'\n", "step.2.format", "unknown export format", "known: "),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_its_key_and_a_hint(change: str, key: str, message: str, hint: str | None) -> None:
    at_top = not change.startswith("[")
    text = change + SMALL.replace('name = "small"', "") if at_top and change.startswith("name") else None
    text = text or (change + SMALL if at_top else SMALL + change)
    found = problems(text)
    assert list(found) == [key]
    assert found[key][0].startswith(message)
    assert hint is None or hint in (found[key][1] or "")


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("builtin:nope", "unknown built-in model 'nope'", "known: linear"),
        ("bultin:linear", "unknown source of a model 'bultin:linear'", "did you mean 'builtin:linear'?"),
        ("pyhton:a.b:c", "unknown source of a model 'pyhton:a.b:c'", "did you mean 'python:PACKAGE.MODULE:FACTORY'?"),
        ("models/llama/half", "unknown source of a model 'models/llama/half'", "./FOLDER"),
        ("my model", "unknown source of a model 'my model'", "ORG/NAME"),
    ],
)
def test_a_model_that_can_be_none_is_a_problem(source: str, message: str, hint: str) -> None:
    (found,) = problems(SMALL, f"model.source='{source}'").items()
    assert found[0] == "model.source"
    assert found[1][0] == message
    assert hint in (found[1][1] or "")


@pytest.mark.parametrize(
    "source",
    ["demoo", "gpt2", "org/name", "hub:org/name", "./folder", "a.gguf", "builtin:linear", "python:a.b:c", "/x:y"],
)
def test_a_model_that_may_be_one_is_left_to_the_run(source: str) -> None:
    text = SMALL + f"[[step]]\nuse = 'distill'\nteacher = '{source}'\nstudent = '{source}'\n"
    assert profile.parse(text, "p.toml", [f"model.source='{source}'"]).model.source.endswith(source.removeprefix("."))


def test_every_text_and_task_that_there_is_may_be_named() -> None:
    for source in ("demo", "stdlib", "self", "builtin", "file:a.txt", "hub:org/name/config:split"):
        profile.parse(SMALL, "p.toml", [f"calibration.source='{source}'"])
    mine = "[task.mine]\ntest = 'file:x'\nlabels = {a = 'b', c = 'd'}\n"
    for data in ("calibration", "demo", "stdlib", "file:a.txt", "hub:org/name", "task:sst2", "task:mine"):
        steps = f"[[step]]\nuse = 'finetune'\ndata = '{data}'\n[[step]]\nuse = 'evaluate'\nperplexity = 'none'\n"
        profile.parse(SMALL + mine + steps, "p.toml", ["evaluate.perplexity=none", "evaluate.tasks=['mine']"])


def test_names_are_told_beside_all_other_problems() -> None:
    text = (
        SMALL
        + "[calibration]\nsource = 'dmo'\nsamples = 0\n[evaluate]\ntasks = ['sst3']\n[[step]]\nuse = 'fly'\ndata = 'x'\n"
    )
    assert set(problems(text)) == {"calibration.source", "calibration.samples", "evaluate.tasks", "step.2.use"}


def test_all_problems_are_told_at_once() -> None:
    text = 'sede = 1\n[modle]\nsource = "demo"\n[[step]]\nuse = "prune"\nsparsity = "half"\n[[step]]\nuse = "fly"\n'
    assert set(problems(text, "step.9.x=1", "loose")) == {
        "sede", "modle", "model", "step.0.sparsity", "step.1.use", "step.9.x", "loose",
    }  # fmt: skip


def test_bad_syntax_is_told_with_its_line() -> None:
    assert "line 3" in problems('name = "x"\n[model]\nsource = demo\n')[""][0]


def test_an_empty_profile_misses_its_model() -> None:
    assert problems("") == {"model": ("missing", None)}


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})


@given(st.data())
def test_whatever_is_wrong_it_is_a_profile_error(data: st.DataObject) -> None:
    raw = tomli.loads(SMALL + "[task.mine]\ntest='file:x'\nlabels={a='b'}\nclean={min_chars=3}\n[gate]\n[evaluate]\n")
    for _ in range(data.draw(st.integers(1, 4))):
        _spoil(raw, data)
    text = json_to_toml(raw)
    with suppress(ProfileError):
        profile.parse(text, "p.toml")
        return
    assert problems(text)


def _spoil(raw: Any, data: st.DataObject) -> None:
    """Replaces, adds or removes something at a random place."""
    node = raw
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del node[key]
        elif action == "add" and isinstance(node, dict):
            node[data.draw(st.sampled_from(["extra", "use", "task", "clean", "step"]))] = data.draw(LEAVES)
        else:
            node[key] = data.draw(LEAVES)
        return


def json_to_toml(raw: Any) -> str:
    """TOML of nested data; None, which TOML does not have, is left out."""

    def clean(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: clean(v) for k, v in node.items() if v is not None}
        return [clean(v) for v in node if v is not None] if isinstance(node, list) else node

    return tomlkit.dumps(clean(copy.deepcopy(raw)))


# Overrides, paths, schema, editing


def test_overrides_reach_tables_and_steps() -> None:
    changed = profile.parse(
        SMALL, "p.toml", ["step.0.sparsity=0.6", "model.device=cpu", "evaluate.tasks=['sst2']", "gate.size_ratio=0.5"]
    )
    assert changed.step[0].sparsity == 0.6
    assert changed.model.device == "cpu"
    assert changed.evaluate.tasks == ["sst2"]
    assert changed.gate.size_ratio == 0.5


def test_shares_of_blocks_and_matrices_survive_writing() -> None:
    text = '[model]\nsource = "demo"\n[[step]]\nuse = "prune"\nshares = { "model.layers.0.q.weight" = 0.25, 3 = 0.5 }'
    changed = profile.parse(text, "p.toml", ["step.0.shares.7=0.4"])
    expected = {"model.layers.0.q.weight": 0.25, "3": 0.5, "7": 0.4}
    assert changed.step[0].shares == expected
    assert profile.parse(profile.dump(changed), "p.toml").step[0].shares == expected


def test_shares_can_be_edited_into_a_text() -> None:
    text = '[model]\nsource = "demo"\n[[step]] # one\nuse = "prune"\n[[step]]\nuse = "export"\n'
    edited = profile.edit(text, {"step.0.shares": {"model.layers.0.q.weight": 0.25, "3": 0.5}})
    edited = profile.edit(edited, {"step.0.shares.3": 0.6, "step.0.shares.4": 0.7})
    assert profile.parse(edited, "p.toml").step[0].shares == {"model.layers.0.q.weight": 0.25, "3": 0.6, "4": 0.7}
    assert profile.parse(profile.edit(edited, {"step.0.shares": None}), "p.toml").step[0].shares == {}
    assert "# one" in edited


@pytest.mark.parametrize(
    ("override", "key"),
    [("step.7.sparsity=0.1", "step.7.sparsity"), ("step.0.sparsity", "step.0.sparsity"), ("nme=x", "nme"),
     ("step.x=1", "step.x"), ("name.x=1", "name.x"), ("step.0.sparsity=lots", "step.0.sparsity")],
)  # fmt: skip
def test_a_wrong_override_is_a_problem_of_the_profile(override: str, key: str) -> None:
    assert key in problems(SMALL, override)


def test_paths_start_from_the_profiles_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_HERE", "/data")
    file = tmp_path / "mine.toml"
    file.write_text('[model]\nsource = "./model"\n[calibration]\nsource = "file:$DATA_HERE/a.txt"\n')
    loaded = profile.load(str(file))
    assert loaded.model.source == str(tmp_path / "model")
    assert loaded.calibration.source == "file:/data/a.txt"


def test_an_unset_variable_in_a_path_is_a_problem() -> None:
    text = '[model]\nsource = "demo"\n[calibration]\nsource = "file:$NOT_SET_ANYWHERE/a.txt"\n'
    assert "environment variable not set" in problems(text)["calibration.source"][0]


def test_a_profile_that_is_not_there_names_the_shipped_ones() -> None:
    with pytest.raises(Unavailable) as caught:
        profile.load("dmeo")
    assert "did you mean 'demo'" in (caught.value.hint or "")


def test_the_schema_is_json_and_names_every_step() -> None:
    text = json.dumps(profile.schema())
    assert all(name in text for name in ("PruneOptions", "SelectPromptOptions", "ExportOptions"))


def test_editing_keeps_comments_and_order() -> None:
    text = '# mine\nname = "a"  # keep\n[model]\nsource = "demo"\n'
    assert profile.edit(text, {"name": "b", "gate.size_ratio": 0.5}) == (
        '# mine\nname = "b"  # keep\n[model]\nsource = "demo"\n\n[gate]\nsize_ratio = 0.5\n'
    )
    assert profile.edit(text, {"name": None}) == '# mine\n[model]\nsource = "demo"\n'


def test_a_bare_name_that_is_a_path_is_that_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders of one name are two models; another text's name is none."""
    for name in ("llama", "demo", "self", "org/name"):
        (tmp_path / "here" / name).mkdir(parents=True)
    text = '[model]\nsource = "{}"\n[calibration]\nsource = "self"\n'
    for name, expected in (
        ("llama", str(tmp_path / "here/llama")), ("org/name", str(tmp_path / "here/org/name")), ("demo", "demo"),
        ("org/other", "org/other"), ("", ""),
    ):  # fmt: skip
        loaded = profile.parse(text.format(name), "x", base=tmp_path / "here")
        assert (loaded.model.source, loaded.calibration.source) == (expected, "self")
        monkeypatch.chdir(tmp_path / "here")
        assert profile.source(name) == expected
        overridden = profile.parse(text.format("x"), "x", [f"model.source={name}", "calibration.source=self"], tmp_path)
        assert (overridden.model.source, overridden.calibration.source) == (expected, "self")
    assert profile.parse(text.format("llama"), "x", base=tmp_path).model.source == "llama"
