"""`compare`: what it says of the chosen prompts, and against what they were tested."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine import events as ev


def told(story: list[ev.Event], winner: str, baseline: str) -> list[ev.Event]:
    """The story with `c01` and `plain` under these names."""
    names = {"c01": winner, "plain": baseline}
    out: list[ev.Event] = []
    for event in story:
        if isinstance(event, ev.CandidateAdded | ev.CandidateScored):
            event = replace(event, candidate=names[event.candidate])
        if isinstance(event, ev.PromptsCompared):
            event = replace(event, a=winner, b=baseline, p_holm=2 * event.p_value)
        if isinstance(event, ev.StepFinished) and event.step == 1:
            event = replace(event, summary=event.summary | {"winner": winner, "baseline": baseline})
        out.append(event)
    return out


@pytest.mark.parametrize(
    ("winner", "baseline", "words"),
    [
        ("2.a05", "2.start", "n 872, p <0.001 (<0.001 by Holm) against 2.start: better\n"),
        (
            "plain",
            "start",
            "p <0.001 (<0.001 by Holm) against start: better, the plain prompt, nothing better was found\n",
        ),
    ],
)
def test_it_names_what_the_prompt_was_tested_against(
    winner: str, baseline: str, words: str, cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    record(told(story, winner, baseline), "20231114T221320-small-aaaa")
    record(story, "20231114T221320-small-bbbb")
    assert words in cli("compare", "aaaa", "bbbb").out
    (found,) = [
        line["prompt"]
        for line in map(json.loads, cli("compare", "aaaa", "bbbb", "--json").out.splitlines())
        if "prompt" in line and line["run"].endswith("aaaa")
    ]
    assert (found["winner"], found["against"], found["p_holm"]) == (winner, baseline, 0.0002)


def test_a_first_prompt_that_won_is_not_tested_against_itself(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    events = [
        replace(e, summary=e.summary | {"baseline": "start"}) if isinstance(e, ev.StepFinished) and e.step == 1 else e
        for e in told(story, "start", "plain")
    ]
    record(events, "20231114T221320-small-aaaa")
    record(story, "20231114T221320-small-bbbb")
    out = cli("compare", "aaaa", "bbbb").out
    assert "76.0% [73.0, 79.0], n 872, the first prompt, nothing better was found\n" in out


def test_models_are_compared_window_by_window(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    def shifted(by: float) -> list[ev.Event]:
        losses = [2.0 + 0.1 * i + by * (1 + 0.01 * (-1) ** i) for i in range(8)]
        return [replace(e, losses=losses, data="text") if isinstance(e, ev.Metric) and e.name == "perplexity" else e
                for e in story]  # fmt: skip

    record(shifted(0.0), "20231114T221320-small-aaaa")
    record(shifted(0.1), "20231114T221320-small-bbbb")
    out = cli("compare", "aaaa", "bbbb").out
    head = "\n20231114T221320-small-bbbb exported against 20231114T221320-small-aaaa exported, on the same windows or rows\n"
    _, row = out[out.index(head) + len(head) :].splitlines()[:2]
    assert " ".join(row.split()) == "perplexity +10.5% [+10.4, +10.6] 8 <0.001 worse"
    records = [json.loads(line) for line in cli("compare", "aaaa", "bbbb", "--json").out.splitlines()]
    (found,) = [record for record in records if "verdict" in record]
    assert (found["a"], found["b"], found["verdict"], found["n"]) == (
        "20231114T221320-small-bbbb", "20231114T221320-small-aaaa", "worse", 8
    )  # fmt: skip
    assert found["difference"] == pytest.approx(0.10517, abs=1e-4)


def test_a_model_that_lost_too_much_fails_the_comparison(
    cli: Callable[..., Any], record: Callable[..., Any], story: list[ev.Event]
) -> None:
    def answering(right: str) -> list[ev.Event]:
        return [replace(e, right=right, data="rows", value=right.count("1") / 20)
                if isinstance(e, ev.Metric) and e.name == "accuracy:sst2" else e for e in story]  # fmt: skip

    record(answering("1" * 20), "20231114T221320-small-aaaa")
    record(answering("1" * 17 + "0" * 3), "20231114T221320-small-bbbb")
    record(story, "20231114T221320-small-cccc")
    record(answering("1" * 20)[:-1], "20231114T221320-small-dddd")
    missed = cli("compare", "aaaa", "bbbb", "--max-drop", "0.1")
    assert missed.code == 4
    assert "gate missed: accuracy:sst2 of 20231114T221320-small-bbbb is 15.0 points below" in missed.err
    assert "-15.0 [-30.0, +0.0] points  20  0.250   tie" in missed.out
    assert cli("compare", "aaaa", "bbbb", "--max-drop", "0.1", "--json").code == 4
    assert cli("compare", "aaaa", "bbbb", "--max-drop", "0.15").code == 0
    assert cli("compare", "bbbb", "aaaa", "--max-drop", "0").code == 0
    for arguments, words in (
        (("aaaa", "cccc", "--max-drop", "0.1"), "accuracy:sst2 of 20231114T221320-small-cccc is not measured"),
        (("aaaa", "bbbb", "cccc", "--max-drop", "0.1"), "accuracy:sst2 of 20231114T221320-small-cccc is not measured"),
        (("cccc", "aaaa", "--max-drop", "0.1"), "small-cccc has no accuracy that was kept row by row"),
        (("aaaa", "dddd", "--max-drop", "0.1"), "small-dddd has not come to its end"),
        (("aaaa", "bbbb", "--max-drop", "1"), "never misses"),
    ):
        refused = cli("compare", *arguments)
        assert refused.code == 2
        assert words in refused.err
