"""The scorer's shortcuts (shared prefix, batches, one forward for one-token choices, the cache) change no number."""

from __future__ import annotations

import pytest
import torch
from fixtures.models import DEVICES, subject
from fixtures.unlike import STATEFUL, WINDOWED, unlike
from hypothesis import given
from hypothesis import strategies as st

from engine.data.rows import Row
from engine.prompts import scorer as scorer_module
from engine.prompts.cache import ScoreCache
from engine.prompts.scorer import Scorer, shared_prefix
from engine.prompts.template import Prompt
from engine.subject import Subject

WORDS = ["the", "class", "statement", "defines", "objects", "and", "a", "name", "is", "bound", "to", "it", "in", "some",
         "module", "for", "which", "no", "value", "was", "given"]  # fmt: skip
ARCHITECTURES = ["llama", "gpt2", "opt", "gemma3_text", "mixtral"]
TEMPLATE = "Review: {text}\nSentiment:"
ONE_TOKEN = (" no", " yes")
SEVERAL = (" a very long choice", " no", " yes indeed", " x")


def rows(count: int, choices: tuple[str, ...] = ONE_TOKEN, longest: int = 14, seed: int = 0) -> list[Row]:
    """Rows of very different lengths."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for index in range(count):
        length = int(torch.randint(1, longest, (1,), generator=generator))
        words = [WORDS[int(i)] for i in torch.randint(0, len(WORDS), (length,), generator=generator)]
        text = " ".join(words)
        out.append(Row(text, {"text": text}, choices, index % len(choices)))
    return out


def few_shot(count: int = 3) -> Prompt:
    return Prompt("shots", TEMPLATE, "Answer yes or no.", tuple(rows(count, seed=9)))


def naive(model: Subject, prompt: Prompt, items: list[Row]) -> torch.Tensor:
    """One whole forward a row and choice; a choice is what its text changes or adds in tokens, the same for all choices
    of a row. An empty beginning is the beginning-of-text token."""
    out = torch.full((len(items), max(len(row.choices) for row in items)), -torch.inf, dtype=torch.float64)
    for i, row in enumerate(items):
        text = prompt.fill(row)
        context = model.tokenizer(text).input_ids
        whole = [model.tokenizer(text + choice).input_ids for choice in row.choices]
        start = min(next((n for n, (a, b) in enumerate(zip(context, ids, strict=False)) if a != b), min(len(context), len(ids)))
                    for ids in whole)  # fmt: skip
        start = min(start, min(len(ids) for ids in whole) - 1)
        for j, ids in enumerate(whole):
            extra = [] if start else [model.tokenizer.bos_token_id]
            tokens = torch.tensor([extra + ids], device=model.device)
            with torch.inference_mode():
                logs = model.module(tokens, use_cache=False).logits[0].double().log_softmax(-1)
            first = start + len(extra)
            out[i, j] = sum(float(logs[t - 1, tokens[0, t]]) for t in range(first, tokens.shape[1]))
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL], ids=["one-token", "several-tokens"])
@pytest.mark.parametrize(
    "prompt", [Prompt("plain", TEMPLATE), Prompt("bare", "{text}"), few_shot()], ids=lambda p: p.name
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_equals_one_whole_forward_a_row(name: str, prompt: Prompt, choices: tuple[str, ...], device: str) -> None:
    model = subject(name)
    model.module.to(device)
    items = rows(9, choices)
    found = Scorer(model).score(prompt, items)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, naive(model, prompt, items), atol=1e-4, rtol=1e-4)


def test_a_prefix_longer_than_the_sliding_window() -> None:
    model = subject("gemma3_text", sliding_window=16)
    prompt, items = few_shot(), rows(6)
    torch.testing.assert_close(Scorer(model).score(prompt, items), naive(model, prompt, items), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*WINDOWED, *STATEFUL])
def test_where_padding_would_count_or_a_state_takes_the_place_of_keys_a_row_is_as_alone(name: str) -> None:
    model = unlike(name)
    prompt, items = few_shot(), rows(6)
    torch.testing.assert_close(Scorer(model).score(prompt, items), naive(model, prompt, items), atol=1e-3, rtol=1e-3)


def test_rows_may_have_different_numbers_of_choices() -> None:
    model = subject("llama")
    items = [*rows(2, ONE_TOKEN), *rows(2, SEVERAL, seed=1), *rows(1, (" alone",), seed=2)]
    found = Scorer(model).score(Prompt("plain", TEMPLATE), items)
    torch.testing.assert_close(found, naive(model, Prompt("plain", TEMPLATE), items), atol=1e-4, rtol=1e-4)
    assert torch.isinf(found).sum() == 2 + 2 + 3 + 2 - 2  # what is not there is -inf


@pytest.mark.parametrize(
    ("template", "choices"),
    [
        ("Review: {text}\nSentiment: ", (" no", " yes")),
        ("Review: {text}\nSentiment: ", ("no", "yes")),
        ("{text} It is", ("", " not")),
        ("{text} clas", ("s", "sic")),
    ],
    ids=["two blanks", "blank in the template", "empty choice", "inside a word"],
)
def test_choices_that_melt_into_the_prompts_last_token(template: str, choices: tuple[str, ...]) -> None:
    model = subject("llama")
    items, prompt = rows(5, choices), Prompt("plain", template)
    found = Scorer(model).score(prompt, items)
    torch.testing.assert_close(found, naive(model, prompt, items), atol=1e-4, rtol=1e-4)
    assert (found < 0).all(), "every choice costs something"


def test_an_empty_prompt() -> None:
    """As contextual calibration fills a bare template."""
    model, prompt = subject("llama"), Prompt("bare", "{text}")
    items = [Row("", {"text": ""}, ONE_TOKEN, 0), *rows(3)]
    torch.testing.assert_close(Scorer(model).score(prompt, items), naive(model, prompt, items), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("choices", [ONE_TOKEN, SEVERAL], ids=["one-token", "several-tokens"])
def test_what_is_in_the_cache_is_not_computed_again(choices: tuple[str, ...]) -> None:
    model, prompt = subject("llama"), few_shot()
    first = Scorer(model, ScoreCache())
    half = first.score(prompt, rows(10, choices)[:5])
    assert first.computed == 5 * (1 if choices == ONE_TOKEN else len(choices))
    again = Scorer(model, ScoreCache())
    assert torch.equal(again.score(prompt, rows(10, choices)[:5]), half)
    assert again.computed == 0
    whole = again.score(prompt, rows(10, choices))
    assert again.computed == first.computed
    torch.testing.assert_close(whole, Scorer(model).score(prompt, rows(10, choices)), atol=1e-5, rtol=1e-5)


def test_other_weights_are_another_entry_of_the_cache() -> None:
    prompt, items = Prompt("plain", TEMPLATE), rows(4, seed=5)
    one = Scorer(subject("llama", seed=5), ScoreCache())
    one.score(prompt, items)
    model = subject("llama", seed=5)
    model.module.get_parameter("model.layers.0.mlp.up_proj.weight")[0, 0] += 1
    other = Scorer(model, ScoreCache())
    assert other.weights != one.weights
    other.score(prompt, items)
    assert other.computed == one.computed == 4


def test_progress_is_told_and_may_stop_the_work() -> None:
    model = subject("llama")
    told: list[tuple[int, int]] = []
    Scorer(model, tell=lambda done, total: told.append((done, total))).score(few_shot(), rows(300, longest=40))
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (300, 300)

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Scorer(model, tell=stop).score(few_shot(), rows(3))


def test_what_was_computed_before_a_stop_is_kept_and_the_rest_is_the_same_to_the_last_bit() -> None:
    model, prompt, items = subject("llama", seed=6), few_shot(), rows(300, longest=40, seed=6)
    whole = Scorer(model)
    undisturbed = whole.score(prompt, items)

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    scorer = Scorer(model, ScoreCache(), stop)
    with pytest.raises(InterruptedError):
        scorer.score(prompt, items)
    again = Scorer(model, ScoreCache())
    assert torch.equal(again.score(prompt, items), undisturbed)
    assert 0 < again.computed == whole.computed - scorer.computed


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=5))
def test_the_shared_prefix_leaves_everyone_a_token(lists: list[tuple[int, ...]]) -> None:
    prefix = shared_prefix(lists)
    assert all(tokens[: len(prefix)] == prefix and len(tokens) > len(prefix) for tokens in lists)
    longer = len(prefix) + 1
    assert any(len(tokens) == longer for tokens in lists) or len({tokens[:longer] for tokens in lists}) > 1


@pytest.mark.parametrize("device", DEVICES)
def test_short_products_are_near_and_kept_apart_from_exact_ones(device: str) -> None:
    model, prompt, items = subject("llama"), few_shot(), rows(12)
    model.module.to(device)
    cache = ScoreCache()
    quick = Scorer(model, cache, compute=torch.bfloat16)
    near, exact = quick.score(prompt, items), quick.exact.score(prompt, items)
    torch.testing.assert_close(near, exact, atol=0.1, rtol=0.02)
    assert not torch.equal(near, exact)
    assert torch.equal(exact, Scorer(model, cache).score(prompt, items))
    assert torch.equal(near, Scorer(model, cache, compute=torch.bfloat16).score(prompt, items))


@pytest.mark.parametrize("compute", [None, torch.float32])
def test_a_format_that_saves_nothing_is_the_exact_one(compute: torch.dtype | None) -> None:
    scorer = Scorer(subject("llama"), ScoreCache(), compute=compute)
    assert scorer.exact is scorer


def test_it_knows_whether_the_weights_have_changed() -> None:
    model = subject("llama")
    scorer = Scorer(model, ScoreCache(), compute=torch.bfloat16)
    assert scorer.intact()
    next(model.module.parameters()).data.add_(1)
    assert not scorer.intact()


def test_the_weights_are_hashed_once_for_both_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, model = list[object](), subject("llama")
    monkeypatch.setattr(scorer_module, "weights_hash", lambda module: hashed.append(module) or "a hash")
    quick = Scorer(model, ScoreCache(), compute=torch.bfloat16)
    assert quick.exact.weights != quick.weights
    assert Scorer(model).weights == Scorer(model).hashed == ""
    assert len(hashed) == 1
