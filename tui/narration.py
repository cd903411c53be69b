"""A run's events as lines for people: what `run` and `attach --plain` say on stderr.

A pure function of the events, throttled by their own counts and time stamps, so that a replay reads as the live run did.
"""

from __future__ import annotations

from collections.abc import Callable

from engine import artifacts, figures, gates, means
from engine import events as ev

EVERY = 5.0
"""seconds between two progress lines, at least"""
PARTS = 10
"""progress lines of one work, at most, beside its first and its last"""
INDENT = "      "
Counted = ev.Progress | ev.LayerPruned | ev.LayerQuantized | ev.PartsRemoved | ev.LayerSensitivity | ev.LossMeasured
"""events that say how far a work is"""


class Narrator:
    """Turns events into lines, one event at a time; `resume` is the command that goes on with the run."""

    def __init__(self, resume: str) -> None:
        self._resume = resume
        self._uses: list[str] = []
        self._matrices: list[ev.MatrixInfo] = []
        self._told: dict[str, tuple[int, str]] = {}
        self._needs: list[str] = []
        self._unread: set[str] = set()
        self._spoke = 0.0

    def __call__(self, event: ev.Event) -> list[str]:
        """The lines of this event; none for most."""
        line: Callable[[ev.Event], list[str]] | None = getattr(self, f"_{event.kind}", None)
        return line(event) if line else []

    def _unknown(self, event: ev.Unknown) -> list[str]:
        """Once of every kind."""
        if event.name in self._unread:
            return []
        self._unread.add(event.name)
        return [f"{INDENT}cannot read {event.name}: a newer version wrote it"]

    def _run_queued(self, event: ev.RunQueued) -> list[str]:
        return [f"{event.run} is queued after {', '.join(event.ahead)}"]

    def _run_started(self, event: ev.RunStarted) -> list[str]:
        self._uses = event.steps
        self._needs.clear()
        verb = "resuming" if event.resumed else "run"
        return [f"{verb} {event.run}: {event.source}, {' > '.join(event.steps) or 'no steps'}"]

    def _model_loaded(self, event: ev.ModelLoaded) -> list[str]:
        self._matrices = event.matrices
        size = f"{figures.count(event.parameters)} parameters, {figures.size(event.bytes)}"
        return [f"model {event.architecture}: {size}, {event.device} {event.dtype}, threads {event.threads}"]

    def _estimated(self, event: ev.Estimated) -> list[str]:
        """One line of all of them, when the last one, the time, is known."""
        need = figures.need(event.name, event.value, event.unit, event.available)
        if event.unit != "s":
            self._needs.append(need)
            return []
        room, self._needs = ", ".join(self._needs), []
        return [f"needs about {room}, about {need}" if room else f"needs about {need}"]

    def _step_started(self, event: ev.StepStarted) -> list[str]:
        self._told.clear()
        return [f"{self._place(event.step)} {event.use}" + (f": {event.title}" if event.title else "")]

    def _step_finished(self, event: ev.StepFinished) -> list[str]:
        if event.resumed:
            use = self._uses[event.step] if 0 <= event.step < len(self._uses) else "measure"
            return [f"{self._place(event.step)} {use}: ✓ done before"]
        return [f"{INDENT}✓ done in {figures.duration(event.seconds)}"]

    def _progress(self, event: ev.Progress) -> list[str]:
        text = f"{event.label} {event.done}/{event.total} {event.unit}".rstrip()
        return self._sometimes(event.label, event, text)

    def _sparsity_planned(self, event: ev.SparsityPlanned) -> list[str]:
        """The mean of every block, in per cent; one figure where all are the same."""
        found = means.by_block((m["block"], event.shares.get(m["name"]), m["parameters"]) for m in self._matrices)
        if len(set(event.shares.values())) == 1 or not found:
            return [f"{INDENT}plan ({event.allocation}): {figures.share(event.sparsity)} everywhere"]
        rows = " ".join(f"{100 * mean:.0f}" for mean in found.values())
        return [f"{INDENT}plan ({event.allocation}): {figures.share(event.sparsity)}, by block {rows}"]

    def _layer_pruned(self, event: ev.LayerPruned) -> list[str]:
        error = "" if event.error is None else f", error {event.error:.3g}"
        text = f"pruned {event.done}/{event.total} {event.layer} to {figures.share(event.sparsity)}{error}"
        return self._sometimes("pruned", event, text)

    def _bits_planned(self, event: ev.BitsPlanned) -> list[str]:
        """The mean bits of every block."""
        found = means.by_block((m["block"], event.bits.get(m["name"]), m["parameters"]) for m in self._matrices)
        rows = " ".join(f"{mean:.1f}" for mean in found.values())
        return [f"{INDENT}bits for {figures.share(event.size_ratio)} of the bytes, by block {rows}"]

    def _layer_quantized(self, event: ev.LayerQuantized) -> list[str]:
        error = "" if event.error is None else f", error {event.error:.3g}"
        text = f"quantized {event.done}/{event.total} {event.layer} to {event.bits} bits{error}"
        return self._sometimes("quantized", event, text)

    def _parts_removed(self, event: ev.PartsRemoved) -> list[str]:
        error = "" if event.error is None else f", error {event.error:.3g}"
        place = "" if event.block is None else f" of block {event.block}"
        text = f"removed {len(event.removed)} of {event.of} {event.part}{place}{error}"
        return self._sometimes("removed", event, text)

    def _block_recovered(self, event: ev.BlockRecovered) -> list[str]:
        change = f"{event.before:.3g} -> {event.after:.3g}"
        took = figures.duration(event.seconds)
        return [f"{INDENT}recovered {event.done}/{event.total} block {event.block}: error {change}, {took}"]

    def _loss_measured(self, event: ev.LossMeasured) -> list[str]:
        place = f"step {event.done}/{event.total}"
        if event.part == "train":
            text = f"training {place}: loss {event.loss:.4g}, {figures.number(event.per_second, 0)} {event.unit}/s"
            return self._sometimes("training", event, text)
        return [f"{INDENT}held-out loss {event.loss:.4g} at {place}" + (", the best" if event.best else "")]

    def _layer_sensitivity(self, event: ev.LayerSensitivity) -> list[str]:
        pairs = zip(event.errors, event.ratios, strict=False)
        errors = ", ".join(f"{error:.3g} at {figures.share(ratio, 0)}" for error, ratio in pairs)
        loss = "" if event.loss is None else f", loss {event.loss:+.3g}"
        text = f"tried {event.done}/{event.total} {event.layer}: error {errors}{loss}"
        return self._sometimes("tried", event, text)

    def _metric(self, event: ev.Metric) -> list[str]:
        figure = figures.metric(event.name, event.value, event.low, event.high)
        n = "" if event.n is None else f", n {event.n}"
        cached = ", measured before" if event.cached else ""
        return [f"{INDENT}{event.stage} {event.name}: {figure}{n}{cached}"]

    def _reference_measured(self, event: ev.ReferenceMeasured) -> list[str]:
        return [f"{INDENT}{artifacts.against(event)}"]

    def _reference_skipped(self, event: ev.ReferenceSkipped) -> list[str]:
        return [f"{INDENT}{artifacts.alone(event)}"]

    def _speed_measured(self, event: ev.SpeedMeasured) -> list[str]:
        decode, prefill = figures.number(event.decode, 1), figures.number(event.prefill, 1)
        threads = figures.several(event.threads, "thread")
        return [f"{INDENT}{event.stage} on {threads}: decode {decode}, prefill {prefill} tokens/s"]

    def _candidate_scored(self, event: ev.CandidateScored) -> list[str]:
        if event.split != "test":
            return []
        figure = named(event.metric, figures.quality(event.metric, event.accuracy, event.low, event.high))
        return [f"{INDENT}{event.stage} with {event.candidate} ({event.calibration}): {figure}, n {event.n}"]

    def _prompts_compared(self, event: ev.PromptsCompared) -> list[str]:
        figure = named(event.metric, figures.difference(event.difference, event.low, event.high, event.metric))
        against = f"{event.a} against {event.b} ({event.stage}, {event.split}, {event.calibration})"
        p = figures.p_value(event.p_value)
        holm = "" if event.p_holm in (None, event.p_value) else f" ({figures.p_value(event.p_holm)} by Holm)"
        return [f"{INDENT}{against}: {figure}, p {p}{holm}, n {event.n}: {event.verdict}"]

    def _prompt_perturbed(self, event: ev.PromptPerturbed) -> list[str]:
        change = (event.change_low, event.change_high)
        figure = named(event.metric, figures.disturbed(event.accuracy, event.before, event.metric, *change))
        where = f"{event.stage} with {event.candidate}, {event.perturbation}"
        return [f"{INDENT}{where}: {figure}, n {event.n}, {event.changed} of them disturbed"]

    def _prompt_trained(self, event: ev.PromptTrained) -> list[str]:
        loss = "" if event.loss is None else f"loss {event.loss:.3g}, "
        checked = f"{event.metric} {figures.quality(event.metric, event.accuracy)}"
        figure = f"{loss}{checked}, skill {event.skill:.3f}, n {event.n}"
        best = ", the best so far" if event.best else ""
        took = figures.duration(event.seconds)
        return [f"{INDENT}trained {event.candidate} {event.epoch}/{event.epochs} epochs: {figure}{best}, {took}"]

    def _grid_scored(self, event: ev.GridScored) -> list[str]:
        figure = figures.accuracy(event.accuracy, event.low, event.high)
        chosen = ", chosen on development rows" if event.chosen else ""
        return [f"{INDENT}level {event.level}, {event.prompt}: {figure}, n {event.n}{chosen}"]

    def _recovered(self, event: ev.Recovered) -> list[str]:
        share, lost = figures.ratio(event.value, event.low, event.high), -event.gap
        gap = figures.difference(lost, -event.gap_high, -event.gap_low)
        where = f"level {event.level}, {event.prompt}" if event.level else f"{event.stage} with {event.prompt}"
        return [f"{INDENT}{where}: recovered {share} of {gap}"]

    def _transferred(self, event: ev.Transferred) -> list[str]:
        if event.trained_at == event.used_at:
            return []
        figure = figures.accuracy(event.accuracy, event.low, event.high)
        return [f"{INDENT}{event.prompt} of level {event.trained_at} at {event.used_at}: {figure}, n {event.n}"]

    def _artifact_written(self, event: ev.ArtifactWritten) -> list[str]:
        return [f"{INDENT}wrote {event.path} ({event.format}, {figures.size(event.bytes)})"]

    def _gate_checked(self, event: ev.GateChecked) -> list[str]:
        told = f"gate {gates.name(event)}: {gates.value(event)}, bound {gates.bound(event)}"
        mark = f"{'✓' if event.passed else '✗'} {gates.result(event)}"
        tested = f" (on the test rows {gates.test(event)})" if gates.test(event) else ""
        return [f"{INDENT if event.level else ''}{told}: {mark}{tested}"]

    def _log(self, event: ev.Log) -> list[str]:
        prefix = "" if event.level == "info" else f"{event.level}: "
        return [f"{prefix}{event.message}", *([f"hint: {event.hint}"] if event.hint else [])]

    def _run_finished(self, event: ev.RunFinished) -> list[str]:
        outcome = "✓ done" if event.exit_code == 0 else "▲ done, but a gate was missed,"
        return [f"{outcome} in {figures.duration(event.seconds)}"]

    def _run_failed(self, event: ev.RunFailed) -> list[str]:
        where = f"{event.where}: " if event.where else ""
        known = event.message.startswith("error: ")
        lines = [event.message] if known else [f"error: {where}{event.message}"]
        return lines + ([f"hint: {event.hint}"] if event.hint else [])

    def _run_cancelled(self, event: ev.RunCancelled) -> list[str]:
        return [f"■ cancelled after {figures.duration(event.seconds)}", f"hint: go on with: {self._resume}"]

    def _place(self, step: int) -> str:
        return f"[{step + 1}/{len(self._uses)}]"

    def _sometimes(self, label: str, event: Counted, text: str) -> list[str]:
        """A progress line at the start of a work, at its end, and between them one a tenth, seconds apart; none twice."""
        part = PARTS * event.done // max(1, event.total)
        told, said = self._told.get(label, (None, ""))
        due = part != told and event.time - self._spoke >= EVERY
        if said == text or not (told is None or due or event.done >= event.total):
            return []
        self._told[label], self._spoke = (part, text), event.time
        return [INDENT + text]


def named(metric: str, figure: str) -> str:
    """A figure behind its metric's name; an accuracy is taken as known."""
    return figure if metric == "accuracy" else f"{metric} {figure}"
