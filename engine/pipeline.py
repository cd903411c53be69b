"""Runs a profile's steps in order on one model: resolve, load, measure, step by step with checkpoints, gates, report."""

from __future__ import annotations

import copy
import json
import platform
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version

import torch

from engine import events as ev
from engine import figures, files, fingerprint, foreseen, gates, model, outcome, preflight, report, runs, strictjson
from engine import profile as profiles
from engine.errors import DONE, GATE_MISSED, UsageError
from engine.estimate import check as estimate
from engine.estimate import machine
from engine.evaluation.measure import Measurement, measure_dense
from engine.fitting import fast_compute, fitting_chunk, states_place
from engine.matrices import Matrix
from engine.options import StepOptions
from engine.profile import Profile
from engine.registry import STEPS
from engine.state import RunState
from engine.subject import Subject
from engine.training.options import DistillOptions
from engine.workspace import Workspace


def run(
    run_: runs.Run,
    profile: Profile,
    emit: Callable[[ev.Event], None],
    should_stop: Callable[[], bool],
    *,
    allow_code: bool,
    worked: Callable[[], float],
) -> int:
    """Runs or resumes; returns the exit code (0, or 4 when a gate was missed). Errors are raised as EngineError.

    `worked` says how many seconds processes have been at work on it so far.
    """
    workspace = prepare(run_, profile, emit, should_stop, allow_code)
    dense_step(workspace)
    for index, options in enumerate(workspace.profile.step):
        workspace.step = index
        one_step(workspace, options)
    missed = check_gates(workspace)
    code = GATE_MISSED if missed or gates.unmet(workspace.state) else DONE
    memory = machine.peak_memory(workspace.subject.device)
    finished = ev.RunFinished(seconds=worked(), exit_code=code, memory=memory, disk=files.folder_bytes(run_.path))
    write_report(workspace, finished)  # before the event: who sees a finished run finds its report
    workspace.emit(finished)
    return code


def prepare(
    run_: runs.Run,
    profile: Profile,
    emit: Callable[[ev.Event], None],
    should_stop: Callable[[], bool],
    allow_code: bool,
) -> Workspace:
    """Loads the model and decides, once, everything that "auto" leaves open; the decisions go into the run's profile."""
    state = RunState.of(run_.events())

    def tell(event: ev.Event) -> None:
        emit(event)
        state.apply(event)

    workspace = opened(run_, profile, tell, should_stop, state, allow_code)
    files.write_text(run_.profile_file, profiles.dump(workspace.profile))
    files.write_text(run_.path / "environment.json", json.dumps(environment(workspace), indent=2) + "\n")
    matrices = announce(workspace)
    preflight.check(workspace, matrices)
    estimate.check(workspace, matrices)
    fingerprint.check(workspace)
    return workspace


def opened(
    run_: runs.Run,
    profile: Profile,
    tell: Callable[[ev.Event], None],
    should_stop: Callable[[], bool],
    state: RunState,
    allow_code: bool,
) -> Workspace:
    """The workspace of the run with its model loaded; nothing is written."""
    texts = [profile.calibration.source, str(profile.evaluate.perplexity)]
    texts += [str(getattr(step, key, None)) for step in profile.step for key in ("perplexity", "data")]
    texts += [str(s) for t in profile.task.values() for s in (t.train, t.dev, t.test, t.confirm)]
    models = [source for step in profile.step if isinstance(step, DistillOptions) for source in step.models]
    model.go_offline([profile.model.source, *models], texts)
    threads = profile.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(profile.seed)
    profile = profile.model_copy(update={"threads": threads, "model": model.resolve(profile.model)})
    estimate.check_source(profile.model)
    tell(ev.Log(message=f"loading {profile.model.source}"))
    subject = model.load(profile.model, seed=profile.seed, allow_code=allow_code)
    if subject.stream is not None:
        tell(ev.Log(message=f"its {figures.size(subject.bytes)} of weights are read block by block"))
    if not subject.is_language_model:
        calibration = profile.calibration
        subject = model.with_features(subject, calibration.source, calibration.label, calibration.normalize)
    return Workspace(run_, decide(profile, subject), subject, tell, should_stop, state, allow_code)


def decide(profile: Profile, subject: Subject) -> Profile:
    """The calibration pass's chunk, number format and place for what waits."""
    calibration = profile.calibration
    compute: str = calibration.compute
    if compute == "auto":
        compute = str(fast_compute(subject.device)).removeprefix("torch.")
    chunk = calibration.chunk
    if chunk is None and subject.is_language_model:
        chunk = fitting_chunk(subject, calibration.samples, calibration.length)
    states: str = calibration.states
    if states == "auto":
        language = subject.is_language_model
        states = states_place(subject, calibration.samples, calibration.length) if language else "memory"
    decided = {"compute": compute, "chunk": chunk, "states": states}
    return profile.model_copy(update={"calibration": calibration.model_copy(update=decided)})


def announce(workspace: Workspace) -> list[Matrix]:
    """ModelLoaded, with every matrix that can be pruned; returns these."""
    subject = workspace.subject
    matrices = foreseen.few(subject).matrices
    workspace.emit(
        ev.ModelLoaded(
            source=subject.source, device=str(subject.device), dtype=str(subject.dtype).removeprefix("torch."),
            architecture=type(subject.module).__name__, parameters=subject.parameters, bytes=subject.bytes,
            threads=torch.get_num_threads(), step=workspace.step,
            matrices=[described(m, workspace.step >= 0) for m in matrices],
        )
    )  # fmt: skip
    return matrices


