"""The cache of statistics: what a walk would hand over, collected once, made anew when anything that matters differs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from fixtures.models import ARCHITECTURES, DEVICES, VOCABULARY, subject
from torch import nn

from engine import events as ev
from engine import files, grams, runs
from engine import profile as profiles
from engine.calibration import Walk
from engine.errors import EngineError
from engine.grams import Grams
from engine.matrices import Matrix, Statistics
from engine.state import RunState
from engine.subject import Subject
from engine.workspace import Workspace

Said = list[ev.Event]
ENTRY = "[model]\nsource = 'demo'\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; the folder of the statistics in it."""
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "grams"


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., tuple[Workspace, Said]]:
    """A workspace around a model, and what it says."""
    number = iter(range(100))

    def make(model: Subject, threads: int = 1) -> tuple[Workspace, Said]:
        said: Said = []
        profile = profiles.parse(f"threads = {threads}\n{ENTRY}", "test")
        run = runs.create("grams", ENTRY, tmp_path / f"run-{next(number)}")
        return Workspace(run, profile, model, said.append, lambda: False, RunState()), said

    return make


def tokens(seed: int = 7, samples: int = 6) -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (samples, 40), generator=torch.Generator().manual_seed(seed))


def walk_over(model: Subject, chunk: int = 6, inputs: torch.Tensor | None = None) -> Walk:
    return Walk(model, tokens() if inputs is None else inputs, chunk, torch.float32)


def walked(walk: Walk) -> dict[str, Statistics]:
    """What a walk past the model hands over, by matrix."""
    seen: dict[str, Statistics] = {}

    def note(matrices: list[Matrix], statistics: Statistics) -> None:
        seen.update({matrix.name: statistics for matrix in matrices})

    list(walk.run(lambda block: note, want_gram=True))
    return seen


def kept(found: Grams) -> dict[str, Statistics]:
    pairs = [pair for block in range(found.walk.blocks()) for pair in found.groups(block)]
    return {matrix.name: statistics for matrices, statistics in pairs for matrix in matrices}


def same(one: Statistics, other: Statistics) -> bool:
    assert one.gram is not None
    assert other.gram is not None
    tensors = [(one.gram, other.gram), (one.mean_squares, other.mean_squares), (one.rows, other.rows)]
    return one.tokens == other.tokens and all(torch.equal(a, b) and a.dtype == b.dtype for a, b in tensors)


def passes(said: Said) -> int:
    """How often the model was walked over."""
    return sum(isinstance(event, ev.Progress) and event.done == 1 for event in said)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk", [6, 4])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_kept_is_what_a_walk_hands_over(name: str, chunk: int, device: str, bench: Any) -> None:
    model = subject(name)
    model.module.to(device)
    walk = walk_over(model, chunk)
    expected, found = walked(walk), kept(Grams.of(bench(model)[0], walk))
    assert found.keys() == expected.keys()
    assert all(same(found[key], statistics) for key, statistics in expected.items())
    assert all(statistics.rows.device == model.device for statistics in found.values())


def test_experts_that_no_token_reaches_are_kept_too(bench: Any) -> None:
    model = subject("mixtral", num_local_experts=4, num_experts_per_tok=1)
    for block in model.module.model.layers:
        block.mlp.gate.weight.data[1] = -block.mlp.gate.weight.data[0]
        block.mlp.gate.weight.data[2:] = 0
    found = kept(Grams.of(bench(model)[0], walk_over(model)))
    unreached = {name: statistics for name, statistics in found.items() if statistics.tokens == 0}
    assert sorted(name[-3:] for name in unreached) == ["[2]"] * 4 + ["[3]"] * 4
    for statistics in unreached.values():
        assert statistics.gram is not None
        assert torch.equal(statistics.gram, torch.eye(len(statistics.gram)))
        assert (statistics.mean_squares == 1).all()
        assert statistics.rows.shape == (0, len(statistics.gram))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_modules_with_features(bench: Any, dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)).to(dtype).requires_grad_(False)
    x = torch.randn(50, 16).to(dtype)
    model = Subject(module, "here", "f")
    found = kept(Grams.of(bench(model)[0], Walk(model, x, 50, torch.float32)))
    torch.testing.assert_close(found["0.weight"].gram, x.float().T @ x.float() / 50)
    assert set(found) == {"0.weight", "2.weight"}


