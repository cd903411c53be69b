"""Adds up what a run needs, says it, and refuses a run that cannot fit on this machine; nothing is written before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine import caching, figures, files, gguf_folder, inspection, memory
from engine import events as ev
from engine.errors import EngineError, UsageError
from engine.estimate import machine, parts, steps
from engine.estimate.needs import Needs
from engine.estimate.scene import Scene
from engine.estimate.sizes import Sizes
from engine.evaluation.measure import measured_before
from engine.matrices import Matrix
from engine.profile import ModelOptions
from engine.registry import STEPS
from engine.subject import DTYPES
from engine.training.options import TrainingOptions
from engine.workspace import Workspace

NEARLY = 0.8  # of what is there: a warning
SLOW = 2  # times slower than float32: a warning
NOTES = 64_000  # bytes of profile, report and the events that every run has
EVENTS = 900  # bytes of events and results for each matrix
HINTS = {
    "measure": "lower evaluate.length",
    "sensitivity": "lower step.{index}.windows, calibration.samples or calibration.length",
    "prune": "set calibration.chunk = 1, or lower calibration.samples or calibration.length",
    "quantize": "set calibration.chunk = 1, or lower calibration.samples or calibration.length",
    "recover": "lower step.{index}.batch, calibration.samples or calibration.length",
    "distill": "lower step.{index}.micro_batch, or step.{index}.gradient_checkpointing = true",
    "sparse_train": "lower step.{index}.micro_batch, or step.{index}.gradient_checkpointing = true",
    "finetune": "lower step.{index}.micro_batch, or step.{index}.gradient_checkpointing = true",
    "select_prompt": "set step.{index}.control = false, or use fewer demonstrations",
    "adjust_prompt": "set step.{index}.control = false, or use fewer demonstrations",
    "embed_prompt": "lower step.{index}.batch, or use fewer demonstrations",
    "joint": "set calibration.chunk = 1, lower step.{index}.embed.batch, or use fewer demonstrations",
    "evaluate": "lower evaluate.length, or step.{index}.rows",
    "export": "set step.{index}.verify = false",
}


@dataclass(frozen=True)
class Piece:
    """One step of the run (-1 measures the dense model) and what it needs."""

    index: int
    use: str
    needs: Needs


def check_source(options: ModelOptions) -> None:
    """Before a model is loaded: raises UsageError when its weights alone do not fit, in memory or as a cached copy."""
    source = options.source
    if not (source == "demo" or source.endswith(".gguf") or Path(source).is_dir()):
        return
    try:
        summary = inspection.inspect(source)
    except EngineError:  # loading says more about it
        return
    size = summary.parameters * DTYPES[options.dtype].itemsize
    if summary.format == "gguf" and not gguf_folder.kept_in(Path(summary.path)).is_dir():
        cached = summary.parameters * 4
        free = machine.disk(files.cache_folder())[1]
        if cached > free:
            refuse("disk", cached, free, where=str(files.cache_folder()),
                   hint="COMPRESS_TUI_CACHE names the folder where the dequantized model is kept")  # fmt: skip
    available = memory.free_memory(torch.device(options.device))
    if size > available and options.memory != "stream":
        half = "" if options.dtype != "float32" else ', or model.dtype = "bfloat16"'
        hint = f'model.memory = "stream"{half}'
        refuse("memory", size, available, where="model.source", hint=hint)


def check(workspace: Workspace, matrices: Sequence[Matrix]) -> None:
    """Emits the estimates. Raises UsageError when memory or a disk is too small; warns when one nearly is."""
    found = pieces(workspace, Sizes.of(workspace.subject, matrices, workspace.profile.calibration))
    check_memory(workspace, found)
    check_disks(workspace, found, len(matrices))
    tell_time(workspace, found)


def pieces(workspace: Workspace, sizes: Sizes) -> list[Piece]:
    """The run's steps that are not finished yet, each with the measurement that follows it. What a streamed model holds is
    not in memory before a step works on it: it counts with the step.
    """
    evaluate, scene = workspace.profile.evaluate, Scene(workspace, sizes)
    unread = sizes.loaded if sizes.streamed else 0
    found = []
    if workspace.finished(-1) is None:
        known = measured_before(workspace) is not None
        needs = Needs(work=parts.READING) if known else steps.measure(scene, evaluate).beside(unread)
        found.append(Piece(-1, "measure", needs))
    for index, options in enumerate(workspace.profile.step):
        done = workspace.finished(index) is not None
        needs = Needs() if done else steps.of_step(scene, options).beside(unread)
        scene = steps.after_step(scene, options)
        if STEPS[options.use].stage and not done:
            needs = needs.then(steps.measure(scene, evaluate).beside(unread))
        found.append(Piece(index, options.use, needs))
    return found


def check_memory(workspace: Workspace, found: Sequence[Piece]) -> None:
    device = workspace.subject.device
    held = memory.held_memory(device)
    worst = max(found, key=lambda piece: piece.needs.memory, default=Piece(-1, "measure", Needs()))
    value, available = held + worst.needs.memory, held + memory.free_memory(device)
    hint = HINTS.get(worst.use, HINTS["prune"]).format(index=worst.index)
    where = "measuring" if worst.index < 0 else f"step.{worst.index} ({worst.use})"
    weigh(workspace, "memory", value, available, where, hint)


def check_disks(workspace: Workspace, found: Sequence[Piece], matrices: int) -> None:
    """The run's folder, with what is in it already; the cache, which may lie on the same disk."""
    folder, cache_folder = workspace.run.path, files.cache_folder()
    new = sum(max(0.0, piece.needs.disk - begun(workspace, piece)) for piece in found) + NOTES + EVENTS * matrices
    new += max((piece.needs.scratch for piece in found), default=0.0)
    there = files.folder_bytes(folder)
    cache = sum(piece.needs.cache for piece in found)
    (device, free), (cache_device, cache_free) = machine.disk(folder), machine.disk(cache_folder)
    shared = cache if device == cache_device else 0.0
    hint = "--run-dir or COMPRESS_TUI_RUNS names a folder on another disk"
    weigh(workspace, "disk", new + there, free + there - shared, str(folder), hint)
    if cache:
        keeping = [piece.index for piece in found if piece.needs.cache]
        steps = [caching.without(workspace.profile.step[index], f"step.{index}") for index in keeping]
        enough = all(steps)  # else a step is left that needs the room
        hint = caching.hint(itertools.chain.from_iterable(steps) if enough else ())
        weigh(workspace, "cache", cache, cache_free, str(cache_folder), hint)


