"""The reducer: laws that hold for any stream, and what a whole run amounts to."""

from __future__ import annotations

import copy
from dataclasses import replace
from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import events as ev
from engine import report
from engine.curves import MOST, thinned
from engine.state import LOG_LINES, RunState, StepState
from tui.widgets import progress

STEP = st.integers(-1, 2)
NAME = st.sampled_from(["a", "b"])
SHARE = st.floats(0, 1)
EVENTS = st.one_of(
    st.builds(ev.RunStarted, run=NAME, profile=NAME, source=NAME, steps=st.lists(NAME, max_size=3)),
    st.builds(ev.StepStarted, step=STEP, use=NAME),
    st.builds(ev.StepFinished, step=STEP, seconds=SHARE),
    st.builds(ev.Progress, step=STEP, label=NAME, done=st.integers(0, 3), total=st.just(3)),
    st.builds(
        ev.LayerPruned,
        step=STEP,
        layer=NAME,
        block=STEP,
        shape=st.just([2, 3]),
        sparsity=SHARE,
        error=st.none() | SHARE,
        seconds=SHARE,
        done=st.just(1),
        total=st.just(2),
    ),
    st.builds(ev.Metric, step=STEP, stage=NAME, name=st.sampled_from(["perplexity", "bytes"]), value=SHARE),
    st.builds(ev.CandidateAdded, step=STEP, candidate=NAME, text=NAME, origin=NAME, tokens=st.just(1)),
    st.builds(
        ev.CandidateScored,
        step=STEP,
        candidate=NAME,
        stage=NAME,
        split=NAME,
        calibration=NAME,
        n=st.just(1),
        accuracy=SHARE,
        low=SHARE,
        high=SHARE,
        alive=st.booleans(),
    ),
    st.builds(ev.ArtifactWritten, step=STEP, path=NAME, format=NAME, bytes=st.just(1)),
    st.builds(ev.GateChecked, name=NAME, bound=SHARE, value=SHARE, passed=st.booleans()),
    st.builds(ev.Log, message=NAME),
    st.builds(ev.RunFinished, seconds=SHARE),
    st.builds(ev.RunFailed, message=NAME),
    st.builds(ev.RunCancelled, seconds=SHARE),
    st.builds(ev.Unknown, name=NAME, data=st.just({"kind": "new"})),
)


def numbered(events: list[ev.Event]) -> list[ev.Event]:
    out = []
    for index, event in enumerate(events):
        fresh = copy.copy(event)
        object.__setattr__(fresh, "seq", index + 1)
        object.__setattr__(fresh, "time", 100.0 + index)
        out.append(fresh)
    return out


streams = st.lists(EVENTS, max_size=25).map(numbered)


@given(streams)
def test_applying_twice_is_applying_once(events: list[ev.Event]) -> None:
    state = RunState.of(events)
    before = copy.deepcopy(state)
    for event in events:
        state.apply(event)
    assert state == before


@given(streams, st.integers(0, 25))
def test_folding_in_chunks_is_folding_the_whole(events: list[ev.Event], cut: int) -> None:
    state = RunState.of(events[:cut])
    for event in events[cut:]:
        state.apply(event)
    assert state == RunState.of(events)


@given(streams)
def test_events_are_not_changed_by_the_fold(events: list[ev.Event]) -> None:
    before = copy.deepcopy(events)
    RunState.of(events)
    assert events == before


@given(streams)
def test_the_last_final_event_decides(events: list[ev.Event]) -> None:
    words = {ev.RunStarted: "running", ev.RunFinished: "done", ev.RunFailed: "failed", ev.RunCancelled: "cancelled"}
    decisive = [words[type(event)] for event in events if type(event) in words]
    assert RunState.of(events).status == (decisive[-1] if decisive else "empty")


