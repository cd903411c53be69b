"""What the local model writes: chance by seed and requests, answers kept by all that they depend on, and where they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from fixtures.models import subject

from engine.prompts.cache import ScoreCache
from engine.prompts.writer import Writer

ASKED = ["Read the statement.", "Say yes or no, then stop."]


class Counting(ScoreCache):
    """Counts what is put into it."""

    puts = 0

    def put(self, scores: Mapping[str, Any]) -> None:
        self.puts += 1
        super().put(scores)


@pytest.fixture
def cache() -> Counting:
    return Counting()


def test_the_same_seed_writes_the_same_and_another_does_not() -> None:
    model = subject("llama")
    one, same, other = (Writer(model, ScoreCache(), seed)._generate([[5, 9, 300]], 12) for seed in (3, 3, 4))
    assert one == same != other


def test_batches_draw_from_streams_of_their_own() -> None:
    """A model that knows nothing answers by chance alone: the same chance would give the same answers."""
    model = subject("llama")
    for parameter in model.module.parameters():
        parameter.data.zero_()
    writer = Writer(model, ScoreCache(), 0)
    one, other = writer._generate([[5, 9, 300]], 12), writer._generate([[5, 9, 301]], 12)
    assert one != other


def test_what_is_kept_is_not_written_again_but_under_the_same_conditions_alone(cache: Counting) -> None:
    model = subject("llama")
    first = Writer(model, cache, 0).write(ASKED, tokens=8)
    assert Writer(model, cache, 0).write(ASKED, tokens=8) == first
    assert cache.puts == 1
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        Writer(model, cache, 0).write(ASKED, tokens=8)
    finally:
        torch.set_num_threads(threads)
    assert cache.puts == 2
    tokenizer: Any = model.tokenizer
    tokenizer.chat_template = "{% for m in messages %}Q: {{ m.content }} A:{% endfor %}"
    Writer(model, cache, 0).write(ASKED, tokens=8)
    assert cache.puts == 3
    model.module.generation_config.top_k = 3
    Writer(model, cache, 0).write(ASKED, tokens=8)
    assert cache.puts == 4


@pytest.mark.parametrize("listed", [False, True])
def test_an_answer_says_whether_it_ended_by_itself(listed: bool) -> None:
    model = subject("llama")
    module: Any = model.module
    module.generation_config.eos_token_id = None
    writer = Writer(model, ScoreCache(), 0)
    (ids,) = writer._generate([[5, 9, 300]], 6)
    (without,) = Writer(model, ScoreCache(), 1).write(["Read."], tokens=6)
    assert not without.ended
    end = int(ids[3])
    module.generation_config.eos_token_id = [end] if listed else end
    (stopped,) = writer._generate([[5, 9, 300]], 6)  # the same chance
    assert writer._answer([int(i) for i in stopped]).ended
    before = ids[: ids.index(float(end))]
    assert not writer._answer([int(i) for i in before]).ended
