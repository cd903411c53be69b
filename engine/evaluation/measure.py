"""Measures a model as the `[evaluate]` section says and emits each figure; the dense model's figures are kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine import events as ev
from engine import files, runs, statistics
from engine.data.rows import Row
from engine.data.tasks import Task
from engine.data.text import fingerprint
from engine.estimate.machine import peak_memory
from engine.evaluation.options import EvaluateOptions
from engine.evaluation.perplexity import Perplexity, perplexity
from engine.evaluation.speed import speed
from engine.prompts import answers, calibration, context, pool
from engine.prompts.answers import Given
from engine.prompts.cache import ScoreCache
from engine.prompts.judging import ACCURACY, Standing
from engine.prompts.scorer import Scorer
from engine.subject import Subject
from engine.workspace import Workspace


def sparsity(subject: Subject) -> float:
    """The share of zeros in the blocks' matrices."""
    zeros = total = 0
    for index, block in enumerate(subject.blocks()):
        with subject.holding(index):
            matrices = [p for p in block.parameters() if p.ndim >= 2]
            zeros += sum(int((p == 0).sum()) for p in matrices)
            total += sum(p.numel() for p in matrices)
    return zeros / max(1, total)


def of_rows(rows: Sequence[Row]) -> str:
    """Equal for the same rows in the same order."""
    return fingerprint([row.digest for row in rows])


@dataclass
class Measurement:
    """One model at one stage."""

    workspace: Workspace
    subject: Subject
    options: EvaluateOptions
    stage: str

    def emit(
        self, name: str, value: float, unit: str = "", *, low: float | None = None, high: float | None = None,
        n: int | None = None, losses: Sequence[float] = (), right: Sequence[bool] = (), data: str = "",
    ) -> None:  # fmt: skip
        bounds = [bound if bound is not None and math.isfinite(bound) else None for bound in (low, high)]
        step, (low, high) = self.workspace.step, bounds
        marks = "".join("01"[hit] for hit in right)
        known = [round(loss, 6) for loss in losses] if all(map(math.isfinite, losses)) else []
        self.workspace.emit(
            ev.Metric(
                step=step, stage=self.stage, name=name, value=value, unit=unit, low=low, high=high, n=n, losses=known,
                right=marks, data=data,
            )
        )  # fmt: skip

    def tell_perplexity(self, found: Perplexity) -> None:
        bounds: dict[str, Any] = {"low": found.low, "high": found.high, "n": found.n}
        self.emit("perplexity", found.value, **bounds, losses=found.losses, data=found.data)

    def all(self) -> None:
        """Size, perplexity, tasks, speed, memory, in this order."""
        self.size()
        if self.subject.is_language_model:
            self.perplexity()
            for task in self.options.tasks:
                self.task(task)
            if self.options.speed:
                self.speed()
        elif self.subject.features is not None:
            self.features()
        self.memory()

    def size(self) -> None:
        """Parameters, the share of zeros in the blocks' matrices, the bytes of the weights as this run would store them."""
        self.emit("parameters", self.subject.parameters)
        self.emit("sparsity", sparsity(self.subject))
        self.emit("bytes", self.subject.bytes, "B")

    def perplexity(self) -> None:
        source, options = self.options.perplexity, self.options
        if source in (None, "none"):
            return
        token_ids = self.workspace.evaluation_tokens(str(source), self.subject)
        tell = partial(self._progress, f"perplexity, {self.stage}", unit="windows")
        spill = self.workspace.spill()
        found = perplexity(self.subject, token_ids, options.windows, options.length, options.start, tell, spill)
        self.tell_perplexity(found)

    def task(self, name: str) -> None:
        """Accuracy with the task's plain template on its test rows, length-normalized too where choices are texts that count as
        they are; and the task's own metric where that is another one."""
        task = self.workspace.task(name)
        rows = task.test[: self.options.rows]
        self.workspace.look(task)
        scorer = Scorer(self.subject, ScoreCache(), partial(self._progress, f"{name}, {self.stage}", unit="rows"))
        given = answers.asked(scorer, task, pool.plain(task), rows)
        context.tell(self.workspace, scorer)
        self.given(task, given, rows)

    def given(self, task: Task, given: Given, rows: Sequence[Row]) -> None:
        """The figures of what the rows were given under the plain template, choices or free answers."""
        if isinstance(given, torch.Tensor):
            self.choices(task, given, rows)
        else:
            self._judged(task.name, answers.judged(task.metric, given, None, rows), of_rows(rows))

    def choices(self, task: Task, scores: torch.Tensor, rows: Sequence[Row]) -> None:
        """The figures of what the choices count [rows, choices] under the plain template."""
        name, data = task.name, of_rows(rows)
        gold = torch.tensor([row.gold for row in rows])
        self.accuracy(f"{ACCURACY}:{name}", (scores.argmax(1) == gold).tolist(), data)
        if task.metric != ACCURACY:
            offsets = calibration.offsets("none", scores, None)
            self._judged(name, answers.judged(task.metric, scores, offsets, rows), data)
        if not task.labels and task.scores == "sum":
            normalized = scores / answers.lengths(rows, scores.shape[1])
            self.accuracy(f"accuracy_norm:{name}", (normalized.argmax(1) == gold).tolist(), data)

    def _judged(self, task: str, found: Standing, data: str) -> None:
        """A task's figure by its own metric."""
        low, high = found.measured.interval(self.workspace.profile.seed)
        about: dict[str, Any] = {"low": low, "high": high, "n": found.rows}
        if found.measured.binary:
            about |= {"right": found.measured.right.tolist(), "data": data}
        self.emit(f"{found.measured.metric}:{task}", found.quality, **about)

    def features(self) -> None:
        """Accuracy of a module on the features it came with: one logit (positive is class 1) or one a class."""
        assert self.subject.features is not None
        x = torch.from_numpy(self.subject.features.x).to(self.subject.device, self.subject.dtype)
        y = torch.from_numpy(self.subject.features.y).to(self.subject.device)
        with torch.inference_mode():
            out = self.subject.module(x)
        answers = (out[:, 0] > 0).long() if out.shape[1] == 1 else out.argmax(1)
        self.accuracy("accuracy:features", (answers == y).tolist(), self.subject.features.fingerprint)

    def speed(self) -> None:
        found = speed(self.subject)
        self.emit("prefill_tokens_per_second", found.prefill, "tokens/s")
        self.emit("decode_tokens_per_second", found.decode, "tokens/s")

    def memory(self) -> None:
        """Peak resident memory of the process so far, or of the GPU."""
        self.emit("peak_memory_bytes", peak_memory(self.subject.device), "B")

    def accuracy(self, name: str, right: Sequence[bool], data: str) -> None:
        """The share of right answers, with its interval; `data` says which rows these are."""
        hits, n = sum(right), len(right)
        low, high = statistics.wilson(hits, n)
        self.emit(name, hits / n, low=low, high=high, n=n, right=right, data=data)

    def _progress(self, label: str, done: int, total: int, unit: str) -> None:
        self.workspace.progress(label, done, total, unit)