def test_a_whole_run(story: list[ev.Event]) -> None:
    state = RunState.of(story)
    assert (state.status, state.exit_code, state.finished) == ("done", 0, True)
    assert [step.status for step in state.steps.values()] == ["done"] * 4
    assert list(state.metrics) == ["dense", "pruned", "exported"]
    assert state.metrics["pruned"]["perplexity"].value == 30.9
    assert {layer.sparsity for layer in state.layers.values()} == {0.5}
    assert state.history["sparsity"][-1][1] == pytest.approx(0.5)
    assert [value for _, value in state.history["perplexity"]] == [17.42, 30.9, 30.9]
    assert state.candidates["c01"].scores["pruned", "test", "batch"].accuracy == 0.76
    assert len(state.comparisons) == 2


def test_every_kind_has_its_method() -> None:
    missing = [kind for kind in [*ev.KINDS, ev.Unknown.kind] if not hasattr(RunState, f"_on_{kind}")]
    assert not missing


def test_a_resumed_run_starts_its_steps_again_and_keeps_what_was_measured(story: list[ev.Event]) -> None:
    state = RunState.of(story[:15])
    state.apply(ev.RunCancelled(seconds=3.0, seq=50, time=200.0))
    assert (state.status, state.steps[0].status, state.exit_code) == ("cancelled", "cancelled", 130)
    again = ev.RunStarted(run="r", profile="small", source="demo", steps=["prune"], resumed=True, seq=51, time=300.0)
    state.apply(again)
    assert (state.status, state.exit_code, state.failure) == ("running", None, None)
    assert state.steps[0].status == "pending"
    assert state.metrics["dense"]["perplexity"].value == 17.42
    assert state.started == story[0].time


def test_the_time_at_work_is_that_of_all_processes_without_the_pauses_between() -> None:
    """Of a first process that was killed 30 seconds after it had begun, the step 20 of them, and a second one that waited."""
    told = {"run": "r", "profile": "small", "source": "demo", "steps": ["prune"]}
    state = RunState.of([
        ev.RunStarted(**told, seq=1, time=1000.0), ev.StepStarted(step=0, use="prune", seq=2, time=1010.0),
        ev.Progress(step=0, label="pruning", done=1, total=4, seq=3, time=1030.0),
    ])  # fmt: skip
    assert (state.worked, state.steps[0].worked) == (30.0, 20.0)
    seen = copy.deepcopy(state).apply(ev.RunFailed(message="nobody is at work on it", time=1500.0))
    assert seen.seconds == 30.0
    state.apply(ev.RunQueued(**told, ahead=["other"], seq=4, time=2000.0))
    assert (state.worked, state.steps[0].worked) == (30.0, 20.0)
    state.apply(ev.RunStarted(**told, resumed=True, seq=5, time=3000.0))
    state.apply(ev.StepStarted(step=0, use="prune", seq=6, time=3005.0))
    state.apply(ev.RunFailed(message="the disk is full", seconds=37.0, seq=7, time=3007.0))
    assert (state.worked, state.seconds) == (37.0, 37.0)
    state.apply(ev.RunStarted(**told, resumed=True, seq=8, time=4000.0))
    assert (state.worked, state.steps[0].worked) == (37.0, 20.0)
    state.apply(ev.StepStarted(step=0, use="prune", seq=9, time=4001.0))
    state.apply(ev.Progress(step=0, label="pruning", done=1, total=4, seq=10, time=3900.0))  # the clock was set back
    state.apply(ev.Progress(step=0, label="pruning", done=2, total=4, seq=11, time=3903.0))
    assert (state.worked, state.steps[0].worked) == (41.0, 23.0)
    state.apply(ev.RunFailed(message="an old version's profile", seconds=41.0, seq=12, time=90_000.0))
    assert (state.worked, state.seconds) == (41.0, 41.0)
    state.apply(ev.RunStarted(**told, resumed=True, seq=13, time=99_000.0))
    state.apply(ev.RunCancelled(seconds=42.0, seq=14, time=99_001.0))
    assert (state.worked, state.seconds) == (42.0, 42.0)
    told_before = copy.deepcopy(seen).apply(ev.RunStarted(**told, resumed=True, seq=19, time=8000.0))
    assert told_before.apply(ev.RunFailed(message="as versions before told it", seq=20, time=8005.0)).seconds == 35.0
    seen.apply(ev.RunStarted(**told, resumed=True, seq=20, time=9000.0))
    assert (seen.worked, seen.steps[0].worked) == (30.0, 20.0)


