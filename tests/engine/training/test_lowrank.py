"""Low-rank recovery: the closed form of a merged weight, zeros that stay, whole runs with both methods of a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.killing import Killed, die_when
from fixtures.models import TEXT, save, subject
from fixtures.training import MEASURED, check_at, weights
from fixtures.workspaces import logits
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine import runs
from engine.runs import Run
from engine.training.lowrank import LowRank, adapted, matrices
from engine.training.options import RecoverOptions
from engine.worker import execute

PROFILE = (
    'name = "recover"'
    + MEASURED
    + """\
[[step]]
use = "prune"
criterion = "magnitude"
pattern = "2:4"
[[step]]
use = "recover"
method = "{method}"
rank = 4
steps = 20
check_every = 5
save_every = 4
held_out = 4
learning_rate = 5e-3
[[step]]
use = "export"
"""
)


@given(st.integers(1, 6), st.integers(2, 6), st.integers(1, 3), st.sampled_from([(), (3,)]), st.integers(0, 99))
def test_the_weight_is_the_masked_sum(rows: int, width: int, rank: int, experts: tuple[int, ...], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(*experts, rows, width, generator=random)
    mask = torch.rand(*experts, rows, width, generator=random) < 0.5
    made = LowRank(weight, mask, rank, random)
    assert torch.equal(made(weight), weight * mask), "no effect before it is trained"
    torch.nn.init.normal_(made.b, generator=random)
    found = made(weight)
    torch.testing.assert_close(found[mask], (weight + torch.einsum("...or,...ri->...oi", made.b, made.a))[mask])
    assert not bool(found[~mask].any())


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "gpt_oss"])
def test_what_is_merged_answers_as_what_was_trained(name: str) -> None:
    made = subject(name)
    weight = matrices(made)[0].parameter
    weight.data[..., ::2] = 0
    order = [name for name, _ in made.module.named_parameters()]
    before = logits(made)
    with adapted(made, 2, seed=0) as numbers:
        torch.testing.assert_close(logits(made), before)
        for number in numbers:
            torch.nn.init.normal_(number, std=0.1)
        during = logits(made)
    torch.testing.assert_close(logits(made), during)
    assert not torch.allclose(during, before)
    assert not bool(weight[..., ::2].any())
    assert [name for name, _ in made.module.named_parameters()] == order, "later trainings' states go by it"


@pytest.mark.parametrize("method", ["finetune", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_whole_models_recover_and_resume_to_the_same_bits(tmp_path: Path, method: str, dtype: str) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    save("llama", tmp_path / "model")
    text = PROFILE.format(folder=tmp_path, dtype=dtype, method=method)
    whole, broken = (runs.create("recover", text, tmp_path / name) for name in ("whole", "broken"))
    assert execute(whole) == 0, whole.state().failure
    with pytest.raises(Killed):
        execute(broken, also=die_when(check_at(15)))
    for run in (broken, broken):
        assert execute(run) == 0, run.state().failure
        assert weights(run) == weights(whole)
    check(whole, method)


def check(run: Run, method: str) -> None:
    state = run.state()
    summary, metrics = state.steps[1].summary, state.metrics
    assert summary["method"] == method
    assert summary["held_out_after"] < summary["held_out_before"]
    assert metrics["recovered"]["sparsity"].value == metrics["pruned"]["sparsity"].value
    assert metrics["recovered"]["perplexity"].value < metrics["pruned"]["perplexity"].value


@pytest.mark.parametrize("changed", [{"data": "task:sst2"}, {"steps": 7}, {"held_out": 3}, {"micro_batch": 1}])
def test_blockwise_refuses_what_only_trainings_of_the_whole_model_have(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"blockwise has no {next(iter(changed))}"):
        RecoverOptions.model_validate({"use": "recover", **changed})
    assert RecoverOptions.model_validate({"use": "recover", "method": "lora", **changed})


def test_finetune_has_a_smaller_rate_of_its_own() -> None:
    rates = {}
    for method in ("blockwise", "lora", "finetune"):
        rates[method] = RecoverOptions.model_validate({"use": "recover", "method": method}).learning_rate
    assert rates == {"blockwise": 1e-3, "lora": 1e-3, "finetune": 1e-4}
    assert (
        RecoverOptions.model_validate({"use": "recover", "method": "finetune", "learning_rate": 1.0}).learning_rate == 1
    )
