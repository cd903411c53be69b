"""Perplexity and speed of a tiny model against direct computation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fixtures.models import DEVICES, TEXT, subject
from fixtures.workspaces import workspace

from engine.errors import Unavailable
from engine.evaluation.perplexity import Perplexity, perplexity
from engine.evaluation.speed import speed
from engine.subject import Subject


def measure(model: Subject, tokens: torch.Tensor, windows: int, length: int, start: int = 0) -> Perplexity:
    return perplexity(model, tokens, windows, length, start, lambda done, total: None)


def direct(model: Subject, tokens: torch.Tensor, windows: range, length: int) -> list[float]:
    """Mean negative log-probability of each window, token by token."""
    out = []
    for window in windows:
        ids = tokens[window * length : (window + 1) * length].to(model.device)
        with torch.inference_mode():
            logs = model.module(ids[None]).logits[0].double().log_softmax(-1)
        out.append(-sum(float(logs[i, ids[i + 1]]) for i in range(length - 1)) / (length - 1))
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma3_text"])
@pytest.mark.parametrize(("windows", "start"), [(1, 0), (5, 0), (3, 4)])
def test_it_is_the_exponential_of_the_mean_loss(name: str, windows: int, start: int, device: str) -> None:
    model = subject(name)
    model.module.to(device)
    tokens = model.token_ids(TEXT)
    found = measure(model, tokens, windows, 80, start)
    losses = direct(model, tokens, range(start, start + windows), 80)
    assert found.value == pytest.approx(math.exp(sum(losses) / windows), rel=1e-4)
    assert found.n == windows * 79
    assert found.low <= found.value <= found.high


def test_windows_beyond_the_text_are_left_out() -> None:
    model = subject("llama")
    tokens = model.token_ids(TEXT)[:350]
    told: list[tuple[int, int]] = []
    found = perplexity(model, tokens, 20, 100, 1, lambda done, total: told.append((done, total)))
    assert found == measure(model, tokens, 2, 100, 1)
    assert told == [(1, 2), (2, 2)]


def test_a_text_that_fills_no_window_is_refused() -> None:
    model = subject("llama")
    for tokens, start in ((99, 0), (0, 0), (199, 1)):
        with pytest.raises(Unavailable, match=f"the text has {tokens} tokens") as caught:
            measure(model, torch.zeros(tokens, dtype=torch.long), 2, 100, start)
        assert caught.value.hint


def test_a_ruined_model_has_an_infinite_perplexity() -> None:
    model = subject("llama")
    model.module.lm_head.weight.mul_(1e6)
    assert measure(model, model.token_ids(TEXT), 3, 64).value == math.inf


def test_a_model_that_knows_nothing_has_the_vocabularys_perplexity() -> None:
    model = subject("llama")
    model.module.lm_head.weight.zero_()
    found = measure(model, model.token_ids(TEXT), 3, 64)
    assert (found.low, found.value, found.high) == pytest.approx((512, 512, 512), rel=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", [{}, {"n_positions": 40}], ids=["enough positions", "few positions"])
def test_speed_is_positive(changes: dict[str, int], device: str) -> None:
    model = subject("gpt2", **changes)
    model.module.to(device)
    found = speed(model)
    assert found.prefill > 0
    assert found.decode > 0


def test_the_text_is_read_and_tokenized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model's tokenizer is asked: it may be what is being checked."""
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    space, other = workspace(tmp_path / "run", subject("llama")), subject("llama")
    asked: list[Subject] = []
    plain = Subject.token_ids
    monkeypatch.setattr(Subject, "token_ids", lambda self, text: asked.append(self) or plain(self, text))
    first = space.evaluation_tokens(f"file:{file}", space.subject)
    file.unlink()
    for model in (space.subject, other):
        assert torch.equal(space.evaluation_tokens(f"file:{file}", model), first)
    assert [id(model) for model in asked] == [id(space.subject), id(other)]
