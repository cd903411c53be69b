"""Laws of every registered export format and task; a new file is tested here without further edits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.models import subject, tokenizer
from torch import nn

from engine.data.rows import check_template
from engine.data.tasks import load_task
from engine.errors import Unavailable, UsageError
from engine.export.format import ExportFormat
from engine.profile import ModelOptions
from engine.registry import FAMILIES, FORMATS, TASKS
from engine.subject import DTYPES, Subject


@pytest.mark.parametrize("family", FAMILIES)
def test_every_piece_imports_and_says_what_it_is(family: str) -> None:
    for name in FAMILIES[family].names():
        assert FAMILIES[family].summary(name)
        assert FAMILIES[family].load(name)


def holds(form: ExportFormat, mine: Subject) -> bool:
    """Whether the format takes the model as it is; it says so otherwise."""
    try:
        form.check(mine, None)
    except (UsageError, Unavailable):
        return False
    return True


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "mixtral"])  # qwen2 with tied embeddings
@pytest.mark.parametrize("name", FORMATS.names())
def test_a_format_writes_what_reloads(name: str, architecture: str, dtype: str, tmp_path: Path) -> None:
    mine = subject(architecture)
    with torch.no_grad():
        for parameter in mine.module.parameters():
            parameter[torch.rand(parameter.shape) < 0.5] = 0
    before = {key: value.clone() for key, value in mine.module.state_dict().items()}
    form = FORMATS.load(name).FORMAT
    if not holds(form, mine):
        return
    form.write(mine, tmp_path, DTYPES[dtype])
    if form.read is None:
        assert form.bytes(tmp_path)
        return
    again = form.read(ModelOptions(source="x", device="cpu", dtype=dtype), tmp_path)
    after = again.module.state_dict()
    assert after.keys() == before.keys()
    if form.inside is not None:
        assert all((after[key].float() - value).norm() <= 0.2 * value.norm() for key, value in before.items())
        return
    for key, value in before.items():
        assert after[key].dtype == DTYPES[dtype]
        assert torch.equal(after[key], value.to(DTYPES[dtype])), key
    assert all(torch.equal(value, before[key]) for key, value in mine.module.state_dict().items()), "the model is kept"
    text = "a text, with yes and no"
    assert again.tokenizer(text).input_ids == tokenizer()(text).input_ids


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("name", FORMATS.names())
def test_half_the_bytes_a_weight_are_half_the_file(name: str, architecture: str, tmp_path: Path) -> None:
    """Also where weights are tied: they are stored once."""
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        folder.mkdir()
        form = FORMATS.load(name).FORMAT
        if not holds(form, subject(architecture)):
            return
        form.write(subject(architecture), folder, DTYPES[dtype])
        sizes[dtype] = form.bytes(folder)
    if form.inside is not None:
        assert len(set(sizes.values())) == 1
        return
    weights = sum(p.numel() for p in subject(architecture).module.parameters())
    assert sizes["float32"] == pytest.approx(4 * weights, rel=0.1)
    assert sizes["bfloat16"] == pytest.approx(2 * weights, rel=0.15)


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_format_writes_other_modules_too(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    mine = Subject(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "here", "f")
    form = FORMATS.load(name).FORMAT
    if not holds(form, mine):
        return
    form.write(mine, tmp_path, torch.float32)
    if form.read is None:
        return
    state = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(state[key], value) for key, value in mine.module.state_dict().items())


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_has_three_disjoint_splits_of_answerable_rows(name: str) -> None:
    task = load_task(name, None, seed=0)
    splits = {"train": task.train, "dev": task.dev, "test": task.test}
    assert task.description
    for split, rows in splits.items():
        assert len(rows) >= 50, split
        for row in rows:
            assert row.text
            assert len(row.choices) >= 2
            assert 0 <= row.gold < len(row.choices)
            assert all(choice.startswith(" ") and choice.strip() for choice in row.choices)
        check_template(task.template, rows[0].fields, where=name)
    texts = {split: {(row.text, row.choices) for row in rows} for split, rows in splits.items()}
    assert not texts["train"] & texts["dev"]
    assert not texts["train"] & texts["test"]
    assert not texts["dev"] & texts["test"]
    if task.labels:
        assert {row.gold for row in task.test} == set(range(len(task.labels)))
    assert load_task(name, None, seed=0).fingerprint == task.fingerprint
    assert load_task(name, None, seed=1).fingerprint != task.fingerprint