def test_a_resumed_run_that_is_going_has_not_ended(story: list[ev.Event]) -> None:
    told = {"run": "r", "profile": "small", "source": "demo", "steps": ["prune"]}
    state = RunState.of([
        ev.RunStarted(**told, seq=1, time=1000.0), ev.RunCancelled(seconds=77.0, seq=2, time=1077.0),
        ev.RunStarted(**told, resumed=True, seq=3, time=5000.0), ev.Log(message="on it", seq=4, time=5010.0),
    ])  # fmt: skip
    assert (state.seconds, state.took) == (None, 87.0)
    assert "running, 1 m 27 s" in report.markdown(state)
    assert report.result(state)["seconds"] == 87.0


def test_work_that_goes_on_or_is_done_again_has_the_rate_of_what_was_done_meanwhile() -> None:
    state = RunState.of([ev.RunStarted(run="r", profile="p", source="s", steps=["finetune"], seq=1, time=0.0),
                         ev.StepStarted(step=0, use="finetune", seq=2, time=1.0)])  # fmt: skip
    for at, (done, time) in enumerate([(500, 10.0), (510, 20.0)]):
        state.apply(ev.Progress(step=0, label="training", done=done, total=600, seq=3 + at, time=time))
    step = state.steps[0]
    assert (step.rate(20.0), step.eta(20.0)) == (1.0, 90.0)
    assert "1 done/s  ETA 1 m 30 s" in progress.line(state, "running", 20.0, 160).plain
    for at, (done, time) in enumerate([(2, 30.0), (12, 35.0)]):
        state.apply(ev.Progress(step=0, label="training", done=done, total=600, seq=9 + at, time=time))
    assert step.rate(35.0) == 2.0


def test_eta_is_the_rest_at_the_rate_so_far() -> None:
    step = StepState("prune", status="running", started=100.0, done=2, total=10)
    assert step.eta(104.0) == pytest.approx(16.0)
    assert StepState("prune", status="running", started=100.0, total=10).eta(104.0) is None


def test_the_log_is_bounded() -> None:
    state = RunState.of(ev.Log(message=str(i), seq=i + 1) for i in range(LOG_LINES + 5))
    assert len(state.log) == LOG_LINES
    assert state.log[-1].message == str(LOG_LINES + 4)


def loaded(step: int, shape: list[int], seq: int, **more: object) -> ev.ModelLoaded:
    matrix = {"name": "a", "block": 0, "shape": shape, "parameters": shape[0] * shape[1], **more}
    return ev.ModelLoaded(
        source="s", device="cpu", dtype="float32", architecture="A", parameters=matrix["parameters"], bytes=1, threads=1,
        matrices=[matrix], step=step, seq=seq,
    )  # fmt: skip


def sensed(name: str, step: int, seq: int) -> ev.LayerSensitivity:
    return ev.LayerSensitivity(step=step, layer=name, block=0, ratios=[0.3, 0.5], errors=[0.1, 0.2], loss=0.01,
                               heads=[0.3], done=1, total=1, seq=seq)  # fmt: skip


def left(step: int, seq: int, part: str = "blocks") -> ev.PartsRemoved:
    return ev.PartsRemoved(step=step, part=part, block=None, removed=[0], of=2, error=None, seconds=1.0, done=1, total=1,
                           seq=seq)  # fmt: skip


