"""The report: the result table, honest about prompts, and the two files made from it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine import events as ev
from engine import figures, outcome, report
from engine.state import RunState


@pytest.fixture
def state(story: list[ev.Event]) -> RunState:
    return RunState.of(story)


def find(state: RunState, stage: str, calibration: str | None = None) -> dict[str, Any]:
    (row,) = [r for r in report.rows(state) if (r["stage"], r["calibration"]) == (stage, calibration)]
    return row


def test_stages_come_in_order_with_the_prompts_after_theirs(state: RunState) -> None:
    assert [(row["stage"], row["calibration"]) for row in report.rows(state)] == [
        ("dense", None),
        ("pruned", None),
        ("pruned + plain prompt", "batch"),
        ("pruned + best prompt", "batch"),
        ("pruned + plain prompt", "none"),
        ("pruned + best prompt", "none"),
        ("exported", None),
    ]


def test_every_row_has_the_same_keys(state: RunState) -> None:
    assert {tuple(row) for row in report.rows(state)} == {outcome.KEYS}


def test_a_stage_carries_its_figures(state: RunState) -> None:
    row = find(state, "pruned")
    assert (row["perplexity"], row["accuracy"], row["n"], row["sparsity"]) == (30.9, 0.63, 872, 0.5)
    assert row["prefill_tokens_per_second"] is None


def test_the_best_prompt_carries_the_test_against_the_plain_one(state: RunState) -> None:
    best, plain = find(state, "pruned + best prompt", "batch"), find(state, "pruned + plain prompt", "batch")
    assert (best["accuracy"], best["p_value"], best["verdict"]) == (0.76, 0.0001, "better")
    assert (plain["accuracy"], plain["p_value"], plain["verdict"]) == (0.66, None, None)
    assert best["perplexity"] == plain["perplexity"] == 30.9
    assert find(state, "pruned + best prompt", "none")["verdict"] == "tie"


def test_a_verdict_that_confirm_rows_decided_says_so(story: list[ev.Event]) -> None:
    told = "the task's confirm rows did not repeat is a tie too; on these: c01 against plain (pruned, batch) +1.0 "
    assert told not in report.markdown(RunState.of(story))
    (test,) = [e for e in story if isinstance(e, ev.PromptsCompared) and e.calibration == "batch"]
    confirm = replace(test, split="confirm", verdict="tie", difference=0.01, seq=0)
    state = RunState.of([*story[: story.index(test)], confirm, *story[story.index(test) :]])
    assert told in report.markdown(state)
    assert find(state, "pruned + best prompt", "batch") == find(RunState.of(story), "pruned + best prompt", "batch")


def test_a_search_that_found_nothing_says_so(story: list[ev.Event]) -> None:
    kept = []
    for event in story:
        if isinstance(event, ev.StepFinished) and event.step == 1:
            event = replace(event, summary=event.summary | {"winner": "plain"})
        if not isinstance(event, ev.PromptsCompared):
            kept.append(event)
    state = RunState.of(kept)
    row = find(state, "pruned + best prompt = plain", "batch")
    assert (row["verdict"], row["accuracy"], row["prompt"]) == ("tie", 0.66, "plain")
    assert "the plain prompt, nothing better was found" in report.markdown(state)


def test_further_tasks_get_rows_of_their_own(state: RunState) -> None:
    state.apply(ev.Metric(step=0, stage="pruned", name="accuracy:piqa", value=0.6, low=0.5, high=0.7, n=100))
    rows = [row for row in report.rows(state) if row["stage"] == "pruned"]
    assert [(row["task"], row["accuracy"], row["perplexity"]) for row in rows] == [
        ("sst2", 0.63, 30.9),
        ("piqa", 0.6, None),
    ]


def test_the_table_leaves_out_what_nobody_measured(state: RunState) -> None:
    headers, cells = report.table(state)
    assert "prefill tok/s" not in headers
    assert cells[0][headers.index("perplexity")] == "17.42"
    assert cells[3][headers.index("accuracy [95%]")] == "76.0% [73.0, 79.0]"
    assert cells[3][headers.index("p")] == "<0.001"


def test_result_is_json_with_stable_keys(state: RunState) -> None:
    result = json.loads(json.dumps(report.result(state, {"torch": "2.13.0"})))
    assert list(result) == [
        "schema", "run", "profile", "description", "source", "status", "exit_code", "seconds", "failure", "model",
        "rows", "stages", "steps", "winners", "prompts", "comparisons", "layers", "sensitivities",
        "removals", "recoveries", "losses", "trainings", "readings", "tested", "grid", "recovered", "transfers",
        "references", "unreferenced", "speeds", "gates", "artifacts", "estimates", "unread", "environment",
    ]  # fmt: skip
    assert result["winners"] == [
        {"step": 1, "task": "sst2", "stage": "pruned", "winner": "c01", "baseline": "plain", "calibration": "batch"}
    ]
    assert result["stages"]["pruned"]["perplexity"]["value"] == 30.9
    assert result["environment"] == {"torch": "2.13.0"}
    assert "matrices" not in result["model"]


def test_markdown_has_every_section_and_the_winners_whole_text(state: RunState) -> None:
    text = report.markdown(state, {"torch": "2.13.0"})
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# small", "## Result", "## Prompts", "## Steps", "## Layers", "## Largest errors", "## Gates", "## Artifacts",
        "## Environment",
    ]  # fmt: skip
    assert "```text\nGood | bad?\n{text}\nSentiment:\n```" in text
    assert "| perplexity_ratio | 2.5 | 1.774 | passed |" in text
    assert "| layers.1.k | 4x8 | 50.0% | 0.04 |" in text
    assert "| torch | 2.13.0 |" in text


def test_markdown_tables_are_not_broken_by_a_prompts_own_bars(state: RunState) -> None:
    for line in report.markdown(state).splitlines():
        if line.startswith("| c01"):
            assert line.replace("\\|", "").count("|") == 10


@pytest.mark.parametrize("end", range(0, 42, 3))
def test_any_unfinished_run_has_a_report(story: list[ev.Event], end: int) -> None:
    state = RunState.of(story[:end])
    assert report.markdown(state).startswith("# ")
    json.dumps(report.result(state))


def test_what_was_estimated_stands_beside_what_was_used(story: list[ev.Event]) -> None:
    needs = [
        ev.Estimated(name="memory", value=2.1e9, available=23e9, unit="B"),
        ev.Estimated(name="time", value=310.0, unit="s"),
    ]
    ended = replace(story[-1], memory=1.9e9, disk=900_000_000)
    state = RunState.of([*story[:2], *(replace(need, seq=0) for need in needs), *story[2:-1], ended])
    assert "Estimated: 2.1 GB memory, 5 m. Used: 1.9 GB memory, 900 MB disk, 3 m 36 s." in report.markdown(state)
    found = report.result(state)["estimates"]
    assert (found["memory"]["value"], found["memory"]["used"], found["time"]["used"]) == (2.1e9, 1.9e9, 215.5)
    assert "Estimated" not in report.markdown(RunState.of(story))


def test_what_was_done_to_the_parts_is_in_both_files(state: RunState) -> None:
    common = {"step": 0, "seconds": 1.0, "done": 1, "total": 1}
    removed = ev.PartsRemoved(part="channels", block=1, removed=list(range(20)), of=32, error=0.05, **common)
    blocks = ev.PartsRemoved(part="blocks", block=None, removed=[0], of=2, error=None, **(common | {"step": 1}))
    recovered = ev.BlockRecovered(block=0, before=0.2, after=0.1, **common)
    tried = ev.LayerSensitivity(step=0, layer="layers.1.k", block=1, ratios=[0.3, 0.5, 0.7], errors=[0.1, 0.2, 0.3],
                                loss=0.02, heads=[0.4], done=1, total=1)  # fmt: skip
    assert state.model is not None
    smaller = replace(state.model, step=1, seq=0, matrices=state.model.matrices[:1])
    for event in (tried, removed, blocks, recovered, smaller):
        state.apply(event)
    text, result = report.markdown(state), json.loads(json.dumps(report.result(state)))
    for line in (
        "| layers.1.k | 0.02 | 0.1 | 0.2 | 0.3 |",
        "| layers.1.k | 0 | 0.4 |",
        f"| 1 | channels | 1 | 12 of 32 | 0.05 | {', '.join(map(str, range(16)))}, and 4 more |",
        "| 2 | blocks | all | 1 of 2 | - | 0 |",
        "| 1 | 0 | 0.2 | 0.1 |",
    ):
        assert line in text
    assert [entry["layer"] for entry in result["sensitivities"]] == ["layers.1.k"]
    assert result["removals"][0]["removed"] == list(range(20))
    assert (result["recoveries"][0]["before"], result["recoveries"][0]["after"]) == (0.2, 0.1)


def test_a_trained_prompt_and_what_it_says_are_in_both_files(state: RunState) -> None:
    common = {"step": 1, "candidate": "soft"}
    start = ev.PromptTrained(
        epoch=0, epochs=2, loss=None, accuracy=0.6, skill=0.61, n=64, best=True, seconds=1.0, **common
    )
    for event in (start, replace(start, epoch=1, loss=0.412, accuracy=0.75, skill=0.7)):
        state.apply(event)
    state.apply(ev.PromptRead(form="soft", tokens=[" good", "\n"], cosines=[0.93, 0.5], **common))
    text, result = report.markdown(state), json.loads(json.dumps(report.result(state)))
    for line in (
        "| 2 | soft | 0 | - | 60.0% | 0.610 | 64 | yes |",
        "| 2 | soft | 1 | 0.412 | 75.0% | 0.700 | 64 | yes |",
        "| 2 | soft | 0 | good | 0.930 |",
        "| 2 | soft | 1 | '\\n' | 0.500 |",
    ):
        assert line in text
    assert [epoch["loss"] for epoch in result["trainings"]] == [None, 0.412]
    assert result["readings"][0]["tokens"] == [" good", "\n"]


def test_a_failure_is_told(story: list[ev.Event]) -> None:
    state = RunState.of([*story[:5], ev.RunFailed(message="the disk\nis full", where="/data", seq=99, time=1.0)])
    assert "> /data: the disk\n> is full" in report.markdown(state)
    assert report.result(state)["failure"]["where"] == "/data"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (figures.size(538060032), "538 MB"),
        (figures.size(1.5e9), "1.5 GB"),
        (figures.size(999), "999 B"),
        (figures.size(999_960), "1.0 MB"),
        (figures.count(134515008), "134.5M"),
        (figures.count(500), "500"),
        (figures.share(0.5), "50.0%"),
        (figures.number(17.4249), "17.42"),
        (figures.number(1234567.0), "1.2e+06"),
        (figures.p_value(0.0003), "<0.001"),
        (figures.p_value(0.0312), "0.031"),
        (figures.accuracy(0.813, 0.77, 0.851), "81.3% [77.0, 85.1]"),
        (figures.difference(0.1, 0.08, 0.12), "+10.0 [+8.0, +12.0] points"),
        (figures.duration(3.21), "3.2 s"),
        (figures.rough(0.2), "1 s"),
        (figures.rough(89), "89 s"),
        (figures.rough(310), "5 m"),
        (figures.rough(7300), "2 h"),
        (figures.rough(None), "-"),
        (figures.duration(245), "4 m 05 s"),
        (figures.duration(59.97), "1 m 00 s"),
        (figures.duration(7620), "2 h 07 m"),
        (figures.age(200), "3m"),
        (figures.age(5 * 86400), "5d"),
        (figures.size(None), "-"),
        (figures.need("memory", 2.1e9, "B", 23e9), "2.1 GB memory (23.0 GB free)"),
        (figures.need("time", 310.0, "s"), "5 m"),
        (figures.need_of(2.1e9, "B", 7.9e9), "2.1 of 7.9 GB"),
        (figures.need_of(210e6, "B", 7.9e9), "210 MB of 7.9 GB"),
        (figures.need_of(743.0, "s"), "about 12 m"),
        (figures.need_of(2.1e9, "B"), "about 2.1 GB"),
    ],
)
def test_figures_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected


def by_metric(story: list[ev.Event], metric: str) -> RunState:
    """The story of a task that is judged otherwise."""
    told = []
    for event in story:
        if isinstance(event, ev.CandidateScored | ev.PromptsCompared):
            event = replace(event, metric=metric)
        if isinstance(event, ev.Metric) and event.name == "accuracy:sst2":
            event = replace(event, name=f"{metric}:sst2")
        told.append(event)
    return RunState.of(told)


def test_another_metric_has_its_name_and_its_own_figures_everywhere(story: list[ev.Event], state: RunState) -> None:
    headers, cells = report.table(by_metric(story, "bleu"))
    best = dict(zip(headers, next(row for row in cells if row[0] == "pruned + best prompt"), strict=True))
    assert (best["metric"], best["figure [95%]"]) == ("bleu", "76.0 [73.0, 79.0]")
    written = report.markdown(by_metric(story, "bleu"))
    assert "accuracy" not in written
    assert "| bleu [95%] |" in written
    assert "(approximate randomization)" in written
    assert "(exact McNemar)" in report.markdown(state)
    assert "metric" not in report.table(state)[0]


def test_a_choice_that_is_told_in_another_form_is_no_choice(story: list[ev.Event]) -> None:
    told = {"winner": ["c01", "c02"], "baseline": "plain", "task": "sst2"}
    later = ev.StepFinished(step=1, seconds=1.0, summary=told, seq=500)
    state = RunState.of([*story, later])
    assert report.winners(state) == []
    assert "c01" in report.markdown(state)
