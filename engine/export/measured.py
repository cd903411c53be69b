"""An artifact's figures from a fresh process with its own runtime: speed, load time and memory always, and what the model
answers where no torch model can be read back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from engine import events as ev
from engine import files
from engine.evaluation.divergence import Reference
from engine.evaluation.logits import window_logits
from engine.evaluation.measure import Measurement
from engine.evaluation.perplexity import chosen_windows, of_losses
from engine.evaluation.speed import DECODE, PREFILL, PROMPT, REPEATS, positions, vocabulary
from engine.export import questions
from engine.export.format import ExportFormat
from engine.export.options import ExportOptions
from engine.export.runtime.process import run
from engine.export.runtime.spec import Answer, Spec
from engine.workspace import Workspace

KEPT = 256  # tokens whose answers are held against those in memory


def measure(
    workspace: Workspace, form: ExportFormat, folder: Path, options: ExportOptions, dtype: str, stage: str
) -> dict[str, float]:
    """Emits the figures as this stage's; returns how far the answers are from those of the model in memory."""
    with files.scratch(workspace.run.path) as scratch:
        posed = questions.posed(workspace, options, form) if form.read is None else []
        scored = questions.sequences(workspace, posed)
        spec = asked(workspace, form, folder, options, dtype, scratch)
        continued = questions.as_continued(workspace.subject, posed, scored)
        answer = run(replace(spec, asked=questions.as_asked(scored), continued=continued))
        workspace.check_stop()
        tell(workspace, spec, answer, stage)
        questions.answered(workspace, posed, scored, answer, stage)
        if not spec.logits:
            return {}
        theirs_TV = torch.from_numpy(np.load(spec.logits))
        return fidelity(workspace, stage, torch.tensor(spec.windows[0][: len(theirs_TV)]), theirs_TV)


def asked(
    workspace: Workspace, form: ExportFormat, folder: Path, options: ExportOptions, dtype: str, scratch: Path
) -> Spec:
    """What the process is to do."""
    subject, evaluate = workspace.subject, workspace.profile.evaluate
    threads = workspace.profile.threads or torch.get_num_threads()
    about: dict[str, Any] = {
        "runtime": form.runtime,
        "form": options.format,
        "folder": str(folder),
        "threads": threads,
        "dtype": dtype,
    }
    about["device"] = str(subject.device)
    if not subject.is_language_model:
        assert subject.features is not None
        file = scratch / "features.safetensors"
        save_file({"x": torch.from_numpy(subject.features.x), "y": torch.from_numpy(subject.features.y)}, file)
        return Spec(**about, features=str(file))
    if evaluate.speed:
        room, words = positions(subject), vocabulary(subject)
        ids = [(100 + index) % words for index in range(min(PREFILL, room))]
        about |= {"prompt": ids[:PROMPT], "decode": min(DECODE, room - PROMPT), "prefill": ids, "repeats": REPEATS}
        about["counts"] = other_counts(threads) if subject.device.type == "cpu" else []
    if form.read is None and (found := windows(workspace)):
        about |= {
            "windows": [window.tolist() for window in found],
            "kept": KEPT,
            "logits": str(scratch / "logits.npy"),
        }
    return Spec(**about)


def windows(workspace: Workspace) -> Sequence[torch.Tensor]:
    """Of the evaluation text, in tokens of the workspace's model; none where no perplexity is asked for."""
    subject, evaluate = workspace.subject, workspace.profile.evaluate
    if not subject.is_language_model or evaluate.perplexity in (None, "none"):
        return []
    tokens = workspace.evaluation_tokens(str(evaluate.perplexity), subject)
    return chosen_windows(tokens, evaluate.windows, evaluate.length, evaluate.start)


def other_counts(threads: int) -> list[int]:
    """One, two, four, ... threads up to the cores that this process may use, and these, but not the run's own number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({*(2**power for power in range(cores.bit_length())), cores} - {threads})


def tell(workspace: Workspace, spec: Spec, answer: Answer, stage: str) -> None:
    """Emits what was measured."""
    measurement = Measurement(workspace, workspace.subject, workspace.profile.evaluate, stage)
    if answer.losses:
        measurement.tell_perplexity(of_losses(answer.losses, spec.windows))
    if answer.right is not None:
        assert workspace.subject.features is not None
        measurement.accuracy("accuracy:features", answer.right, workspace.subject.features.fingerprint)
    figures = {
        "prefill_tokens_per_second": (answer.prefill, "tokens/s"), "decode_tokens_per_second": (answer.decode, "tokens/s"),
        "first_token_seconds": (answer.first_token_seconds, "s"), "load_seconds": (answer.load_seconds, "s"),
        "peak_memory_bytes": (answer.memory, "B"),
    }  # fmt: skip
    for name, (value, unit) in figures.items():
        if value is not None:
            measurement.emit(name, value, unit)
    if answer.decode is not None and answer.prefill is not None:
        for threads, decode, prefill in [(spec.threads, answer.decode, answer.prefill), *answer.speeds]:
            about: dict[str, Any] = {"threads": threads, "decode": decode, "prefill": prefill}
            workspace.emit(ev.SpeedMeasured(step=workspace.step, stage=stage, **about))


def fidelity(workspace: Workspace, stage: str, window_T: torch.Tensor, theirs_TV: torch.Tensor) -> dict[str, float]:
    """KL divergence of the file's answers from those in memory, nats a token, and how often the likeliest token is the same."""
    window_T = window_T.to(workspace.subject.device)
    mine_TV = next(window_logits(workspace.subject, [window_T], workspace.spill())).float().cpu()
    reference = Reference()
    reference.add(mine_TV)
    same = float((mine_TV.argmax(1) == theirs_TV.argmax(1)).float().mean())
    return tell_fidelity(workspace, stage, reference.divergence(0, theirs_TV), same, len(window_T))


def tell_fidelity(workspace: Workspace, stage: str, divergence: float, agreement: float, n: int) -> dict[str, float]:
    """Emits and returns both, over so many tokens."""
    measurement = Measurement(workspace, workspace.subject, workspace.profile.evaluate, stage)
    measurement.emit("divergence", divergence, "nats", n=n)
    measurement.emit("agreement", agreement, n=n)
    return {"divergence": divergence, "agreement": agreement}
