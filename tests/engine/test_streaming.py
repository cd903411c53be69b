"""A model that is read block by block is the same model: weights, answers, pruned weights, exports; and takes less memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, Killing, at, die_when
from fixtures.models import ARCHITECTURES, DEVICES, TEXT, VOCABULARY, save, subject, tiny, tokenizer
from safetensors.torch import load_file

from engine import events as ev
from engine import fitting, memory, model, runs
from engine import profile as profiles
from engine.calibration import Walk
from engine.errors import Unavailable, UsageError
from engine.evaluation.logits import window_logits
from engine.export.sharded import ShardWriter, add_part, write_streamed
from engine.profile import ModelOptions
from engine.runs import Run
from engine.spill import on_disk
from engine.subject import Subject
from engine.worker import execute


def load(folder: Path, memory: str, device: str = "cpu", dtype: str = "float32") -> Subject:
    return model.load(ModelOptions(source=str(folder), device=device, dtype=dtype, memory=memory))


def both(folder: Path, device: str = "cpu", dtype: str = "float32") -> tuple[Subject, Subject]:
    return load(folder, "resident", device, dtype), load(folder, "stream", device, dtype)


def held(subject: Subject) -> int:
    """Parameters in memory."""
    return sum(p.numel() for p in subject.module.parameters() if not p.is_meta)


def windows(count: int = 3, length: int = 70) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_holds_the_same_weights_and_buffers(name: str, dtype: str, device: str, tmp_path: Path) -> None:
    resident, streamed = both(save(name, tmp_path), device, dtype)
    pairs = zip(resident.tensors(), streamed.tensors(), strict=True)
    for (mine, tensor), (other, read) in pairs:
        assert mine == other
        assert tensor.dtype == read.dtype
        assert torch.equal(tensor, read), mine
    assert streamed.fingerprint == resident.fingerprint
    assert (streamed.parameters, streamed.bytes) == (resident.parameters, resident.bytes)
    assert not any(p.requires_grad for p in streamed.module.parameters())
    assert not streamed.module.training


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_answers_the_same_block_by_block(name: str, device: str, tmp_path: Path) -> None:
    resident, streamed = both(save(name, tmp_path / "model"), device)
    for spill in (None, tmp_path / "spill"):
        ids = windows().to(device)
        pairs = zip(window_logits(resident, ids), window_logits(streamed, ids, spill), strict=True)
        assert all(torch.equal(mine, other) for mine, other in pairs)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_a_block_is_in_memory_only_while_somebody_holds_it(name: str, tmp_path: Path) -> None:
    streamed = load(save(name, tmp_path), "stream")
    sizes = [sum(p.numel() for p in block.parameters()) for block in streamed.blocks()]
    assert held(streamed) == 0
    with streamed.rest():
        assert held(streamed) == streamed.parameters - sum(sizes)
    walk = Walk(streamed, windows(), 2, torch.float32)
    assert held(streamed) == 0
    assert all(matrix.weight.is_meta for matrix in walk.matrices)
    with walk.holding(1), walk.holding(1):
        assert held(streamed) == sizes[1]
        assert [matrix.weight.is_meta for matrix in walk.matrices] == [m.block == 0 for m in walk.matrices]
    with pytest.raises(KeyError), walk.holding(0):
        raise KeyError
    assert held(streamed) == 0
    for index in walk.run(lambda block: None, want_gram=False):
        assert held(streamed) == sizes[index]
    assert held(streamed) == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_matrices_are_views_of_what_the_block_holds_now(name: str, tmp_path: Path) -> None:
    resident, streamed = both(save(name, tmp_path))
    expected = {m.name: m for m in Walk(resident, windows(), 3, torch.float32).matrices}
    walk = Walk(streamed, windows(), 3, torch.float32)
    assert {m.name: (m.shape, m.group) for m in walk.matrices} == {
        m.name: (m.shape, m.group) for m in expected.values()
    }
    for index in range(walk.blocks()):
        with walk.holding(index), torch.no_grad():
            for matrix in walk.of_block(index):
                assert torch.equal(matrix.weight, expected[matrix.name].weight)
                matrix.weight.fill_(7)
            sevens = sum(int((p == 7).sum()) for p in walk.block(index).parameters())
            assert sevens == sum(m.weight.numel() for m in walk.of_block(index))


# Files


def sharded(name: str, folder: Path, **changes: Any) -> Path:
    tiny(name, **changes).save_pretrained(folder, max_shard_size="20KB")
    tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "mixtral"])
def test_one_file_or_many_shards_are_the_same_model(name: str, tmp_path: Path) -> None:
    one = load(save(name, tmp_path / "one"), "stream")
    many = load(sharded(name, tmp_path / "many"), "stream")
    assert one.fingerprint == many.fingerprint == load(tmp_path / "one", "resident").fingerprint


@pytest.mark.parametrize("largest", [10_000, 10**9])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_export_is_what_transformers_would_save(name: str, largest: int, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    streamed = load(save(name, tmp_path / "model"), "stream")
    folder = tmp_path / "out"
    folder.mkdir()
    write_streamed(streamed, folder, torch.bfloat16, largest)
    files = sorted(folder.glob("*.safetensors"))
    assert (len(files) == 1) == (largest == 10**9) != (folder / "model.safetensors.index.json").is_file()
    written = {key: value for file in files for key, value in load_file(file).items()}
    expected = load_file(tmp_path / "model" / "model.safetensors")
    assert written.keys() == expected.keys()
    assert all(torch.equal(value, expected[key].bfloat16()) for key, value in written.items())
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert again.dtype == torch.bfloat16
    assert all(torch.equal(v, tiny(name).state_dict()[k].bfloat16()) for k, v in again.state_dict().items())
    assert AutoTokenizer.from_pretrained(folder)("yes").input_ids == tokenizer()("yes").input_ids
    before, after = (json.loads((f / "config.json").read_text()) for f in (tmp_path / "model", folder))
    assert {**before, "dtype": "bfloat16"} == after


def test_a_shard_is_closed_before_it_is_too_large_or_misaligned(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(5, dtype=torch.uint8),
        "b": torch.randn(3, 4),
        "c": torch.randn(100),
        "d": torch.ones(2, 1),
    }
    with ShardWriter(tmp_path, 200) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert [index["weight_map"][name][6:11] for name in "abcd"] == ["00001", "00002", "00003", "00004"]
    assert index["metadata"]["total_size"] == 5 + 48 + 400 + 8
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])


def test_a_part_of_mixed_formats_is_one_shard(tmp_path: Path) -> None:
    state = {"a": torch.arange(5, dtype=torch.uint8), "b": torch.randn(3), "c": torch.arange(3), "d": torch.randn(5)}
    with ShardWriter(tmp_path) as writer:
        add_part(writer, state, torch.bfloat16)
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], state[name]) for name in "ac")
    assert all(torch.equal(found[name], state[name].bfloat16()) for name in "bd")


def test_a_file_that_lacks_a_weight(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = save("llama", tmp_path) / "model.safetensors"
    whole = load_file(file)
    for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        save_file({key: value for key, value in whole.items() if key != name}, file, {"format": "pt"})
        with pytest.raises(Unavailable, match=f"lack the weight {name}"):
            load(tmp_path, "stream")


def test_weights_that_do_not_fit_the_configuration(tmp_path: Path) -> None:
    config = json.loads((save("llama", tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 60}))
    with pytest.raises(Unavailable, match="do not fit the configuration"):
        load(tmp_path, "stream")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    spoiled = tiny("llama")
    spoiled.model.layers[1].mlp.up_proj.weight[3, 4] = value
    spoiled.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(Unavailable, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinite"):
        load(tmp_path, "stream")


def test_what_is_not_in_files_is_not_streamed() -> None:
    for source in ("builtin:linear", "python:here:make"):
        with pytest.raises(UsageError, match="only language models in files"):
            model.load(ModelOptions(source=source, device="cpu", dtype="float32", memory="stream"), allow_code=True)


@pytest.mark.parametrize(("free", "expected"), [(10**12, "resident"), (100_000, "stream")])
def test_auto_streams_what_would_not_fit(
    free: int, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    found = model.resolve(ModelOptions(source=str(save("llama", tmp_path)), device="cpu"))
    assert found.memory == expected
    assert model.resolve(found) == found
    assert model.resolve(ModelOptions(source="builtin:linear", device="cpu")).memory == "resident"


def test_free_memory_heeds_the_processs_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    assert memory.free_memory(device) > 0
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (10**6, 10**6))
    assert memory.free_memory(device) == 0


def test_spilled_tensors_are_the_tensors_and_leave_no_file(tmp_path: Path) -> None:
    for tensor in (torch.randn(3, 4, 5), torch.randn(7).bfloat16(), torch.arange(6).view(2, 3)):
        spilled = on_disk(tensor, tmp_path / "new")
        assert torch.equal(spilled, tensor)
        spilled.zero_()
        assert not list((tmp_path / "new").iterdir())


# Whole runs

PROFILE = """
name = "tiny"
threads = 1

