"""Rows of several prompts in one batch: the numbers are those of every prompt and row alone, and wait in the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.prompting import answering, at_work, toy
from fixtures.unlike import STATEFUL, unlike
from hypothesis import given
from hypothesis import strategies as st

from engine.data.rows import Row
from engine.prompts import packing
from engine.prompts.cache import ScoreCache
from engine.prompts.contest import Contest
from engine.prompts.forward import Sequence_
from engine.prompts.options import SelectPromptOptions
from engine.prompts.packing import Part
from engine.prompts.scorer import Scorer
from engine.prompts.soft import beginning
from engine.prompts.template import Prompt

TEMPLATE = "Statement: {text}\nAnswer:"
ONE_TOKEN = (" no", " yes")
SEVERAL = (" a very long choice", " no", " yes indeed")
ROWS = toy(dev=23).dev


def prompts() -> list[Prompt]:
    """Of very different lengths, the first without a beginning that is worth sharing, two of equal length."""
    shown = toy().train
    read = Prompt("read", TEMPLATE, "Read it, then answer with yes or no.")
    several = [Prompt(f"shots {n}", TEMPLATE, "Answer.", tuple(shown[:n])) for n in (1, 3, 5)]
    turned = Prompt("turned", TEMPLATE, "Answer.", tuple(reversed(shown[:5])))
    return [Prompt("bare", "{text}"), Prompt("plain", TEMPLATE), read, *several, turned]


def pairs(choices: tuple[str, ...] = ONE_TOKEN) -> list[tuple[Prompt, list[Row]]]:
    """Every prompt with rows of its own number."""
    rows = [replace(row, choices=choices) for row in ROWS]
    return [(prompt, rows[: 5 + 3 * at]) for at, prompt in enumerate(prompts())]


def scores(scorer: Scorer, several: list[tuple[Prompt, list[Row]]]) -> list[torch.Tensor]:
    return [scorer.score(prompt, rows) for prompt, rows in several]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL], ids=["one-token", "several-tokens"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma", "mixtral"])
def test_each_row_is_scored_as_alone(name: str, choices: tuple[str, ...], device: str) -> None:
    model, several = subject(name), pairs(choices)
    model.module.to(device)
    alone = Scorer(model)
    expected = [torch.cat([alone.score(prompt, [row]) for row in rows]) for prompt, rows in several]
    scorer = Scorer(model, ScoreCache())
    packing.score(scorer, several, len(choices))
    assert scorer.computed == len(
        {scorer.key(s, None) for p, rows in several for s in scorer.sequences(p, rows, len(choices))}
    )
    again = Scorer(model, ScoreCache())
    for found, right in zip(scores(again, several), expected, strict=True):
        torch.testing.assert_close(found, right, atol=2e-4, rtol=1e-4)
    assert again.computed == 0, "everything was in the cache"


def test_a_stopped_one_goes_on_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing.Bounds, "of", lambda model: packing.Bounds(600, 20_000))
    model, several = subject("llama", seed=21), pairs()
    whole = Scorer(model, ScoreCache())
    packing.score(whole, several, 2)
    packed, expected = whole.computed, scores(whole, several)
    with ScoreCache()._connection as connection:
        connection.execute("DELETE FROM scores")

    def stop(done: int, total: int) -> None:
        if done < total:
            raise KeyboardInterrupt

    stopped, rest = Scorer(model, ScoreCache(), stop), Scorer(model, ScoreCache())
    with pytest.raises(KeyboardInterrupt):
        packing.score(stopped, several, 2)
    assert 0 < stopped.computed < packed
    packing.score(rest, several, 2)
    assert rest.computed == packed - stopped.computed
    assert all(torch.equal(a, b) for a, b in zip(scores(rest, several), expected, strict=True))


def test_what_is_left_to_the_scorer() -> None:
    """Virtual tokens, a single prompt, no cache."""
    model = subject("llama")
    learned = replace(prompts()[1], soft=beginning("soft", model, [5, 6, 7]))
    for several in ([(learned, ROWS), (prompts()[2], ROWS)], [(prompts()[3], ROWS)], []):
        scorer = Scorer(model, ScoreCache())
        packing.score(scorer, several, 2)
        assert scorer.computed == 0
    packing.score(Scorer(model), pairs(), 2)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_model_that_keeps_a_state_is_left_to_the_scorer(name: str) -> None:
    scorer = Scorer(unlike(name), ScoreCache())
    packing.score(scorer, pairs(), 2)
    assert scorer.computed == 0


def test_a_window_that_padding_would_fill_is_left_to_the_scorer() -> None:
    """Padding stands between the longest beginning and the longest row, which need not be one prompt's."""
    model = subject("gemma3_text")
    parts = [Part.of(s, [""] * len(s)) for p, r in pairs() if (s := Scorer(model).fitting(p, r, 2))]
    longest = max(len(s.tokens) for part in parts for s, _ in part.items)
    farthest = max(len(part.prefix) for part in parts) + max(part.width for part in parts)
    assert longest < farthest
    for window, packed in ((8, False), (longest, False), (farthest - 1, False), (farthest, True)):
        scorer = Scorer(subject("gemma3_text", sliding_window=window), ScoreCache())
        packing.score(scorer, pairs(), 2)
        assert bool(scorer.computed) == packed