def described(matrix: Matrix, after_a_step: bool) -> ev.MatrixInfo:
    """What ModelLoaded tells of a matrix."""
    about: ev.MatrixInfo = {
        "name": matrix.name,
        "block": matrix.block,
        "shape": list(matrix.shape),
        "parameters": matrix.weight.numel(),
    }
    zeros = int((matrix.weight == 0).sum()) if after_a_step else 0
    if zeros:
        about["sparsity"] = zeros / matrix.weight.numel()
    return about


def dense_step(workspace: Workspace) -> None:
    """Measures the dense model, as step -1."""
    step, done = workspace.state.steps[-1], workspace.finished()
    began = time.monotonic() - step.worked
    if done is not None and "dense" in workspace.state.metrics:
        workspace.emit(ev.StepFinished(step=-1, seconds=done.get("seconds", step.seconds or 0.0), resumed=True))
        return
    workspace.emit(ev.StepStarted(step=-1, use="measure", title="measure the dense model"))
    measure_dense(workspace)
    seconds = round(time.monotonic() - began, 3)
    workspace.finish({"seconds": seconds})
    workspace.emit(ev.StepFinished(step=-1, seconds=seconds))


def one_step(workspace: Workspace, options: StepOptions) -> None:
    """Runs a step, or takes over what an earlier process finished; weights that changed are measured."""
    done, entry, before = workspace.finished(), STEPS[options.use], id(workspace.subject)
    if done is not None:
        take_over(workspace, options)
        if id(workspace.subject) != before:
            announce(workspace)
        workspace.tidy()
        workspace.emit(
            ev.StepFinished(step=workspace.step, seconds=done["seconds"], summary=done["summary"], resumed=True)
        )
        return
    began = time.monotonic() - workspace.state.steps[workspace.step].worked
    workspace.check_stop()
    workspace.emit(ev.StepStarted(step=workspace.step, use=options.use, title=title(options)))
    summary = entry.run()(workspace, options)
    if id(workspace.subject) != before:
        announce(workspace)
    if entry.stage:
        workspace.stage = next_stage(workspace, entry.stage)
        Measurement(workspace, workspace.subject, workspace.profile.evaluate, workspace.stage).all()
    seconds = round(time.monotonic() - began, 3)
    workspace.finish({"summary": summary, "stage": workspace.stage, "seconds": seconds})
    workspace.emit(ev.StepFinished(step=workspace.step, seconds=seconds, summary=summary))


def take_over(workspace: Workspace, options: StepOptions) -> None:
    """Puts back what a step that is finished has made of the model."""
    if STEPS[options.use].stage:
        STEPS[options.use].restore()(workspace, options)
    workspace.stage = (workspace.finished() or {"stage": workspace.stage})["stage"]


def title(options: StepOptions) -> str:
    """The step in a few words, from the options that differ from the defaults."""
    chosen = options.model_dump(exclude_defaults=True, exclude={"use"})
    return ", ".join(
        f"{k} {v}" for k, v in chosen.items() if isinstance(v, str | int | float) and not isinstance(v, bool)
    )


def next_stage(workspace: Workspace, stage: str) -> str:
    """pruned, pruned-2, ..."""
    number = sum(STEPS[s.use].stage == stage for s in workspace.profile.step[: workspace.step + 1])
    return stage if number == 1 else f"{stage}-{number}"


def check_gates(workspace: Workspace) -> list[str]:
    """Emits every bound of the profile's gate; returns the names of those missed."""
    gate, dense = workspace.profile.gate, workspace.state.metrics["dense"]
    last = {key: metric for key in dense if (metric := last_measured(workspace, key))}
    values: dict[str, float] = {}
    for name, key in (("perplexity_ratio", "perplexity"), ("size_ratio", "bytes")):
        if key in last:
            values[name] = last[key].value / dense[key].value
    drops = [dense[key].value - metric.value for key, metric in last.items() if figures.share_right(key)]
    if drops:
        values["accuracy_drop"] = max(drops)
    missed = []
    for name in type(gate).model_fields:
        bound = getattr(gate, name)
        if bound is None:
            continue
        if name not in values:
            raise UsageError(f"nothing was measured for the gate {name}", where=f"gate.{name}", hint="see [evaluate]")
        passed = values[name] <= bound
        workspace.emit(ev.GateChecked(name=name, bound=bound, value=values[name], passed=passed))
        missed += [] if passed else [name]
    return missed


def last_measured(workspace: Workspace, key: str) -> ev.Metric | None:
    """A figure of the last file, or of the model in memory where no file's is of as many rows as the dense model's."""
    metrics = workspace.state.metrics
    for stage in [*(stage for stage in reversed(metrics) if outcome.of_file(stage)), workspace.stage]:
        found = metrics.get(stage, {}).get(key)
        if found is not None and found.n == metrics["dense"][key].n:
            return found
    return None


def environment(workspace: Workspace) -> dict[str, object]:
    """What the figures of this run depend on besides the profile."""
    device = workspace.subject.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(), "system": platform.platform(), "device": str(device), "device_name": name,
        "threads": torch.get_num_threads(), "seed": workspace.profile.seed,
        "packages": versions(),
    }  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """Of the packages that figures depend on."""
    return {name: version(name) for name in ("torch", "transformers", "safetensors", "scipy", "compress-tui")}


def write_report(workspace: Workspace, finished: ev.RunFinished) -> None:
    """report.md and result.json of the run as it will be once `finished` is written."""
    about = environment(workspace)
    state = copy.deepcopy(workspace.state).apply(finished)
    files.write_text(workspace.run.path / "report.md", report.markdown(state, about))
    result = strictjson.dumps(report.result(state, about), indent=2)
    files.write_text(workspace.run.path / "result.json", result + "\n")
