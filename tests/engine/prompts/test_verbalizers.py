"""Several words a label: a class is as likely as its words together; words that cannot be told apart are refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import subject, tokenizer
from fixtures.prompting import TEMPLATE, toy
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.data.options import TaskOptions
from engine.data.rows import Row
from engine.data.tasks import load_task
from engine.errors import UsageError
from engine.prompts import gradient, verbalizers
from engine.prompts.forward import folded
from engine.prompts.gradient import Question
from engine.prompts.lessons import ChoiceLessons
from engine.prompts.scorer import Scorer
from engine.prompts.soft import beginning
from engine.prompts.template import Prompt

PROMPT = Prompt("p", TEMPLATE, "Answer.", tuple(toy().train[:2]))
ONE_TOKEN = ((), (" good", " bad"))  # beside " no" and " yes"
SEVERAL = ((" not at all", " never"), (" yes indeed",))


def rows(more: tuple[tuple[str, ...], ...]) -> list[Row]:
    return [replace(row, more=more) for row in toy().dev[:9]]


def by_hand(scorer: Scorer, items: list[Row]) -> torch.Tensor:
    """Every word as a choice of its own, then summed in probability."""
    out = []
    for row in items:
        single = [[scorer.score(PROMPT, [replace(row, choices=(word,), gold=0, more=())])[0, 0] for word in words]
                  for words in row.words]  # fmt: skip
        out.append([math.log(sum(math.exp(value) for value in values)) for values in single])
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("more", [ONE_TOKEN, SEVERAL], ids=["one token", "several"])
def test_a_class_is_as_likely_as_its_words_together(more: Any) -> None:
    scorer = Scorer(subject("llama"))
    found = scorer.score(PROMPT, rows(more))
    torch.testing.assert_close(found, by_hand(scorer, rows(more)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("more", [ONE_TOKEN, SEVERAL], ids=["one token", "several"])
def test_training_and_gradient_see_the_same_scores(more: Any) -> None:
    model, items = subject("llama"), rows(more)
    soft = beginning("soft", model, [40, 50, 60])
    wanted = Scorer(model).score(replace(PROMPT, soft=soft), items)
    with torch.no_grad():
        made = ChoiceLessons.of(Scorer(model), PROMPT, items, 3, None, 0.5, 1.0, torch.float32)
        torch.testing.assert_close(made.scores(soft, range(len(items))), wanted, atol=1e-4, rtol=1e-4)
        sequences, lead = Scorer(model).sequences(PROMPT, items, 2), tokenizer()(PROMPT.instruction).input_ids
        asked = [Question(tuple(s for s in sequences if s.targets[0][0] // 2 == i), 2 * i, 2, row.gold)
                 for i, row in enumerate(items)]  # fmt: skip
        begun, none = gradient.beginning(model, soft), torch.zeros(2).double()
        losses = gradient.losses(model, gradient.embedded(model, lead), asked, none, begun)
    right = torch.tensor([row.gold for row in items])[:, None]
    torch.testing.assert_close(losses, -wanted.log_softmax(1).gather(1, right)[:, 0], atol=1e-4, rtol=1e-4)


@given(st.lists(st.floats(-900, 0), min_size=1, max_size=4))
def test_a_single_value_stays_to_the_bit_and_several_sum_up(values: list[float]) -> None:
    made = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    apart = folded(made, range(len(values)), len(values) + 1, -7.0)
    assert apart.tolist() == [*values, -7.0]
    together = folded(made, [1] * len(values), 2, -7.0)
    torch.testing.assert_close(together[1], made.logsumexp(0))
    torch.autograd.backward(together[1])
    torch.testing.assert_close(made.grad, made.detach().softmax(0))


def loaded(folder: Path, labels: Any) -> Any:
    file = folder / "rows.csv"
    file.write_text("label,text\n" + "\n".join(f"{i % 2},row {i}" for i in range(20)))
    return load_task("x", TaskOptions(test=f"file:{file}", template="{text}:", labels=labels), 0)


def test_a_task_shows_the_first_word_of_each_label(tmp_path: Path) -> None:
    task = loaded(tmp_path, {"0": [" bad", " poor"], "1": " good"})
    row = task.test[0]
    assert (row.choices, row.words) == ((" bad", " good"), ((" bad", " poor"), (" good",)))
    single = loaded(tmp_path, {"0": " bad", "1": " good"})
    assert single.test[0].more == ()
    assert loaded(tmp_path, {"0": [" bad"], "1": " good"}).test[0] == single.test[0]
    assert task.fingerprint != single.fingerprint
    assert row.digest != replace(row, more=()).digest


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"0": [" bad", " poor"], "1": " poor"}, "the word ' poor' stands for '0' and again for '1'"),
        ({"0": [" bad", " bad"], "1": " poor"}, "the word ' bad' stands for '0' and again for '0'"),
        ({"0": [], "1": " good"}, "label '0' needs a word"),
        ({"0": "", "1": " good"}, "label '0' needs a word"),
    ],
)
def test_bad_labels(labels: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TaskOptions(test="file:x.csv", labels=labels)


class Folding:
    """A tokenizer of single letters that does not tell capitals apart and drops dots."""

    def __call__(self, word: str, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return type("Encoded", (), {"input_ids": [ord(c) for c in word.lower() if c != "."]})


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"0": "no", "1": ["yes", "..."]}, "'...' of label '1' is no token"),
        ({"0": ["no", "not"], "1": ["yes", "NOT"]}, "'not' of label '0' and 'NOT' of label '1' are the same tokens"),
    ],
)
def test_words_that_the_model_cannot_tell_apart(labels: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(verbalizers.check(replace(toy(), labels=labels), Folding()))


@pytest.mark.parametrize(
    ("labels", "warned"),
    [
        ({"0": " no", "1": " yes"}, 0),
        ({"0": " nothing", "1": " never"}, 0),  # the same first token
        ({"0": " no", "1": " nothing"}, 1),
        ({"0": " no", "1": [" nothing", " yes"]}, 0),
        ({"0": [" a", " b"], "1": [" ab", " bc"]}, 1),
    ],
)
def test_words_that_go_on_from_another_labels(labels: Any, warned: int) -> None:
    assert len(list(verbalizers.check(replace(toy(), labels=labels), Folding()))) == warned


@pytest.mark.parametrize(
    ("template", "words", "warned"),
    [
        ("Text: {text}\nAnswer:", ("yes", " no"), ["'yes'"]),
        ("Text: {text}", ("yes", " no"), ["'yes'"]),
        ("Text: {text}\nAnswer: ", ("yes", " no"), ["ends in a blank and the word ' no'"]),
        ("Text: {text}\nAnswer:\n", ("yes", "no"), []),
        ('Text: {text}\nAnswer: "', ("yes", "no"), []),
        ("Text: {text}\nAnswer:", ("1", "\u597d"), []),
    ],
)
def test_words_that_run_into_the_template(template: str, words: tuple[str, str], warned: list[str]) -> None:
    labels = dict(zip("01", words, strict=True))
    found = list(verbalizers.check(replace(toy(), template=template, labels=labels), Folding()))
    assert len(found) == len(warned)
    assert all(part in warning for part, warning in zip(warned, found, strict=True))