def test_new_shapes_leave_what_was_measured_and_planned_where_names_still_mean_the_same() -> None:
    planned = ev.SparsityPlanned(step=0, allocation="owl", sparsity=0.5, shares={"a": 0.4}, reasons={"a": "so"}, seq=3)
    state = RunState.of(
        [loaded(-1, [8, 4], 1), sensed("a", 0, 2), planned, left(1, 4, "channels"), loaded(1, [6, 4], 5)]
    )
    assert state.tried == state.sensitivities == {"a": sensed("a", 0, 2)}
    assert (state.layers["a"].planned, state.layers["a"].reason) == (0.4, "so")


def test_once_blocks_have_left_an_older_name_means_another_matrix() -> None:
    planned = ev.SparsityPlanned(step=0, allocation="owl", sparsity=0.5, shares={"a": 0.4}, seq=3)
    state = RunState.of([loaded(-1, [8, 4], 1), sensed("a", 0, 2), planned, left(1, 4)])
    assert list(state.tried) == ["a"]  # the smaller model is not loaded yet
    state.apply(loaded(1, [8, 4], 5))
    assert (state.tried, list(state.sensitivities), list(state.plans)) == ({}, ["a"], [0])
    assert state.layers["a"].planned is None
    again = state.apply(sensed("a", 2, 6)).tried
    assert again == {"a": sensed("a", 2, 6)}


def test_work_that_is_done_again_after_a_resume_is_told_once() -> None:
    recovered = ev.BlockRecovered(step=1, block=0, before=0.2, after=0.1, seconds=1.0, done=1, total=1, seq=2)
    state = RunState.of([left(0, 1), recovered, left(0, 3), replace(recovered, after=0.05, seq=4)])
    assert [event.seq for event in state.removals] == [3]
    assert [event.after for event in state.recoveries] == [0.05]


