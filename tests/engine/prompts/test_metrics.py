"""Metrics against their definitions and sacrebleu's corpus figures; what a race and a comparison make of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from engine import statistics
from engine.data.options import TaskOptions
from engine.errors import UsageError
from engine.prompts.judging import Measured, of_answers, of_choices
from engine.registry import METRICS

CHOICES = [name for name in METRICS.names() if METRICS.load(name).FOR != "answers"]
ANSWERS = [name for name in METRICS.names() if METRICS.load(name).FOR == "answers"]
WORDS = st.sampled_from(["a", "man", "walks", "the", "dog", "über", "Street,", "in", "red"])
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)
ROWS = st.lists(st.tuples(TEXTS, st.lists(TEXTS.filter(bool), min_size=1, max_size=2)), min_size=1, max_size=8)
ALL_RIGHT = {"nll": 0.0}


def log_probs(rows: int, choices: int = 3, seed: int = 0) -> NDArray[np.float64]:
    raw = np.random.default_rng(seed).normal(size=(rows, choices))
    return raw - np.log(np.exp(raw).sum(1, keepdims=True))


def unzipped(rows: Sequence[tuple[str, list[str]]]) -> tuple[list[str], list[list[str]]]:
    return [answer for answer, _ in rows], [right for _, right in rows]


@pytest.mark.parametrize("name", CHOICES)
def test_right_choices_without_doubt_are_the_best_figure(name: str) -> None:
    gold = np.arange(12) % 3
    sure = np.where(np.eye(3)[gold] > 0, 0.0, -1e9)
    assert Measured.of(name, sure, gold).figure == ALL_RIGHT.get(name, 1.0)
    worse = Measured.of(name, log_probs(12), gold)
    assert (worse.figure > 0) if worse.lower else (worse.figure < 1)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_reference_itself_is_the_best_answer(name: str) -> None:
    right = [["two dogs run over the green grass", "dogs"], ["a man in an orange hat stares"]]
    best = Measured.of(name, [one[0] for one in right], right)
    assert best.figure == pytest.approx(1.0)
    nothing = Measured.of(name, ["", "xyz"], right)
    assert nothing.figure == pytest.approx(0.0, abs=1e-6)
    assert len(best.values) == 2


@given(st.integers(0, 99), st.integers(1, 20))
def test_macro_f1_by_its_definition(seed: int, rows: int) -> None:
    scores = log_probs(rows, seed=seed)
    gold, answered = np.random.default_rng(seed + 1).integers(0, 3, rows), scores.argmax(1)
    f1 = []
    for c in sorted({*gold.tolist(), *answered.tolist()}):
        hits = int(((gold == c) & (answered == c)).sum())
        precision, recall = hits / max(1, int((answered == c).sum())), hits / max(1, int((gold == c).sum()))
        f1.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert Measured.of("macro_f1", scores, gold).figure == pytest.approx(sum(f1) / len(f1))


def test_a_prompt_that_always_says_the_common_class_does_not_lead_by_macro_f1() -> None:
    """Of 200 rows nine in ten are of one class; the other prompt answers 85% of either rightly."""
    gold = [0] * 180 + [1] * 20
    right = [row % 20 >= 3 for row in range(200)]
    answered = [[0] * 200, [g if r else 1 - g for g, r in zip(gold, right, strict=True)]]
    constant, fair = (of_choices("macro_f1", np.array([[-a, a - 1.0] for a in row]), gold) for row in answered)
    assert constant.measured.figure < fair.measured.figure
    assert constant.skill < fair.skill


def test_nll_by_its_definition() -> None:
    scores, gold = np.log([[0.5, 0.5], [0.9, 0.1]]), [0, 1]
    found = of_choices("nll", scores, gold)
    assert found.quality == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)
    assert found.skill == pytest.approx(math.sqrt(0.5 * 0.1))
    better = of_choices("nll", np.log([[0.6, 0.4], [0.8, 0.2]]), gold)
    assert better.skill > found.skill
    assert better.quality < found.quality


@given(ROWS)
def test_bleu_and_chrf_are_sacrebleus(rows: Any) -> None:
    answers, right = unzipped(rows)
    streams = [[one[min(i, len(one) - 1)] for one in right] for i in range(2)]
    assert Measured.of("bleu", answers, right).figure == pytest.approx(
        sacrebleu.corpus_bleu(answers, streams).score / 100, abs=1e-9
    )
    chrf = [sacrebleu.sentence_chrf(answer, one).score / 100 for answer, one in rows]
    assert Measured.of("chrf", answers, right).figure == pytest.approx(float(np.mean(chrf)))


def test_bleu_counts_an_answer_once_for_values_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    count, counted = sacrebleu.sentence_bleu, list[str]()
    monkeypatch.setattr(
        sacrebleu, "sentence_bleu", lambda answer, right: counted.append(answer) or count(answer, right)
    )
    found = Measured.of("bleu", ["one that is counted", "and another one"], [["one that is"], ["another one", "one"]])
    assert counted == ["one that is counted", "and another one"]
    assert len(found.values) == len(found.sums) == 2


def test_token_f1_and_exact_match_by_hand() -> None:
    answers = ["The red hat.", "a red dog", "dog dog", "The", "", "the", "1.5.", "-5", "1,000", "-"]
    right = [["red hat"], ["the blue dog", "a cat"], ["dog"], ["The."], ["A"], ["A"], ["15"], ["5"], ["1000."], [""]]
    assert Measured.of("exact_match", answers, right).values.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    found = Measured.of("token_f1", answers, right).values
    assert found == pytest.approx([1, 2 / 4, 2 / 3, 1, 0, 0, 0, 0, 1, 0])
    assert Measured.of("exact_match", ["1.50 m", "a-b", "-.5"], [["1.50m", "1.50 m!"], ["ab"], ["-.5"]]).figure == 1


@given(ROWS)
def test_an_exact_match_has_all_its_words(rows: Any) -> None:
    answers, right = unzipped(rows)
    f1, exact = (Measured.of(name, answers, right).values for name in ("token_f1", "exact_match"))
    assert (f1 >= exact).all()
    assert (f1 <= 1).all()


@pytest.mark.parametrize("name", ANSWERS)
def test_free_answers_are_ranked_by_the_figure(name: str) -> None:
    right = [["a man walks"], ["the dog"]]
    found = of_answers(name, ["a man walks", "cat"], right)
    assert found.skill == found.quality
    assert (found.margins == found.measured.values).all()
    assert (found.correct is None) == (name != "exact_match")


# Intervals and comparisons


def mean(sums_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums_BK[:, 0] / sums_BK[:, 1]


def with_ones(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([values, np.ones_like(values)], 1)


def test_right_and_wrong_keep_their_exact_tests() -> None:
    a, b = (
        Measured("accuracy", (np.random.default_rng(i).random(60) < p).astype(float)) for i, p in ((0, 0.8), (1, 0.6))
    )
    assert a.against(b, 3) == statistics.compare(a.right, b.right, 3)
    assert a.interval(3) == statistics.wilson(int(a.right.sum()), 60)


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(0.4, 0.2, 400)
    low, high = statistics.interval(with_ones(values), mean, 0)
    error = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.003)


def test_randomization_of_few_rows_is_the_exact_sign_flip_test() -> None:
    a, b = np.array([3.0, 1.0, 2.5, 4.0, 2.0]), np.array([1.0, 1.5, 1.0, 1.0, 1.5])
    flips = [sum(d if bits >> i & 1 else -d for i, d in enumerate(a - b)) for bits in range(32)]
    exact = np.mean([abs(f) >= abs((a - b).sum()) - 1e-9 for f in flips])
    found = statistics.compare_sums(with_ones(a), with_ones(b), mean, 0)
    assert found.p_value == pytest.approx(exact, abs=0.015)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.low < found.difference < found.high


def test_equal_answers_are_a_tie_and_a_planted_gain_is_found() -> None:
    generator = np.random.default_rng(0)
    parts = generator.integers(0, 9, (50, 10)).astype(float)
    parts[:, 4:8] += 9  # more n-grams than hits
    same = Measured("bleu", parts[:, 0], parts)
    nothing = same.against(same, 0)
    assert (nothing.difference, nothing.low, nothing.high, nothing.p_value) == (0, 0, 0, 1)
    more = parts.copy()
    more[:, :4] += 2
    gain = Measured("bleu", parts[:, 0], more).against(same, 0)
    assert statistics.verdicts([gain])[0][1] == "better"
    assert statistics.verdicts([gain], lower=True)[0][1] == "worse"


def test_no_difference_is_seldom_significant() -> None:
    pairs = [np.random.default_rng(seed).normal(size=(2, 30)) for seed in range(60)]
    p = [statistics.compare_sums(with_ones(a), with_ones(b), mean, 1).p_value for a, b in pairs]
    assert sum(value < 0.05 for value in p) <= 7


# Which metric a task may have


@pytest.mark.parametrize("metric", [None, *CHOICES])
def test_a_task_with_labels_has_every_metric_of_choices(metric: str | None) -> None:
    made = TaskOptions(test="file:x.csv", labels={"0": " a", "1": " b"}, metric=metric)
    assert made.judge == metric or (metric is None and made.judge == "accuracy")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices_column": "c", "metric": "macro_f1"}, "macro_f1 is for a task with labels, and this one has choices"),
        (
            {"labels": {"0": " a", "1": " b"}, "metric": "chrf"},
            "chrf is for a task with answers, and this one has labels",
        ),
    ],
)
def test_a_metric_that_does_not_fit(changes: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TaskOptions(test="file:x.csv", **changes)


def test_an_unknown_metric() -> None:
    with pytest.raises((UsageError, ValidationError), match="unknown metric 'acuracy'"):
        TaskOptions(test="file:x.csv", labels={"0": " a", "1": " b"}, metric="acuracy")


def test_what_rows_add_to_a_figure_of_sums() -> None:
    """The mean is the figure; leaving a row out changes it by what the row added, but for a constant."""
    generator = np.random.default_rng(0)
    for metric, told in (
        ("macro_f1", (generator.standard_normal((60, 3)), generator.integers(0, 3, 60))),
        ("accuracy", (generator.standard_normal((60, 3)), generator.integers(0, 3, 60))),
    ):
        measured = Measured.of(metric, *told)
        assert measured.influence.mean() == pytest.approx(measured.figure)
        without = [Measured.of(metric, *(np.delete(one, row, 0) for one in told)).figure for row in range(60)]
        assert np.allclose(np.diff(measured.influence), -59 * np.diff(without))
    assert Measured.of("macro_f1", told[0][:1], told[1][:1]).influence.shape == (1,)


def test_the_jackknife_finds_the_spread_of_a_difference_of_macro_f1() -> None:
    """The standard error from paired pseudo-values is the bootstrap's, give or take a fifth."""
    generator = np.random.default_rng(1)
    gold = (generator.random(400) < 0.2).astype(int)
    one, other = (
        Measured.of("macro_f1", np.stack([np.zeros(400), 1.5 * gold - 0.75 + noise], 1), gold)
        for noise in generator.standard_normal((2, 400))
    )
    error = (one.influence - other.influence).std(ddof=1) / 20
    paired = one.against(other, 0)
    assert error == pytest.approx((paired.high - paired.low) / (2 * 1.96), rel=0.2)
