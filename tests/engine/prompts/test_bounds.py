"""What may go through a model together follows the card's memory, and is never less than on a processor."""

from __future__ import annotations

import pytest
import torch
from fixtures.models import subject
from hypothesis import given
from hypothesis import strategies as st

from engine.prompts.bounds import KEPT, PREDICTED, SHARE, WIDER, Bounds, in_halves, numbers_held

LEAST = Bounds()


@given(st.integers(2**30, 2**38), st.integers(1, 2**21), st.integers(2**10, 2**22))
def test_a_batch_takes_its_share_of_the_card_and_no_more(memory: int, held: int, predicted: int) -> None:
    found = LEAST.wider(memory, held, predicted)
    assert LEAST.tokens <= found.tokens <= WIDER * LEAST.tokens
    assert LEAST.cached <= found.cached <= WIDER * LEAST.cached
    assert found.cached * held <= memory / SHARE or found.cached == LEAST.cached
    assert found.tokens * predicted <= memory / SHARE or found.tokens == LEAST.tokens
    assert found.tokens in (LEAST.tokens, WIDER * LEAST.tokens) or (found.tokens + 1) * predicted > memory / SHARE


def test_a_small_model_on_a_large_card_gets_more_than_ten_times_as_much() -> None:
    """SmolLM2-135M in float32 on 80 GB."""
    assert LEAST.wider(80 * 10**9, 2 * 3 * 64 * 30 * 4, PREDICTED * 49152) == Bounds(25_431, 217_013)


def test_a_model_with_a_large_vocabulary_on_a_small_card_goes_as_on_a_processor() -> None:
    assert LEAST.wider(8 * 10**9, 131_072, PREDICTED * 262_144) == Bounds(2048, 16384)


@given(st.lists(st.integers(), min_size=1), st.integers(1, 9))
def test_where_memory_runs_out_halves_give_the_same(numbers: list[int], most: int) -> None:
    asked: list[int] = []

    def work(batch: list[int]) -> list[int]:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        asked.append(len(batch))
        return [2 * number for number in batch]

    assert in_halves(work, numbers) == [2 * number for number in numbers]
    assert max(asked) <= most
    assert sum(asked) == len(numbers)


def test_what_fails_otherwise_or_alone_fails() -> None:
    def work(batch: list[int]) -> list[int]:
        asked.append(len(batch))
        raise error

    for error, calls in ((RuntimeError("shapes"), [4]), (torch.OutOfMemoryError("CUDA out of memory"), [4, 2, 1])):
        asked: list[int] = []
        with pytest.raises(RuntimeError, match=str(error)):
            in_halves(work, [1, 2, 3, 4])
        assert asked == calls


def test_keys_and_values_are_counted_as_a_cache_holds_them() -> None:
    for name in ("llama", "gpt2", "opt", "gemma", "mixtral"):
        model = subject(name)
        past = model.module(torch.tensor([[1, 2, 3]]), use_cache=True).past_key_values
        numbers = sum(layer.keys.numel() + layer.values.numel() for layer in past.layers)
        assert numbers == 3 * len(model.blocks()) * numbers_held(model, model.module.config.hidden_size), name
    assert Bounds.of(subject("llama")) == LEAST


def test_learning_takes_what_a_backward_pass_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2-135M on 80 GB: 30 blocks, 14 numbers of each of 576 and 8 of each of 1,536, 4 of each of 49,152, float32."""
    assert Bounds.learning(subject("llama")) == KEPT
    taken = 4 * (30 * (14 * 576 + 8 * 1536) + 4 * 49152)
    assert KEPT.wider(80 * 10**9, 2 * 3 * 64 * 30 * 4, taken) == Bounds(3097, 131_072)
    assert Bounds.of(model := subject("llama")).tokens == 2048
    heard: list[int] = []
    monkeypatch.setattr(Bounds, "on", lambda self, model, taken: heard.append(taken(10, 1000)) or self)
    Bounds.learning(model)
    widest = max(size for block in model.blocks() for weight in block.parameters() for size in weight.shape)
    assert heard == [4 * (len(model.blocks()) * (14 * 10 + 8 * widest) + 4 * 1000)]
