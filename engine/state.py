"""The one reducer: what a run's events amount to. Screens, `attach`, reports and tests all read a `RunState`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite, prod
from operator import itemgetter

from engine import events as ev
from engine.curves import MOST, thinned
from engine.records import CandidateState as CandidateState
from engine.records import Latest, latest_epochs, latest_losses
from engine.records import LayerState as LayerState
from engine.records import StepState as StepState
from engine.records import Used as Used

LOG_LINES = 2000


@dataclass
class RunState:
    """Everything known of a run. `status`: empty, queued, running, done, failed or cancelled; apply() is the only mutator.

    `metrics` is {stage: {name: Metric}} in the order of measurement; `history` {curve: [(time, value)]} feeds charts.
    `grid` and `recovered` are {(step, level, kind of prompt): event}, `transfers` {(step, kind, trained at, used at): event}.
    `layers` are the matrices as the last step that changed shapes left them; `sensitivities` {name: event} and `plans`
    {step: event} stay as they were told, by the names of that time (see `renumbered`). `losses` are those on held-out data.
    `worked` are the seconds that processes have been at work, until the last event and without the pauses between them.
    What grows as long as a run lasts (log, history, losses, trainings) is bounded; the rest depends on model and profile alone.
    """

    run: str = ""
    profile: str = ""
    description: str = ""
    source: str = ""
    allow_code: bool = False
    status: str = "empty"
    started: float | None = None
    updated: float | None = None
    worked: float = 0.0
    seconds: float | None = None
    ahead: list[str] = field(default_factory=list)
    exit_code: int | None = None
    failure: ev.RunFailed | None = None
    model: ev.ModelLoaded | None = None
    steps: dict[int, StepState] = field(default_factory=dict)
    current: int | None = None
    layers: dict[str, LayerState] = field(default_factory=dict)
    metrics: dict[str, dict[str, ev.Metric]] = field(default_factory=dict)
    candidates: dict[str, CandidateState] = field(default_factory=dict)
    comparisons: Latest[ev.PromptsCompared] = field(default_factory=Latest)
    artifacts: Latest[ev.ArtifactWritten] = field(default_factory=Latest)
    gates: Latest[ev.GateChecked] = field(default_factory=Latest)
    plans: dict[int, ev.SparsityPlanned] = field(default_factory=dict)
    sensitivities: dict[str, ev.LayerSensitivity] = field(default_factory=dict)
    removals: Latest[ev.PartsRemoved] = field(default_factory=Latest)
    recoveries: Latest[ev.BlockRecovered] = field(default_factory=Latest)
    losses: Latest[ev.LossMeasured] = field(default_factory=latest_losses)
    trainings: Latest[ev.PromptTrained] = field(default_factory=latest_epochs)
    readings: Latest[ev.PromptRead] = field(default_factory=Latest)
    tested: dict[str, ev.SplitTested] = field(default_factory=dict)
    grid: dict[tuple[int, str, str], ev.GridScored] = field(default_factory=dict)
    recovered: dict[tuple[int, str, str], ev.Recovered] = field(default_factory=dict)
    transfers: dict[tuple[int, str, str, str], ev.Transferred] = field(default_factory=dict)
    speeds: dict[tuple[str, int], ev.SpeedMeasured] = field(default_factory=dict)
    references: dict[str, ev.ReferenceMeasured] = field(default_factory=dict)
    unreferenced: dict[str, ev.ReferenceSkipped] = field(default_factory=dict)
    estimates: dict[str, ev.Estimated] = field(default_factory=dict)
    used: dict[str, Used] = field(default_factory=dict)
    log: list[ev.Log] = field(default_factory=list)
    history: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    unknown: int = 0
    seq: int = 0
    _zeros: float = field(default=0.0, repr=False)  # what `layers` add up to
    _parameters: int = field(default=0, repr=False)
    _set_back: float = field(default=0.0, repr=False)  # seconds that the clock was set back by, in all

    @classmethod
    def of(cls, events: Iterable[ev.Event]) -> RunState:
        """The state after all `events`."""
        state = cls()
        for event in events:
            state.apply(event)
        return state

    def apply(self, event: ev.Event) -> RunState:
        """Folds one event in; events already seen (by seq) are ignored. Returns self."""
        if event.seq and event.seq <= self.seq:
            return self
        if event.time and self.updated and event.time < self.updated:
            self._set_back += self.updated - event.time
        if self._at_work(event) and event.time and self.updated:
            self._work(max(0.0, event.time - self.updated))
        self.seq, self.updated = event.seq or self.seq, event.time or self.updated
        getattr(self, f"_on_{event.kind}")(event)
        return self

    @property
    def finished(self) -> bool:
        return self.status in ("done", "failed", "cancelled")

    @property
    def took(self) -> float:
        """Seconds that it took, or that its processes have been at work so far."""
        return self.worked if self.seconds is None else self.seconds

    @property
    def begun(self) -> bool:
        """Whether a worker has taken it up, and has not said how it ended."""
        return self.status in ("queued", "running")

    @property
    def renumbered(self) -> int:
        """The last step that took blocks out of the model loaded, -2 for none: older names mean other matrices by now."""
        shaped = self.model.step if self.model else -1
        return max((r.step for r in self.removals if r.part == "blocks" and r.step <= shaped), default=-2)

    @property
    def tried(self) -> dict[str, ev.LayerSensitivity]:
        """The sensitivities of the matrices in `layers`."""
        since = self.renumbered
        return {name: event for name, event in self.sensitivities.items() if event.step > since}

    def _on_run_queued(self, event: ev.RunQueued) -> None:
        self._begin(event, "queued", event.ahead)

    def _on_run_started(self, event: ev.RunStarted) -> None:
        self._begin(event, "running", [])
        self.started, self.allow_code = self.started or event.time, event.allow_code

    def _begin(self, event: ev.RunQueued | ev.RunStarted, status: str, ahead: list[str]) -> None:
        self.run, self.profile, self.source = event.run, event.profile, event.source
        self.description, self.status, self.failure, self.exit_code = event.description, status, None, None
        self.ahead, self.seconds = ahead, None
        before, uses = self.steps, {-1: "measure", **dict(enumerate(event.steps))}
        self.steps = {i: StepState(use, worked=before[i].worked if i in before else 0.0) for i, use in uses.items()}
        if -1 in before and before[-1].status == "done":
            self.steps[-1] = before[-1]

    def _on_model_loaded(self, event: ev.ModelLoaded) -> None:
        known = self.model.step if self.model else -1
        if event.step < known:  # a resumed run loads the dense model first, and comes to the later shapes again
            return
        if event.step > known:
            self.layers, self._zeros, self._parameters = {}, 0.0, 0
        self.model = event
        for matrix in event.matrices:
            if matrix["name"] not in self.layers:
                self._add(LayerState.of(matrix))
        for plan in self.plans.values():
            self._plan(plan)

    def _on_step_started(self, event: ev.StepStarted) -> None:
        step = self.steps.setdefault(event.step, StepState(event.use))
        step.status, step.title, step.started = "running", event.title, event.time
        step.done = step.total = step.first = 0
        self.current = event.step

    def _on_step_finished(self, event: ev.StepFinished) -> None:
        step = self.steps.setdefault(event.step, StepState("?"))
        step.status, step.seconds, step.resumed = "done", event.seconds, event.resumed
        step.summary = event.summary

    def _on_progress(self, event: ev.Progress) -> None:
        step = self.steps.setdefault(event.step, StepState("?"))
        if step.label != event.label or event.done < step.done:  # other work, or the same once more
            step.started, step.first = event.time, event.done
        step.label, step.done, step.total, step.unit = event.label, event.done, event.total, event.unit

    def _on_layer_pruned(self, event: ev.LayerPruned) -> None:
        layer = self._changed(event)
        self._zeros += layer.parameters * (event.sparsity - (layer.sparsity or 0.0))
        layer.sparsity = event.sparsity
        self._point("sparsity", event.time, self._zeros / max(1, self._parameters))

    def _add(self, layer: LayerState) -> None:
        self.layers[layer.name] = layer
        self._zeros += layer.parameters * (layer.sparsity or 0.0)
        self._parameters += layer.parameters

    def _on_layer_quantized(self, event: ev.LayerQuantized) -> None:
        self._changed(event).bits = event.bits

    def _on_bits_planned(self, event: ev.BitsPlanned) -> None:
        for name, bits in event.bits.items():
            if name in self.layers:
                self.layers[name].planned_bits = bits

    def _changed(self, event: ev.LayerPruned | ev.LayerQuantized) -> LayerState:
        """The matrix that a step has changed, with its error."""
        if event.layer not in self.layers:
            self._add(LayerState(event.layer, event.block, event.shape, prod(event.shape)))
        layer = self.layers[event.layer]
        layer.error, layer.seconds = event.error, event.seconds
        if event.error is not None:
            self._point("reconstruction error", event.time, event.error)
        return layer

    def _on_sparsity_planned(self, event: ev.SparsityPlanned) -> None:
        self.plans[event.step] = event
        self._plan(event)

    def _plan(self, event: ev.SparsityPlanned) -> None:
        stale = event.step <= self.renumbered
        for name, share in event.shares.items():
            if name in self.layers and not stale:
                self.layers[name].planned, self.layers[name].reason = share, event.reasons.get(name, "")

    def _on_parts_removed(self, event: ev.PartsRemoved) -> None:
        self.removals.put((event.step, event.part, event.block), event)
        if event.error is not None:
            self._point("reconstruction error", event.time, event.error)

    def _on_block_recovered(self, event: ev.BlockRecovered) -> None:
        self.recoveries.put((event.step, event.block), event)
        self._point("block error before recovery", event.time, event.before)
        self._point("block error after recovery", event.time, event.after)

    def _on_loss_measured(self, event: ev.LossMeasured) -> None:
        if event.part == "train":
            self._point("training loss", event.time, event.loss)
            told = ev.Progress(step=event.step, label="training", done=event.done, total=event.total,
                               unit="optimizer steps", time=event.time)  # fmt: skip
            self._on_progress(told)
            return
        self.losses.put((event.step, event.done), event)
        self._point("held-out loss", event.time, event.loss)

    def _on_layer_sensitivity(self, event: ev.LayerSensitivity) -> None:
        if event.errors:
            self.sensitivities[event.layer] = event

    def _on_estimated(self, event: ev.Estimated) -> None:
        self.estimates[event.name] = event

    def _on_metric(self, event: ev.Metric) -> None:
        self.metrics.setdefault(event.stage, {})[event.name] = event
        if event.name == "perplexity":
            self._point("perplexity", event.time, event.value)

    def _on_candidate_added(self, event: ev.CandidateAdded) -> None:
        known = CandidateState(event.candidate, event.text, event.origin, event.tokens, step=event.step)
        self.candidates.setdefault(event.candidate, known)

    def _on_candidate_scored(self, event: ev.CandidateScored) -> None:
        candidate = self.candidates.setdefault(event.candidate, CandidateState(event.candidate, "", "", 0))
        candidate.scores[event.stage, event.split, event.calibration] = event
        candidate.round = max(event.round, candidate.round)
        if event.split == "dev":  # who left the race stays out of it, tested or not
            candidate.alive = event.alive

    def _on_prompts_compared(self, event: ev.PromptsCompared) -> None:
        key = (event.step, event.a, event.b, event.stage, event.split, event.calibration)
        self.comparisons.put(key, event)

    def _on_prompt_perturbed(self, event: ev.PromptPerturbed) -> None:
        candidate = self.candidates.setdefault(event.candidate, CandidateState(event.candidate, "", "", 0))
        candidate.perturbed[event.stage, event.perturbation] = event

    def _on_prompt_trained(self, event: ev.PromptTrained) -> None:
        self.trainings.put((event.step, event.candidate, event.epoch), event)
        if not event.epoch:  # of another training
            self.history["prompt training loss"], self.history["prompt training skill"] = [], []
        if event.loss is not None:
            self._point("prompt training loss", event.time, event.loss)
        self._point("prompt training skill", event.time, event.skill)

    def _on_prompt_read(self, event: ev.PromptRead) -> None:
        self.readings.put(event.step, event)

    def _on_split_tested(self, event: ev.SplitTested) -> None:
        self.tested[event.task] = event

    def _on_grid_scored(self, event: ev.GridScored) -> None:
        self.grid[event.step, event.level, event.prompt] = event

    def _on_recovered(self, event: ev.Recovered) -> None:
        self.recovered[event.step, event.level, event.prompt] = event

    def _on_transferred(self, event: ev.Transferred) -> None:
        self.transfers[event.step, event.prompt, event.trained_at, event.used_at] = event

    def _on_artifact_written(self, event: ev.ArtifactWritten) -> None:
        self.artifacts.put(event.path, event)

    def _on_reference_measured(self, event: ev.ReferenceMeasured) -> None:
        self.references[event.stage] = event
        self.unreferenced.pop(event.stage, None)

    def _on_reference_skipped(self, event: ev.ReferenceSkipped) -> None:
        self.unreferenced[event.stage] = event
        self.references.pop(event.stage, None)

    def _on_speed_measured(self, event: ev.SpeedMeasured) -> None:
        self.speeds[event.stage, event.threads] = event

    def _on_gate_checked(self, event: ev.GateChecked) -> None:
        self.gates.put((event.step, event.level, event.name), event)

    def _on_log(self, event: ev.Log) -> None:
        self.log.append(event)
        del self.log[:-LOG_LINES]

    def _on_run_finished(self, event: ev.RunFinished) -> None:
        self.status, self.seconds, self.exit_code = "done", event.seconds, event.exit_code
        self.worked = max(self.worked, event.seconds)
        used = (("memory", event.memory, "B"), ("disk", event.disk, "B"), ("time", event.seconds, "s"))
        self.used = {name: Used(value, unit) for name, value, unit in used if value is not None}

    def _on_run_failed(self, event: ev.RunFailed) -> None:
        self._stop("failed")
        self.worked = self.seconds = max(self.worked, event.seconds or 0.0)
        self.failure, self.exit_code = event, event.exit_code

    def _on_run_cancelled(self, event: ev.RunCancelled) -> None:
        self._stop("cancelled")
        self.seconds, self.exit_code = event.seconds, 130
        self.worked = max(self.worked, event.seconds)

    def _on_unknown(self, event: ev.Unknown) -> None:
        self.unknown += 1

    def _at_work(self, event: ev.Event) -> bool:
        """Whether a process was, from the event before until this one: not until the next process begins, perhaps days later,
        or somebody finds that the last one is gone.
        """
        told_by_itself = not isinstance(event, ev.RunFailed) or (bool(event.seq) and event.seconds is None)
        return self.status == "running" and told_by_itself and not isinstance(event, ev.RunQueued | ev.RunStarted)

    def _work(self, seconds: float) -> None:
        """Counts them for the run and the step that is at work."""
        self.worked += seconds
        step = None if self.current is None else self.steps.get(self.current)
        if step and step.status == "running":
            step.worked += seconds

    def _stop(self, status: str) -> None:
        self.status, self.ahead = status, []
        for step in self.steps.values():
            if step.status == "running":
                step.status = status

    def _point(self, curve: str, time: float, value: float) -> None:
        """Adds a point, at a time as if the clock had never been set back; of a long curve half goes, its extremes stay."""
        points = self.history.setdefault(curve, [])
        if isfinite(value):  # a training that diverges has no height to draw
            at = time + self._set_back
            points.append((max(at, points[-1][0]) if points else at, value))
        if len(points) >= MOST:
            points[:] = thinned(points, itemgetter(1), lambda point: -point[1])