[model]
source = "{folder}"
device = "cpu"
dtype = "{dtype}"
memory = "{memory}"

[calibration]
source = "file:{text}"
samples = 6
length = 48
chunk = {chunk}
states = "{states}"
compute = "{dtype}"

[evaluate]
perplexity = "file:{text}"
windows = 2
length = 64
speed = false

[[step]]
use = "prune"
criterion = "{criterion}"
sparsity = 0.25
statistics = "{statistics}"

[[step]]
use = "prune"
criterion = "wanda"

[[step]]
use = "recover"
epochs = 1

[[step]]
use = "export"
"""
STEPS = PROFILE.count("[[step]]")
PLAIN = {"dtype": "float32", "states": "memory", "chunk": 6, "criterion": "sparsegpt", "statistics": "sequential"}


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Run]:
    """A new run on a folder, with its weights resident or streamed."""
    (tmp_path / "text.txt").write_text(TEXT)
    number = iter(range(100))

    def create(folder: Path, mode: str, **changes: Any) -> Run:
        values = {**PLAIN, "folder": folder, "text": tmp_path / "text.txt", "memory": mode, **changes}
        text = PROFILE.format(**values)
        profiles.parse(text, "test")
        return runs.create("tiny", text, tmp_path / f"run-{next(number)}")

    return create


def done(run: Run) -> Run:
    assert execute(run) == 0, run.state().failure
    return run


def exported(run: Run) -> dict[str, torch.Tensor]:
    files = (run.artifacts / "model").glob("*.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def same(one: Run, other: Run) -> None:
    mine, theirs = exported(one), exported(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


VARIANTS: list[dict[str, Any]] = [
    {}, {"chunk": 4}, {"chunk": 4, "states": "disk"}, {"states": "disk", "dtype": "bfloat16"}, {"statistics": "dense"}
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, changes) for name in ("llama", "gpt2", "mixtral") for changes in VARIANTS] + [("qwen2", {})],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value.values())) or "plain",
)
def test_a_streamed_run_writes_the_same_weights(
    name: str, changes: dict[str, Any], begin: Callable[..., Run], tmp_path: Path
) -> None:
    folder = sharded(name, tmp_path / "model") if changes.get("chunk") else save(name, tmp_path / "model")
    resident = done(begin(folder, "resident", **{**changes, "states": "memory"}))
    streamed = done(begin(folder, "stream", **changes))
    same(resident, streamed)
    mine, theirs = resident.state(), streamed.state()
    assert mine.steps[STEPS - 1].summary["identical"] is theirs.steps[STEPS - 1].summary["identical"] is True
    for step in range(STEPS - 1):
        assert mine.steps[step].summary == theirs.steps[step].summary
    for stage in ("dense", "pruned", "pruned-2", "recovered", "exported"):
        for figure in ("perplexity", "sparsity", "bytes", "parameters"):
            known = mine.metrics[stage][figure].value
            if (stage, figure) != ("exported", "bytes"):
                assert theirs.metrics[stage][figure].value == pytest.approx(known, rel=1e-6), (stage, figure)
    assert not list(streamed.path.rglob("*.states"))


@pytest.mark.parametrize("chunk", [6, 4])
def test_a_streamed_run_that_dies_anywhere_ends_with_the_same_weights(
    chunk: int, begin: Callable[..., Run], tmp_path: Path
) -> None:
    folder = save("gpt2", tmp_path / "model")
    reference = done(begin(folder, "stream", chunk=chunk, states="disk"))
    last = len(reference.events())
    run = begin(folder, "stream", chunk=chunk, states="disk")
    for moment in range(3, last, 7):
        try:
            execute(run, also=die_when(at(moment)))
        except Killed:
            continue
        break
    done(run)
    same(reference, run)


def test_kill_9_leaves_no_states_behind_and_loses_no_bit(
    begin: Callable[..., Run], killed: Killing, tmp_path: Path
) -> None:
    """A real process, killed between two matrices of the second block."""
    folder = save("llama", tmp_path / "model")
    whole, run = (begin(folder, "stream", chunk=4, states="disk", criterion="admm") for _ in range(2))
    killed(run, lambda event: isinstance(event, ev.LayerPruned) and event.block == 1)
    assert not list(run.path.rglob("*.states"))
    same(done(whole), done(run))


def test_what_auto_decides_is_kept_for_the_next_process(
    begin: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(save("llama", tmp_path / "model"), "auto", states="auto")
    with monkeypatch.context() as patched:
        patched.setattr(memory, "fits", lambda weights, device: False)
        done(run)
    assert 'memory = "stream"' in run.profile_file.read_text()
    assert 'states = "memory"' in run.profile_file.read_text()
    assert any("block by block" in event.message for event in run.events() if isinstance(event, ev.Log))
    done(run)
    assert 'memory = "stream"' in run.profile_file.read_text()


def test_states_go_to_the_disk_when_they_would_take_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = subject("llama")
    states = 10 * 16 * 32 * 4
    for free, place in ((4 * states, "memory"), (4 * states - 4, "disk")):
        monkeypatch.setattr(fitting, "free_memory", lambda device, free=free: free)
        assert fitting.states_place(model, 10, 16) == place


def test_equal_masks_are_kept_once(tmp_path: Path) -> None:
    """Every chunk is called with the same positions and masks; only the last, shorter one may need its own."""
    walk = Walk(load(save("gemma2", tmp_path), "stream"), windows(5), 2, torch.float32)
    with walk.context():
        _, calls = walk.enter()
    for first, second, last in calls:
        kept = {id(t) for t in tensors_in(first.kwargs)}
        assert kept
        assert {id(t) for t in tensors_in(second.kwargs)} == kept
        assert all(
            torch.equal(a, b[: len(a)]) for a, b in zip(tensors_in(last.kwargs), tensors_in(first.kwargs), strict=True)
        )


def tensors_in(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict | tuple):
        return [t for item in (value.values() if isinstance(value, dict) else value) for t in tensors_in(item)]
    return [value] if isinstance(value, torch.Tensor) else []


REFUSED = {
    "evaluate.speed": ("speed = false", "speed = true"),
    "evaluate.tasks": ("speed = false", 'speed = false\ntasks = ["sst2"]'),
    "step.0.threshold": ('criterion = "sparsegpt"\nsparsity = 0.25', 'criterion = "importance"\nthreshold = 0.00001'),
    "step.2.use": ('use = "recover"\nepochs = 1', 'use = "select_prompt"\ntask = "sst2"\ndemonstrations = [4]'),
    "calibration.source": ('[calibration]\nsource = "file:{text}"', '[calibration]\nsource = "self"'),
}


@pytest.mark.parametrize("where", REFUSED)
def test_what_needs_the_whole_model_is_refused_before_any_work(
    where: str, begin: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (text.format(text=tmp_path / "text.txt") for text in REFUSED[where])
    run = begin(save("llama", tmp_path / "model"), "stream")
    text = run.profile_file.read_text()
    assert old in text
    run.profile_file.write_text(text.replace(old, new))
    assert execute(run) == 2
    failure = run.events()[-1]
    assert isinstance(failure, ev.RunFailed)
    assert "read block by block" in failure.message
    assert 'model.memory = "resident"' in (failure.hint or "")
    assert where in (failure.where or "")
    assert not any(isinstance(event, ev.StepStarted) for event in run.events())
