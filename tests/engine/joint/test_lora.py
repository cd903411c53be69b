"""Low-rank weights of a soft prompt's size: how many, where, and that nothing of them stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.workspaces import logits, workspace

from engine.joint.lora import adapted, plan_for
from engine.prompts.soft import Form, Soft, beginning
from engine.subject import Subject
from engine.weights import weights_hash


def plan(folder: Path, model: Subject, numbers: int) -> Any:
    return plan_for(workspace(folder, model), Soft("soft", torch.zeros(1, numbers)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mixtral", "gemma2"])
def test_they_change_the_answers_and_leave_no_trace(name: str, device: str, tmp_path: Path) -> None:
    model = subject(name)
    model.module.to(device)
    made = workspace(tmp_path / "run", model)
    before, answers, parts = weights_hash(model.module), logits(model), [type(m) for m in model.module.modules()]
    chosen = plan(tmp_path / "run", model, 400)
    with adapted(made, chosen) as weights:
        assert sum(weight.numel() for weight in weights) == chosen.numbers
        torch.testing.assert_close(logits(model), answers)  # they begin with no effect
        first = [weight.clone() for weight in weights]
        for weight in weights:
            weight.data += 0.1
        assert not torch.allclose(logits(model), answers, atol=1e-3)
    assert weights_hash(model.module) == before
    assert torch.equal(logits(model), answers)
    assert [type(m) for m in model.module.modules()] == parts
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    with adapted(made, chosen) as again:
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_queries_and_values_of_evenly_spread_blocks(tmp_path: Path) -> None:
    model = subject("llama", num_hidden_layers=6)
    pair = 32 + 32 + 32 + 16  # queries [32, 32], values [16, 32]
    found = plan(tmp_path / "a", model, 3 * pair)
    names = [f"model.layers.{block}.self_attn.{end}_proj" for block in (1, 3, 5) for end in "qv"]
    assert (found.modules, found.rank, found.numbers) == (names, 1, 3 * pair)
    assert plan(tmp_path / "b", model, 4 * pair - 1).numbers == 3 * pair
    assert len(plan(tmp_path / "c", model, 5).modules) == 2  # one block at least
    whole = plan(tmp_path / "d", model, 13 * pair)
    assert (len(whole.modules), whole.rank, whole.numbers) == (12, 2, 12 * pair)


@pytest.mark.parametrize("form", ["soft", "prefix"])
def test_about_as_many_numbers_as_the_soft_prompt(form: Form, tmp_path: Path) -> None:
    model = subject("llama", num_hidden_layers=8)
    soft = beginning(form, model, list(range(20)))
    found = plan_for(workspace(tmp_path / "run", model), soft)
    assert 0.75 < found.numbers / soft.weight_NW.numel() <= 1.0