def part(prefix: int, widths: list[int], name: str) -> Part:
    return Part((1,) * prefix, [(Sequence_((1,) * (prefix + w), ()), f"{name} {i}") for i, w in enumerate(widths)])


@given(
    st.lists(st.tuples(st.sampled_from([0, 9, 40, 200]), st.lists(st.integers(1, 60), min_size=1, max_size=9)), max_size=9),
    st.integers(1, 900), st.integers(1, 9000),
)  # fmt: skip
def test_groups_and_batches_hold_everything_once_within_their_bounds(
    drawn: list[tuple[int, list[int]]], tokens: int, cached: int
) -> None:
    parts = [part(prefix, widths, str(at)) for at, (prefix, widths) in enumerate(drawn)]
    groups = list(packing.together(parts, tokens))
    assert sorted(p.items[0][1] for group in groups for p in group) == sorted(p.items[0][1] for p in parts)
    for group in groups:
        assert len(group) == 1 or len(group) * max(len(p.prefix) for p in group) <= tokens
        batches = packing.batches(group, packing.Bounds(tokens, cached))
        keys = [key for batch in batches for _, key, _ in batch]
        assert sorted(keys) == sorted(key for p in group for _, key in p.items)
        held = max(len(p.prefix) for p in group)
        for batch in batches:
            widths = [len(sequence.tokens) - len(group[n].prefix) for sequence, _, n in batch]
            assert min(widths) >= 1
            together = len(batch) * max(widths), len(batch) * (held + max(widths))
            assert len(batch) == 1 or (together[0] <= tokens and together[1] <= cached)


@pytest.mark.parametrize("budget", [200, 96, 40])
def test_a_race_foresees_what_it_meets_and_no_more(
    budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SelectPromptOptions(use="select_prompt", task="toy", budget=budget)
    heard = list[tuple[str, int]]()
    answering(monkeypatch, lambda prompt, row: float(len(prompt.name)))
    monkeypatch.setattr(packing, "pays", lambda subject: True)
    monkeypatch.setattr(
        packing, "score", lambda _, several, width: heard.extend((p.name, len(rows)) for p, rows in several)
    )
    contest = Contest.open(at_work(tmp_path, step), step)
    group = [contest.enter(replace(prompt, name=f"{at}")) for at, prompt in enumerate(prompts()[1:5])]
    contest.race.together(group, budget)
    assert [name for name, _ in heard] == ["0", "1", "2", "3"]
    assert sum(count for _, count in heard) <= budget
    assert [count for _, count in heard] == [contest.race.met(candidate) for candidate in group]


def test_prompts_of_a_race_are_scored_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "pays", lambda subject: True)
    step = SelectPromptOptions(use="select_prompt", task="toy", budget=400)
    made = at_work(tmp_path, step)
    contest = Contest.open(made, step)
    called = list[int]()
    made.subject.module.register_forward_hook(lambda module, given, out: called.append(len(out.logits)))
    group = [contest.enter(replace(prompt, name=f"{at}")) for at, prompt in enumerate(prompts()[2:6])]
    contest.race.together(group, 4 * 16)
    assert called == [4, 4 * 16], "one forward for the beginnings, one for the rows"
