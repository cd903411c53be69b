"""Disturbed inputs: what each perturbation may change, the same rows for everybody, figures in events and in the table."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.prompting import Scripted, answering, at_work, toy
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine import outcome, statistics
from engine.data.rows import Row
from engine.prompts import adjust, robustness, select
from engine.prompts.disturbing import Asked
from engine.prompts.options import AdjustPromptOptions, SelectPromptOptions
from engine.prompts.perturbations import case, typos
from engine.prompts.template import Prompt
from engine.registry import PERTURBATIONS
from engine.state import RunState

NAMES = PERTURBATIONS.names()


def asked(answers: Sequence[str] = ("other words that mean the same thing here",), seed: str = "a") -> Asked:
    task = toy()
    prompt = Prompt("p", task.template, "Say it.", tuple(task.train[:4]))
    return Asked(prompt, task.test, seed, lambda requests: Scripted(list(answers)).write(requests, 80))


@pytest.mark.parametrize("name", NAMES)
def test_only_the_inputs_change_and_always_in_the_same_way(name: str) -> None:
    perturb = PERTURBATIONS.load(name).perturb
    before = asked()
    after = perturb(before)
    assert after == perturb(before)
    assert [(r.choices, r.gold) for r in after.rows] == [(r.choices, r.gold) for r in before.rows]
    kept = replace(after.prompt, demonstrations=before.prompt.demonstrations)
    assert kept == before.prompt
    assert [after.prompt.fill(r) for r in after.rows] != [before.prompt.fill(r) for r in before.rows]
    alone = perturb(replace(before, rows=before.rows[3:4])).rows[0]
    assert alone == after.rows[3] or name == "paraphrase", "what happens to a row does not depend on its neighbours"


@pytest.mark.parametrize("name", ["typos", "case"])
def test_a_field_is_disturbed_the_same_whatever_else_is_shown(name: str) -> None:
    """So that prompts with other templates meet the same inputs."""
    perturb = PERTURBATIONS.load(name).perturb
    rows = [Row(r.text, {"text": r.text, "title": f"about the {r.text}"}, r.choices, r.gold) for r in toy().test]
    one, both = (
        perturb(replace(asked(), prompt=Prompt("p", template), rows=rows))
        for template in ("{text}:", "{title}. {text}:")
    )
    assert [r.fields["text"] for r in one.rows] == [r.fields["text"] for r in both.rows] != [r.text for r in rows]
    assert [r.fields["title"] for r in one.rows] != [r.fields["title"] for r in both.rows]


def test_another_order_shows_the_same_demonstrations_and_needs_two() -> None:
    perturb = PERTURBATIONS.load("order").perturb
    before = asked()
    after = perturb(before).prompt
    assert sorted(r.digest for r in after.demonstrations) == sorted(r.digest for r in before.prompt.demonstrations)
    assert after.demonstrations != before.prompt.demonstrations
    same = replace(before.prompt, demonstrations=before.prompt.demonstrations[:1] * 2)
    for prompt in (same, replace(same, demonstrations=same.demonstrations[:1]), replace(same, demonstrations=())):
        assert perturb(replace(before, prompt=prompt)).prompt == prompt


@given(text=st.text(st.characters(codec="utf-8"), max_size=60), seed=st.integers(0, 99))
def test_a_slip_leaves_the_number_of_words_and_changes_one_letter_at_most_of_each(text: str, seed: int) -> None:
    found = typos.mistyped(text, random.Random(seed))
    words, others = text.split(" "), found.split(" ")
    assert len(words) == len(others)
    assert all(abs(len(a) - len(b)) <= len(a) // 4 + 1 for a, b in zip(words, others, strict=True))
    assert (found != text) == bool(typos.WORD.search(text)), "every text with a word of four letters has a slip"


@given(text=st.text(st.characters(codec="ascii"), max_size=30), seed=st.integers(0, 99))
def test_another_case_has_the_same_letters(text: str, seed: int) -> None:
    found = case.recased(text, random.Random(seed))
    assert found.casefold() == text.casefold()
    assert (found != text) == (len({text, text.upper(), text.lower(), text.title()}) > 1)


def test_what_cannot_be_used_of_a_restatement_leaves_the_text() -> None:
    perturb = PERTURBATIONS.load("paraphrase").perturb
    before = asked(["", "Text: " + "word " * 60])
    assert perturb(before) == before


def test_a_text_that_is_too_long_to_be_restated_whole_is_not_cut() -> None:
    perturb = PERTURBATIONS.load("paraphrase").perturb
    before = asked(["some other words that stand for the whole of it here"])
    row = before.rows[0]
    long = replace(row, fields={"text": "a name is bound to an object " * 20})
    after = perturb(replace(before, rows=[long, *before.rows[1:]]))
    assert after.rows[0] == long
    assert after.rows[1:] != before.rows[1:]


def test_finalists_are_scored_on_disturbed_rows_of_both_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = AdjustPromptOptions(
        use="adjust_prompt", task="toy", method="grips", budget=120, rows=8, test_rows=20, demonstrations=3, control=True,
        instruction="Say yes or no.", robustness=["typos", "order", "paraphrase"], robustness_rows=12,
    )  # fmt: skip
    told: list[ev.Event] = []
    work = at_work(tmp_path, step, told)
    work.stage, work.step = "pruned", 0
    words = Scripted(["a name is bound to some object in the other module"])
    monkeypatch.setattr(robustness.Words, "writer", words)
    summary = adjust.run(work, step)
    found = [e for e in told if isinstance(e, ev.PromptPerturbed)]
    assert {e.stage for e in found} == {"pruned", "dense"}
    assert {e.perturbation for e in found} == {"typos", "order", "paraphrase"}
    assert all(e.n == 12 and 0 < e.changed <= 12 for e in found)
    assert not [e for e in found if e.candidate == "plain" and e.perturbation == "order"], "it shows no demonstrations"
    for e in found:
        assert e.change_low is not None
        assert e.change_high is not None
        assert e.change_low <= e.accuracy - e.before <= e.change_high
    label = ""
    for event in told:  # what is said to be at work is what is then told of
        label = event.label if isinstance(event, ev.Progress) else label
        if isinstance(event, ev.PromptPerturbed):
            assert label == f"{event.perturbation}: {event.candidate}"
    clean = {e.candidate: e.before for e in found if (e.stage, e.perturbation) == ("pruned", "typos")}
    rows = work.task("toy").test[:12]
    state = RunState.of([ev.StepStarted(step=0, use="adjust_prompt", title=""), *told,
                         ev.StepFinished(step=0, seconds=1.0, summary=summary)])  # fmt: skip
    assert set(clean) == {c.name for c in state.candidates.values() if c.perturbed}
    assert all(
        (before * len(rows)).is_integer() or abs(before * 12 - round(before * 12)) < 1e-9 for before in clean.values()
    )
    headers, cells = outcome.table(state)
    at = headers.index("typos")
    shown = [row[at] for row in cells if "pruned + " in row[0] and row[at] != "-"]
    assert len(shown) == len(clean)
    assert all(re.fullmatch(r"[\d.]+% \([-+][\d.]+ \[[-+][\d.]+, [-+][\d.]+\]\)", cell) for cell in shown)


def test_the_change_is_paired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On planted answers: what was wrong before and is wrong now adds nothing to the interval."""

    def margin(prompt: Prompt, row: Row) -> float:
        text = row.fields["text"]
        return 1.0 if len(text) % 3 and (text == text.lower() or len(text) % 2) else -1.0

    step = SelectPromptOptions(use="select_prompt", task="toy", candidates=["Yes?"], budget=100, robustness=["case"])
    told: list[ev.Event] = []
    work = at_work(tmp_path, step, told, toy(test=200))
    answering(monkeypatch, margin)
    select.run(work, step)
    rows = work.task("toy").test
    plain = Prompt("plain", work.task("toy").template)
    after = PERTURBATIONS.load("case").perturb(Asked(plain, rows, "case 0", lambda _: [])).rows
    right = [np.array([margin(plain, row) > 0 for row in some]) for some in (after, rows)]
    expected = statistics.compare(*right, 0)
    assert expected.difference < 0
    for e in (e for e in told if isinstance(e, ev.PromptPerturbed)):
        assert (e.accuracy - e.before, e.change_low, e.change_high) == (
            pytest.approx(expected.difference), expected.low, expected.high,
        )  # fmt: skip