def test_an_epoch_that_is_trained_again_after_a_resume_is_told_once() -> None:
    epoch = ev.PromptTrained(step=1, candidate="soft", epoch=1, epochs=3, loss=0.5, accuracy=0.7, skill=0.68, n=64,
                             best=True, seconds=2.0, seq=1)  # fmt: skip
    read = ev.PromptRead(step=1, candidate="soft", form="soft", tokens=[" good"], cosines=[0.9], seq=2)
    state = RunState.of([epoch, read, replace(epoch, loss=0.4, seq=3), replace(epoch, epoch=2, seq=4)])
    assert [(event.epoch, event.loss) for event in state.trainings] == [(1, 0.4), (2, 0.5)]
    assert [value for _, value in state.history["prompt training loss"]] == [0.5, 0.4, 0.5]
    assert state.apply(replace(read, cosines=[0.8], seq=5)).readings == [replace(read, cosines=[0.8], seq=5)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_the_middle_is_the_lower_median_of_what_is_in_order(values: list[float]) -> None:
    ordered = sorted(values)
    assert ev.middle(ordered) == median_low(ordered)


def test_new_shapes_replace_the_layers_and_a_resumed_run_does_not_bring_the_old_ones_back() -> None:
    state = RunState.of([loaded(-1, [8, 4], 1), loaded(0, [6, 4], 2)])
    assert state.layers["a"].shape == [6, 4]
    assert state.layers["a"].sparsity is None
    state.layers["a"].error = 0.25
    for again in (loaded(-1, [8, 4], 3), loaded(0, [6, 4], 4)):
        state.apply(again)
        assert state.layers["a"].shape == [6, 4]
        assert state.layers["a"].error == 0.25
        assert state.model is not None
        assert state.model.parameters == 24
    assert state.apply(loaded(1, [2, 4], 5, sparsity=0.5)).layers["a"].sparsity == 0.5


def test_a_training_shows_its_losses_and_how_far_it_is() -> None:
    train = ev.LossMeasured(
        step=0, done=3, total=10, part="train", loss=2.5, rate=1e-4, per_second=9.0, time=5.0, seq=2
    )
    held = ev.LossMeasured(step=0, done=5, total=10, part="held out", loss=2.25, best=True, time=6.0, seq=3)
    state = RunState.of([ev.StepStarted(step=0, use="distill", seq=1), train, held, replace(held, loss=2.0, seq=4)])
    assert state.history["training loss"] == [(5.0, 2.5)]
    assert [value for _, value in state.history["held-out loss"]] == [2.25, 2.0]
    assert [event.loss for event in state.losses] == [2.0], "a look that is told again counts once"
    step = state.steps[0]
    assert (step.label, step.done, step.total, step.unit) == ("training", 3, 10, "optimizer steps")


@given(st.lists(st.integers(-9, 9)), st.integers(1, 3))
def test_a_thinned_row_is_half_as_long_in_order_and_keeps_its_ends_and_extremes(values: list[int], count: int) -> None:
    points = list(enumerate(values))
    measures = [lambda p: p[1], lambda p: -p[1], lambda p: (p[1] % 2, p[1])][:count]
    kept = thinned(points, *measures)
    assert kept == sorted(set(kept) & set(points))
    assert (kept[:1], kept[-1:]) == (points[:1], points[-1:])
    assert len(kept) <= max(0, len(points) - 2) / 2 + 2 + count
    for measure in measures:
        assert min(map(measure, kept), default=None) == min(map(measure, points), default=None)


def steep(n: int) -> float:
    """Falls, with one peak and one hole, each of one point, and two that are no numbers."""
    return {700: 99.0, 7001: -5.0, 90: float("nan"), 91: float("inf")}.get(n, 50 / n)


def test_what_grows_with_a_training_is_bounded_and_keeps_its_ends_its_extremes_and_the_best() -> None:
    count = 3 * MOST
    told = [
        ev.LossMeasured(step=0, done=n, total=count, part=part, loss=steep(n), best=part == "held out" and n == 3001,
                        time=float(n), seq=2 * n + (part == "train"))
        for n in range(1, count) for part in ("held out", "train")
    ]  # fmt: skip
    state = RunState.of(told)
    for curve in ("training loss", "held-out loss"):
        points = state.history[curve]
        assert MOST / 4 < len(points) < MOST
        assert (points[0], points[-1]) == ((1.0, 50.0), (count - 1.0, 50 / (count - 1)))
        assert {(700.0, 99.0), (7001.0, -5.0)} <= set(points)
        assert points == sorted(points)
    losses = state.losses
    assert MOST / 4 < len(losses) < MOST
    assert [event.done for event in losses] == sorted({event.done for event in losses})
    assert {1, 3001, 7001, count - 1} <= {event.done for event in losses}, "the ends, the best and the lowest"
    assert {90, 91} & {event.done for event in losses}, "that it diverged"


def epoch(n: int) -> ev.PromptTrained:
    return ev.PromptTrained(step=0, candidate="soft", epoch=n, epochs=9, loss=None, accuracy=0.5, skill=1 / n, n=8,
                            best=n == 3, seconds=1.0, seq=n)  # fmt: skip


def test_many_epochs_are_bounded_and_the_best_stays() -> None:
    state = RunState.of(epoch(n) for n in range(1, MOST + 9))
    assert len(state.trainings) < MOST
    assert {1, 3, MOST + 8} <= {event.epoch for event in state.trainings}


def test_what_is_told_is_taken_over_in_a_time_that_does_not_grow_with_what_was_told_before() -> None:
    """Counted in the comparisons of keys that a search through all that was told would make."""
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Name(f"file {n}") for n in range(300)]
    state = RunState()
    for seq, name in enumerate([*names, *names], start=1):
        state.apply(ev.ArtifactWritten(step=0, path=name, format="f", bytes=1, seq=seq))
        state.apply(ev.GateChecked(name=name, bound=1.0, value=1.0, passed=True))
        state.apply(
            ev.PartsRemoved(step=0, part=name, block=0, removed=[], of=1, error=None, seconds=1.0, done=1, total=1)
        )
    assert len(state.artifacts) == len(state.gates) == len(state.removals) == len(names)
    assert compared < 20 * len(names)
    assert state.artifacts[-1].seq == 600, "told again, it is the last"