def begun(workspace: Workspace, piece: Piece) -> float:
    """Bytes that an earlier process has written of a step and that stay; not of one that replaces what it has written."""
    if piece.needs.scratch:
        return 0.0
    return sum(map(files.folder_bytes, workspace.run.checkpoints.glob(f"step-{piece.index}-*")))


def tell_time(workspace: Workspace, found: Sequence[Piece]) -> None:
    """The time at this machine's rates; warns of number formats that it has to emulate for what is left to do."""
    used = {name for piece in found for name in piece.needs.work.products}
    rates = machine.rates(("float32", *used), workspace.subject.device)
    seconds = sum(piece.needs.work.seconds(rates) for piece in found)
    workspace.emit(ev.Estimated(name="time", value=seconds, unit="s"))
    for where, name in formats(workspace).items():
        times = rates.products["float32"] / rates.products[name] if name in used else 1
        if times > SLOW:
            message = f"{where}: this machine multiplies {name} {times:.0f} times more slowly than float32"
            workspace.log(message, "warning", f'{where} = "float32"')


def formats(workspace: Workspace) -> dict[str, str]:
    """{where the profile names a number format of products: the format}."""
    profile = workspace.profile
    named = {"model.dtype": str(workspace.subject.dtype).removeprefix("torch.")}
    if workspace.subject.is_language_model:
        named["calibration.compute"] = profile.calibration.compute
    for index, step in enumerate(profile.step):
        if isinstance(step, TrainingOptions) and step.compute != "auto" and workspace.finished(index) is None:
            named[f"step.{index}.compute"] = step.compute
    return named


def weigh(workspace: Workspace, name: str, value: float, available: float, where: str, hint: str) -> None:
    """Says what is needed and what there is; refuses more than there is, warns of nearly all of it."""
    available = max(0.0, available)
    workspace.emit(ev.Estimated(name=name, value=round(value), available=round(available), unit="B"))
    if value > available:
        refuse(name, value, available, where, hint)
    if value > NEARLY * available:
        message = f"{name}: about {figures.size(value)} needed, {figures.size(available)} there; if it fails, {hint}"
        workspace.log(message, "warning")


def refuse(name: str, value: float, available: float, where: str, hint: str) -> None:
    """Raises UsageError with both numbers."""
    what = {"memory": "memory", "disk": "room on disk", "cache": "room on disk for the cache"}[name]
    message = f"needs about {figures.size(value)} of {what}, and there are {figures.size(available)}"
    raise UsageError(message, where=where, hint=hint)