def measure_dense(workspace: Workspace) -> None:
    """The dense model's figures, from the cache when the same were measured before on this machine."""
    options = workspace.profile.evaluate
    known = measured_before(workspace)
    if known is None:
        Measurement(workspace, workspace.subject, options, "dense").all()
        metrics = [dataclasses.asdict(m) for m in workspace.state.metrics["dense"].values()]
        file = _file(workspace)
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(file, json.dumps(metrics))
        return
    for metric in known:
        workspace.emit(ev.Metric(**{**metric, "step": workspace.step, "cached": True, "seq": 0, "time": 0.0}))


def measured_before(workspace: Workspace) -> list[dict[str, Any]] | None:
    """The dense model's figures from the cache, None where they have to be measured."""
    known: list[dict[str, Any]] | None = runs.read_json(_file(workspace))
    return known


def _file(workspace: Workspace) -> Path:
    return files.cache_folder() / "measurements" / f"{_key(workspace)}.json"


def _key(workspace: Workspace) -> str:
    """Everything that a dense figure depends on."""
    profile, options = workspace.profile, workspace.profile.evaluate
    tasks = [workspace.task(name) for name in options.tasks]
    data = [repr((t.fingerprint, t.scores, t.metric, t.chat, t.generation)) for t in tasks]
    if workspace.subject.is_language_model and options.perplexity not in (None, "none"):
        data.append(workspace.text(str(options.perplexity), "evaluation").fingerprint)
    if workspace.subject.features is not None:
        data.append(workspace.subject.features.fingerprint)
    kept = [field.name for field in dataclasses.fields(ev.Metric)]  # by this version
    parts = (workspace.subject.fingerprint, profile.model.device, profile.model.dtype, profile.threads, socket.gethostname(),
             options.model_dump_json(), data, torch.__version__, kept)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
