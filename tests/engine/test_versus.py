"""Two runs' models against each other: which figures are compared, and what the comparison says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from engine import events as ev
from engine import versus
from engine.state import RunState

LOSSES = [2.0, 2.4, 2.2, 2.6, 2.1, 2.5, 2.3, 2.7]


def perplexity(stage: str, losses: Sequence[float], data: str = "t") -> ev.Metric:
    value = math.exp(sum(losses) / len(losses))
    return ev.Metric(step=0, stage=stage, name="perplexity", value=value, n=80, losses=list(losses), data=data)


def accuracy(stage: str, right: str, data: str = "r", task: str = "sst2") -> ev.Metric:
    value = right.count("1") / len(right)
    return ev.Metric(step=0, stage=stage, name=f"accuracy:{task}", value=value, n=len(right), right=right, data=data)


def run(*told: ev.Event) -> RunState:
    return RunState.of([ev.RunStarted(run="r", profile="p", source="demo", steps=[]), *told])


def compared(*runs: RunState) -> dict[tuple[str, str], Any]:
    return {(d.a, d.figure): d for d in versus.differences(runs, "abcd"[: len(runs)])[0]}


def apart(*runs: RunState) -> dict[tuple[str, str], str]:
    return {(one.a, one.figure): one.reason for one in versus.differences(runs, "abcd"[: len(runs)])[1]}


def test_perplexities_are_compared_window_by_window() -> None:
    higher = [loss + 0.1 + 0.01 * (-1) ** i for i, loss in enumerate(LOSSES)]
    found = compared(run(perplexity("pruned", LOSSES)), run(perplexity("pruned", higher)))
    d = found["b", "perplexity"]
    assert d.difference == pytest.approx(math.exp(0.1) - 1)
    # t(0.975, 7) = 2.364624; the differences are 0.11 and 0.09 in turn
    half = 2.364624 * 0.01 * math.sqrt(8 / 7) / math.sqrt(8)
    assert (d.low, d.high) == pytest.approx((math.exp(0.1 - half) - 1, math.exp(0.1 + half) - 1), abs=1e-6)
    assert (d.n, d.verdict, d.b) == (8, "worse", "a")
    assert d.p_value < 1e-6
    back = compared(run(perplexity("pruned", higher)), run(perplexity("pruned", LOSSES)))["b", "perplexity"]
    assert back.verdict == "better"


def test_accuracies_are_compared_row_by_row() -> None:
    mine, theirs = "1" * 30 + "0" * 10 + "1" * 60, "1" * 30 + "1" * 10 + "1" * 60
    d = compared(run(accuracy("pruned", theirs)), run(accuracy("pruned", mine)))["b", "accuracy:sst2"]
    assert d.difference == pytest.approx(-0.1)
    assert d.low <= -0.1 <= d.high < 0
    assert d.p_value == pytest.approx(2 * 0.5**10)  # exact McNemar of 0 against 10
    assert (d.value_a, d.value_b, d.verdict) == (0.9, 1.0, "worse")


def test_equal_models_are_a_tie_and_few_windows_prove_nothing() -> None:
    one = run(perplexity("dense", LOSSES), accuracy("dense", "1101"))
    assert {d.verdict for d in compared(one, one).values()} == {"tie"}
    assert {d.difference for d in compared(one, one).values()} == {0}
    single = compared(run(perplexity("dense", [2.0])), run(perplexity("dense", [3.0])))["b", "perplexity"]
    assert (single.verdict, single.high) == ("tie", math.inf)


def test_only_the_same_windows_and_rows_are_compared_and_the_others_told() -> None:
    first = run(perplexity("dense", LOSSES), accuracy("dense", "1101"))
    others = run(perplexity("dense", LOSSES, "other"), accuracy("dense", "1101", "other"))
    assert not compared(first, others)
    assert apart(first, others) == {
        ("b", "perplexity"): "not of the same windows", ("b", "accuracy:sst2"): "not of the same rows"
    }  # fmt: skip
    assert apart(first, run(accuracy("dense", "1101", task="trec"))) == {
        ("b", "perplexity"): "not measured", ("b", "accuracy:sst2"): "not measured"
    }  # fmt: skip
    old = run(ev.Metric(step=0, stage="dense", name="perplexity", value=9.0, losses=LOSSES))  # of an older version
    assert not compared(old, old)
    assert apart(old, old) == {("b", "perplexity"): "of a run that did not keep what every window had"}


def test_a_run_stands_with_its_last_model_and_not_with_a_reference() -> None:
    other = run(
        perplexity("dense", LOSSES), perplexity("pruned", [x + 1 for x in LOSSES]), accuracy("pruned", "1100"),
        perplexity("exported", [x + 0.5 for x in LOSSES]), perplexity("dense int4 g64", LOSSES),
        accuracy("exported", "11", "its first rows"),
    )  # fmt: skip
    found = compared(run(perplexity("dense", LOSSES), accuracy("dense", "1111")), other)
    assert {key: (d.stage_a, d.stage_b) for key, d in found.items()} == {
        ("b", "perplexity"): ("exported", "dense"), ("b", "accuracy:sst2"): ("pruned", "dense")
    }  # fmt: skip
    assert found["b", "perplexity"].difference == pytest.approx(math.exp(0.5) - 1)


def test_a_broken_or_unmeasured_model_is_not_stood_for_by_the_one_before() -> None:
    broken = ev.Metric(step=0, stage="exported", name="perplexity", value=math.inf, data="t")
    pruned = [perplexity("dense", LOSSES), accuracy("dense", "1111"), perplexity("pruned", LOSSES)]
    base = run(perplexity("dense", LOSSES), accuracy("dense", "1111"))
    for runs in ((base, run(*pruned, broken)), (run(*pruned, broken), base)):
        assert not compared(*runs)
        assert apart(*runs)["b", "perplexity"] == "not finite"
    assert apart(base, run(*pruned)) == {("b", "accuracy:sst2"): "not measured"}  # of the pruned model


def test_the_error_rate_is_shared_by_all_that_is_compared() -> None:
    base, lower = "1" * 100, "0" * 6 + "1" * 94
    alone = compared(run(accuracy("a", base)), run(accuracy("a", lower)))["b", "accuracy:sst2"]
    assert (alone.verdict, alone.p_holm) == ("worse", alone.p_value)
    shared = compared(run(accuracy("a", base)), run(accuracy("a", lower)), run(accuracy("a", lower)))
    assert {d.p_holm for d in shared.values()} == {2 * alone.p_value}
    assert {d.verdict for d in shared.values()} == {"tie"}
