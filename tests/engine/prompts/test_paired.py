"""Paired comparison of kept answers against counting by hand; Holm against its definition."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.rows import Row
from engine.errors import Unavailable, UsageError
from engine.prompts import kept, paired
from engine.prompts.template import Prompt
from engine.statistics import holm, mcnemar


def answers(label: str, right: str, task: str = "t") -> paired.Answers:
    """Right where the letter is upper case; the letter is the choice."""
    rows = tuple(paired.Answer(f"row {i}", "A", letter, letter.isupper()) for i, letter in enumerate(right))
    return paired.Answers(label, task, "pruned", rows)


def one_passage(label: str, choices: str, digests: str, stage: str = "pruned") -> paired.Answers:
    """Several questions on one passage, all with the same right answer."""
    rows = (paired.Answer("a passage", "A", c, c == "A", d.strip()) for c, d in zip(choices, digests, strict=True))
    return paired.Answers(label, "t", stage, tuple(rows))


@pytest.mark.parametrize("digests", ["1234", "1122", "    "], ids=["all told apart", "some", "an old file"])
def test_questions_on_one_passage_stay_apart(digests: str) -> None:
    base, new = one_passage("base", "AbbA", digests), one_passage("new", "AAAb", digests, "dense")
    (found,) = paired.differences([base, new])
    assert (found.n, found.a_only, found.b_only) == (4, 2, 1)
    assert (found.stage_a, found.stage_b) == ("dense", "pruned")
    assert dict(zip(paired.HEADERS, paired.cells([found])[0], strict=True))["stage"] == "dense/pruned"
    assert [row["choices"]["new"] for row in paired.rows([base, new], different=False)] == list("AAAb")


def test_digests_pair_rows_in_any_order_and_an_old_file_goes_by_its_text() -> None:
    base, turned = one_passage("base", "AbbA", "1234"), one_passage("turned", "bAAA", "3412")
    (found,) = paired.differences([base, turned])
    assert (found.n, found.a_only, found.b_only) == (4, 1, 0)
    (old,) = paired.differences([base, one_passage("old", "AbAA", "    ")])
    assert (old.n, old.a_only, old.b_only) == (4, 1, 0)


def test_counts_by_hand() -> None:
    (found,) = paired.differences([answers("base", "AAAbbbbb"), answers("new", "AbAAAAAb")])
    assert (found.n, found.a_only, found.b_only) == (8, 4, 1)
    assert (found.accuracy_a, found.accuracy_b) == (6 / 8, 3 / 8)
    assert found.difference == pytest.approx(3 / 8)
    assert found.p_value == found.p_holm == mcnemar(4, 1)
    assert found.verdict == "tie"


def test_a_verdict_needs_the_adjusted_p_value_too() -> None:
    base, better, same = (
        answers("base", "b" * 6 + "A" * 30),
        answers("new", "A" * 36),
        answers("same", "b" * 6 + "A" * 30),
    )
    (alone,) = paired.differences([base, better])
    assert (alone.verdict, alone.p_value < 0.05) == ("better", True)
    among_many = paired.differences([base, better, same, same])
    assert among_many[0].p_value == alone.p_value
    assert among_many[0].p_holm == pytest.approx(3 * alone.p_value)
    assert among_many[0].verdict == "tie"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_rejects_what_the_step_down_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.3):
        rejected, m = set(), len(p_values)
        for k, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
            if p_values[index] * (m - k) > alpha:
                break
            rejected.add(index)
        assert {i for i in range(m) if adjusted[i] <= alpha} == rejected
    for order in list(permutations(range(len(p_values))))[:6]:
        assert [adjusted[i] for i in order] == holm([p_values[i] for i in order])


def test_rows_and_what_differs() -> None:
    found = [answers("1 plain", "AbA"), answers("2 best", "AAA")]
    assert len(list(paired.rows(found, different=False))) == 3
    (row,) = paired.rows(found, different=True)
    assert row == {"text": "row 1", "gold": "A", "choices": {"1 plain": "b", "2 best": "A"},
                   "correct": {"1 plain": False, "2 best": True}}  # fmt: skip
    flat = paired.flat(row)
    assert paired.as_csv([flat]).splitlines() == [
        "text,gold,1 plain choice,2 best choice,1 plain right,2 best right", "row 1,A,b,A,0,1"]  # fmt: skip


def test_other_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match="answered no row in common"):
        paired.differences([answers("a", "AA"), answers("b", "AA", task="u")])


def test_answers_are_read_from_the_kept_folder(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    kept.write(folder, kept.Kept(Prompt("c01", "{text}"), "t", {}, "none", [0.0]))
    with pytest.raises(Unavailable, match="cannot read the answers"):
        paired.winner_of(tmp_path / "prompts", "1")
    line = {"row": 0, "text": "fine", "gold": "good", "stage": "pruned",
            "answers": {"plain": {"choice": "bad", "correct": False}, "c01": {"choice": "good", "correct": True}}}  # fmt: skip
    (folder / kept.EXAMPLES).write_text(json.dumps(line) + "\n")
    found = paired.winner_of(tmp_path / "prompts", "1")
    assert found == paired.Answers("1 c01", "t", "pruned", (paired.Answer("fine", "good", "good", True),))
    (folder / kept.EXAMPLES).write_text(json.dumps({**line, "digest": "d"}) + "\n")
    assert paired.winner_of(tmp_path / "prompts", "1").rows[0].digest == "d"
    for lacking in ({**line, "answers": {}}, {k: v for k, v in line.items() if k != "text"}, 7):
        (folder / kept.EXAMPLES).write_text(json.dumps(lacking) + "\n")
        with pytest.raises(Unavailable, match="cannot read the answers"):
            paired.winner_of(tmp_path / "prompts", "1")


def test_a_rows_digest_is_of_all_that_is_asked() -> None:
    row = Row("a passage", {"text": "a passage", "question": "why?"}, (" no", " yes"), 0)
    same = replace(row, fields={"question": "why?", "text": "a passage"})
    others = [replace(row, fields={**row.fields, "question": "who?"}), replace(row, gold=1),
              replace(row, choices=(" no", " maybe"))]  # fmt: skip
    assert same.digest == row.digest
    assert len({row.digest, *(other.digest for other in others)}) == 4


def judged(
    label: str, values: list[float], metric: str = "chrf", parts: list[tuple[float, ...]] | None = None
) -> paired.Answers:
    rows = tuple(
        paired.Answer(f"row {i}", "A", f"{v}", None, "", v, parts[i] if parts else ()) for i, v in enumerate(values)
    )
    return paired.Answers(label, "t", "pruned", rows, metric)


def test_a_metric_that_knows_no_right_and_wrong_is_compared_by_its_values() -> None:
    base, better = judged("base", [0.1, 0.2, 0.3] * 9), judged("new", [0.4, 0.4, 0.3] * 9)
    (found,) = paired.differences([base, better])
    assert (found.metric, found.a_only, found.b_only, found.verdict) == ("chrf", 18, 0, "better")
    assert (found.accuracy_a, found.accuracy_b) == pytest.approx((1.1 / 3, 0.2))
    assert found.loss == -found.difference
    shown = dict(zip(paired.headers([found]), paired.cells([found])[0], strict=True))
    assert (shown["chrf"], shown["its"], shown["rows a/b better"]) == ("36.7", "20.0", "18/0")
    assert shown["difference"].startswith("+16.7 [") and shown["difference"].endswith("] points")  # noqa: PT018
    row = next(paired.rows([base, better], different=False))
    assert row == {
        "text": "row 0",
        "gold": "A",
        "choices": {"base": "0.1", "new": "0.4"},
        "values": {"base": 0.1, "new": 0.4},
    }
    assert paired.marks(row, "chrf") == {"base": "10.0", "new": "40.0"}
    assert paired.flat(row)["new value"] == 0.4


def test_less_of_some_metrics_is_better() -> None:
    (found,) = paired.differences([judged("base", [0.9] * 12, "nll"), judged("new", [0.2] * 12, "nll")])
    assert (found.verdict, found.a_only, found.b_only) == ("better", 12, 0)
    assert found.loss == pytest.approx(-0.7)
    assert paired.cells([found])[0][7] == "-0.700 [-0.700, -0.700] nats"


def test_a_figure_of_sums_is_not_the_mean_of_its_rows() -> None:
    """Class by class: three right answers of a class and none of the other have a macro-F1 of 3/7."""
    hit, miss = (1.0, 0, 1, 0, 1, 0), (0.0, 0, 1, 0, 0, 1)
    base = judged("base", [1, 1, 1, 0], "macro_f1", [hit, hit, hit, miss])
    (found,) = paired.differences([base, base])
    assert (found.accuracy_a, found.verdict) == (pytest.approx(3 / 7), "tie")


def test_prompts_that_were_judged_otherwise_are_refused() -> None:
    with pytest.raises(UsageError, match="b was judged by nll and a by chrf"):
        paired.differences([judged("a", [0.5]), judged("b", [0.5], "nll")])


@pytest.mark.parametrize("parts", [(), (1.0, 2.0)])
def test_a_metric_of_another_version(parts: tuple[float, ...]) -> None:
    """Its values have a mean; only it knows what becomes of its parts."""
    rows = tuple(paired.Answer(f"row {i}", "A", "b", None, value=0.7, parts=parts) for i in range(4))
    both = [paired.Answers(label, "t", "pruned", rows, "comet") for label in ("base", "new")]
    if parts:
        with pytest.raises(UsageError, match="judged by comet, which is not known here") as refused:
            paired.differences(both)
        assert refused.value.hint
    else:
        (found,) = paired.differences(both)
        assert (found.accuracy_a, found.n, found.verdict) == (pytest.approx(0.7), 4, "tie")
        assert paired.headers([found])[8] == "rows a/b better"