# Once


def test_the_second_use_reads_the_same_files(bench: Any, cache: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in sorted(cache.rglob("*.safetensors"))}

    workspace, said = bench(subject("llama"))
    first = Grams.of(workspace, walk_over(workspace.subject))
    before = state()
    again, said_again = bench(subject("llama"))  # another run, another object, the same weights
    second = Grams.of(again, walk_over(again.subject))
    assert (passes(said), passes(said_again)) == (1, 0)
    assert second.folder == first.folder
    assert state() == before
    assert len(before) == 2 * 4  # q/k/v, o, gate/up, down
    assert all(same(kept(first)[name], statistics) for name, statistics in kept(second).items())


def changed_weight(model: Subject) -> None:
    model.module.model.layers[1].mlp.up_proj.weight.data[3, 3] += 1e-3


def changed_setting(model: Subject) -> None:
    model.module.config.rms_norm_eps = 1e-3


@pytest.mark.parametrize("change", [changed_weight, changed_setting])
def test_another_model_has_another_key(bench: Any, change: Callable[[Subject], None]) -> None:
    model = subject("llama")
    workspace, said = bench(model)
    one = Grams.of(workspace, walk_over(model))
    change(model)
    other = Grams.of(workspace, walk_over(model))
    assert one.folder != other.folder
    assert passes(said) == 2


def test_the_key_holds_everything_that_matters(bench: Any) -> None:
    model = subject("llama")
    workspace = bench(model)[0]
    inputs = tokens()
    walks = [
        walk_over(model), walk_over(model, inputs=inputs.roll(1)), walk_over(model, chunk=3),
        walk_over(model, inputs=inputs.reshape(12, 20)), walk_over(model, inputs=tokens(samples=5)),
        Walk(model, inputs, 6, torch.bfloat16),
    ]  # fmt: skip
    keys = [grams.key(workspace, walk) for walk in walks]
    keys.append(grams.key(bench(model, threads=2)[0], walks[0]))
    assert len(set(keys)) == len(keys)
    assert grams.key(bench(subject("llama"))[0], walk_over(subject("llama"))) == keys[0]


# What can go wrong with files


def replaced(file: Path, content: bytes) -> None:
    file.unlink()  # another file under the name: the old one may still be mapped into memory
    file.write_bytes(content)


def cut_off(folder: Path) -> None:
    file = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    replaced(file, file.read_bytes()[:-100])


def one_missing(folder: Path) -> None:
    min(folder.iterdir()).unlink()


def one_empty(folder: Path) -> None:
    replaced(min(folder.iterdir()), b"")


def of_something_else(folder: Path) -> None:
    replaced(min(folder.iterdir()), safetensors.torch.save({"gram": torch.ones(2, 2)}))


def all_gone(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("harm", [cut_off, one_missing, one_empty, of_something_else, all_gone])
def test_a_damaged_entry_is_made_anew(bench: Any, cache: Path, harm: Callable[[Path], None]) -> None:
    workspace, said = bench(subject("llama"))
    walk = walk_over(workspace.subject)
    found = Grams.of(workspace, walk)
    before = kept(found)
    harm(found.folder)
    after = kept(Grams.of(workspace, walk))
    assert passes(said) == 2
    assert all(same(after[name], statistics) for name, statistics in before.items())
    assert list(cache.iterdir()) == [found.folder]


def test_a_pass_that_dies_leaves_no_entry(bench: Any, cache: Path) -> None:
    workspace, _ = bench(subject("llama"))
    workspace.should_stop = lambda: True
    with pytest.raises(EngineError, match="stopped on request"):
        Grams.of(workspace, walk_over(workspace.subject))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "instead"),
    [
        ("use = 'prune'\nstatistics = 'dense'", '; none is needed with step.0.statistics = "sequential"'),
        ("use = 'sensitivity'", ""),
    ],
)
def test_a_full_disk_is_foreseen(
    bench: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str, instead: str
) -> None:
    workspace, said = bench(subject("llama"))
    workspace.profile, workspace.step = profiles.parse(f"{ENTRY}[[step]]\n{step}\n", "test"), 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4000))
    with pytest.raises(EngineError, match="GB are free") as caught:
        Grams.of(workspace, walk_over(workspace.subject))
    assert caught.value.hint == f"COMPRESS_TUI_CACHE names a folder on another disk{instead}"
    assert not said
    assert list(cache.iterdir()) == []


def test_the_space_asked_for_is_the_space_taken(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, _ = bench(subject("llama"))
    inputs = tokens(samples=13)  # 520 rows: more than are kept
    walk = walk_over(workspace.subject, chunk=13, inputs=inputs)
    taken = files.folder_bytes(Grams.of(workspace, walk).folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=round(taken * 2)))
    grams.check_space(walk, Path("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=round(taken / 2)))
    with pytest.raises(EngineError):
        grams.check_space(walk, Path("/"))


# Trimming


def entry(cache: Path, name: str, age: float) -> Path:
    """An entry of the cache that was used `age` seconds after the oldest."""
    folder = cache / name
    folder.mkdir(parents=True)
    (folder / "x.safetensors").write_bytes(b"x")
    os.utime(folder, (1_700_000_000 + age, 1_700_000_000 + age))
    return folder


def test_trimming_keeps_the_newest(cache: Path) -> None:
    for number in (3, 0, 5, 1, 4, 2):
        entry(cache, f"entry-{number}", 60.0 * number)
    grams.trim(cache)
    assert sorted(path.name for path in cache.iterdir()) == [f"entry-{number}" for number in (2, 3, 4, 5)]


def test_what_was_used_lately_stays_whatever_the_number(cache: Path) -> None:
    for number in range(grams.KEPT + 3):
        os.utime(entry(cache, f"entry-{number}", 0.0))
    grams.trim(cache)
    assert len(list(cache.iterdir())) == grams.KEPT + 3


def test_an_entry_that_goes_while_it_is_read_is_told_and_made_anew(bench: Any) -> None:
    workspace, said = bench(subject("llama"))
    found = Grams.of(workspace, walk_over(workspace.subject))
    reading = found.groups(0)
    next(reading)
    shutil.rmtree(found.folder)
    for read in (lambda: next(reading), lambda: next(found.groups(1))):
        with pytest.raises(EngineError, match="have left the cache") as caught:
            read()
        assert caught.value.where == str(found.folder)
        assert "resuming" in str(caught.value.hint)
    assert kept(Grams.of(workspace, walk_over(workspace.subject)))
    assert passes(said) == 2


def test_use_counts_as_new(bench: Any, cache: Path) -> None:
    workspace, said = bench(subject("llama"))
    mine = Grams.of(workspace, walk_over(workspace.subject))
    for read in (lambda: Grams.of(workspace, walk_over(workspace.subject)), lambda: list(mine.groups(0))):
        os.utime(mine.folder, (1_600_000_000, 1_600_000_000))
        others = [entry(cache, f"other-{number}", number) for number in range(grams.KEPT)]
        read()
        grams.trim(cache)
        assert mine.folder.is_dir()
        assert [folder.name for folder in others if not folder.is_dir()] == ["other-0"]
        for folder in others:
            shutil.rmtree(folder, ignore_errors=True)
    assert passes(said) == 1


def test_what_others_are_writing_stays_and_what_was_abandoned_goes(cache: Path) -> None:
    for number in range(grams.KEPT):
        entry(cache, f"entry-{number}", 60.0 * number)
    abandoned = entry(cache, ".entry-8.123.part", 0.0)
    begun = entry(cache, ".entry-9.456.part", 0.0)
    os.utime(begun)
    grams.trim(cache)
    assert begun.is_dir()
    assert not abandoned.exists()
    assert len(list(cache.iterdir())) == grams.KEPT + 1


def test_one_gram_matrix_is_read_at_a_time(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, _ = bench(subject("llama"))
    found = Grams.of(workspace, walk_over(workspace.subject))
    read: list[str] = []
    plain = Grams.statistics

    def noting(self: Grams, matrix: Matrix) -> Statistics:
        read.append(matrix.name)
        return plain(self, matrix)

    monkeypatch.setattr(Grams, "statistics", noting)
    for number, _pair in enumerate(found.groups(1), start=1):
        assert len(read) == number
