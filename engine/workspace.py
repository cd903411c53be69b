"""What steps pass on to each other, and the few services every step uses: progress, stopping, checkpoints."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from engine import events as ev
from engine import figures, files, runs
from engine.data import looks
from engine.data.tasks import Task, load_task
from engine.data.text import Purpose, Text, load_text, windows
from engine.errors import Cancelled, UsageError
from engine.model import load
from engine.profile import Profile
from engine.prompts.rendering import placed
from engine.state import RunState
from engine.subject import Subject

UNFINISHED = "unfinished-"
"""begins the names of checkpoints that go once their step is finished"""


@dataclass
class Workspace:
    """The run, its resolved profile and the model as it is now.

    `stage` names the state of the weights in figures (dense, pruned, pruned-2, ...); `step` is the index of the step at
    work, `part` the part of it whose files and prompts have names of their own. `state` is the fold of everything the run
    has said. `seat` is there in another process of a training: its rank, and the file by which they meet.

    `dense` is the dense model where it is in memory beside the other one, `dense_fingerprint` names it where it is
    not.
    """

    run: runs.Run
    profile: Profile
    subject: Subject
    emit: Callable[[ev.Event], None]
    should_stop: Callable[[], bool]
    state: RunState
    allow_code: bool = False
    stage: str = "dense"
    step: int = -1
    part: str = ""
    seat: tuple[int, Path] | None = None
    dense: Subject | None = None
    dense_fingerprint: str = ""
    _tasks: dict[str, Task] = field(default_factory=dict)
    _texts: dict[tuple[str, Purpose], Text] = field(default_factory=dict)
    _tokens: dict[str, torch.Tensor] = field(default_factory=dict)
    _calibration: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.dense_fingerprint = self.dense_fingerprint or self.subject.fingerprint

    def within(self, part: str) -> Workspace:
        """The same for a part of the step, or a part of that part; what it makes of its model is its own."""
        return replace(self, part=f"{self.part}.{part}" if self.part else part)

    def progress(self, label: str, done: int, total: int, unit: str) -> None:
        """Says how far the current long work is, and stops here when asked to."""
        self.emit(ev.Progress(step=self.step, label=label, done=done, total=total, unit=unit))
        self.check_stop()

    def check_stop(self) -> None:
        """Raises Cancelled when somebody asked the run to stop."""
        if self.should_stop():
            raise Cancelled("stopped on request", hint=self.run.resumed_by)

    def log(self, message: str, level: str = "info", hint: str = "") -> None:
        self.emit(ev.Log(message=message, level=level, hint=hint))

    def task(self, name: str) -> Task:
        """A task with its rows, loaded once."""
        if name not in self._tasks:
            task = load_task(name, self.profile.task.get(name), self.profile.seed)
            self._tasks[name] = replace(task, chat=placed(task, self.subject.tokenizer))
            for note in task.notes:
                self.log(note, "warning")
        return self._tasks[name]

    def look(self, task: Task) -> None:
        """Counts the run's look at the task's test split, its confirm rows included, once, and says so where another run has
        looked before.
        """
        if task.name in self.state.tested:
            return
        everything = [*task.test, *task.confirm]
        number, seen, rows = 0, 0, len(everything)
        try:
            number, seen = looks.look(
                everything, f"{self.run.name} {self.state.started}", task.name, self.subject.source
            )
        except (OSError, sqlite3.Error) as error:
            self.log(f"looks at test splits cannot be counted: {error}", "warning")
        self.emit(ev.SplitTested(step=self.step, task=task.name, rows=rows, look=number, seen=seen))
        if number > 1:
            self.log(figures.look(task.name, number, seen, rows), "warning")

    def text(self, source: str, purpose: Purpose) -> Text:
        """A text as it is, read once."""
        if (source, purpose) not in self._texts:
            self._texts[source, purpose] = load_text(source, purpose=purpose)
        return self._texts[source, purpose]

    def evaluation_tokens(self, source: str, subject: Subject) -> torch.Tensor:
        """A text's token ids; another model than the one under compression tokenizes for itself, its tokenizer is tried too."""
        if subject is not self.subject:
            return subject.token_ids(self.text(source, "evaluation").joined())
        if source not in self._tokens:
            self._tokens[source] = subject.token_ids(self.text(source, "evaluation").joined())
        return self._tokens[source]

    def checkpoint(self, name: str, step: int | None = None) -> Path:
        """A file of this step's part, or of another step, under checkpoints/."""
        part = f"{self.part}-" if self.part and step is None else ""
        return self.run.checkpoints / f"step-{self.step if step is None else step}-{part}{name}"

    def spill(self) -> Path | None:
        """The folder for data that waits on disk between blocks; None when it waits in memory."""
        return self.run.checkpoints if self.profile.calibration.states == "disk" else None

    def artifact(self, name: str) -> Path:
        """A folder under artifacts/ for this step: `name`, and from its second such step on with the step's number."""
        uses = [step.use for step in self.profile.step]
        first = uses.index(uses[self.step]) == self.step
        return self.run.artifacts / (name if first else f"{name}-{self.step}")

    def finished(self, step: int | None = None) -> dict[str, Any] | None:
        """What a step left when it finished, in an earlier process or before this step; the present step by default."""
        found: dict[str, Any] | None = runs.read_json(self.checkpoint("done.json", step))
        return found

    def finish(self, record: dict[str, Any]) -> None:
        files.write_text(self.checkpoint("done.json"), json.dumps(record))
        self.tidy()

    def tidy(self) -> None:
        """Removes what only an unfinished step needs to go on."""
        for file in self.run.checkpoints.glob(self.checkpoint(f"{UNFINISHED}*").name):
            file.unlink(missing_ok=True)

    def dense_subject(self) -> Subject:
        """The dense model once more, for comparisons with the one under compression."""
        return self.dense or load(self.profile.model, seed=self.profile.seed, allow_code=self.allow_code)

    def data_fingerprint(self) -> str:
        """A hash of the calibration data and the tasks, as far as they have been loaded."""
        digest = hashlib.blake2b(digest_size=16)
        if self._calibration is not None:
            digest.update(self._calibration.numpy().tobytes())
        for name in sorted(self._tasks):
            digest.update(self._tasks[name].fingerprint.encode())
        return digest.hexdigest()

    def calibration_inputs(self) -> torch.Tensor:
        """Token ids [samples, length], or the features [rows, columns] of other models; the same for every step."""
        if self._calibration is None:
            self._calibration = self._read_calibration()
        return self._calibration

    def _read_calibration(self) -> torch.Tensor:
        options, subject = self.profile.calibration, self.subject
        if not subject.is_language_model:
            if subject.features is None:
                raise UsageError("this model needs features to calibrate on", where="calibration.source")
            return torch.from_numpy(subject.features.x).to(subject.dtype)
        if options.source == "builtin":
            raise UsageError("a language model brings no data of its own", where="calibration.source",
                             hint='"demo", "stdlib", "self" or "file:..."')  # fmt: skip
        if options.source == "self":
            return self._own_samples()
        text = load_text(options.source, column=options.column, clean=options.clean, purpose="calibration")
        if text.counts is not None:
            self.log(f"calibration text cleaned: {text.counts}")
        return windows(subject.token_ids(text.joined()), options.samples, options.length, self.profile.seed)

    def _own_samples(self) -> torch.Tensor:
        """Text sampled from the dense model at temperature 1, kept for resume; [samples, length]."""
        from safetensors.torch import load_file, save_file

        file = self.run.checkpoints / "self-text.safetensors"
        if not file.is_file():
            options = self.profile.calibration
            subject = self.subject if self.stage == "dense" else self.dense_subject()
            tokens = sample(subject, options.samples, options.length, self.profile.seed, self.progress)
            files.write_with(file, lambda part: save_file({"tokens": tokens}, part))
        return load_file(file)["tokens"]


def sample(
    subject: Subject, count: int, length: int, seed: int, progress: Callable[[str, int, int, str], None]
) -> torch.Tensor:
    """Token ids [count, length] drawn from the model itself, 16 sequences at a time."""
    model: Any = subject.module
    torch.manual_seed(seed)
    start = getattr(model.config, "bos_token_id", None) or 0
    parts = []
    for begin in range(0, count, 16):
        progress("sampling calibration text", begin, count, "windows")
        first = torch.full((min(16, count - begin), 1), start, device=subject.device)
        out = model.generate(
            first, attention_mask=torch.ones_like(first), do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
            min_new_tokens=length, max_new_tokens=length, pad_token_id=start,
        )  # fmt: skip
        parts.append(out[:, 1 : length + 1].cpu())
    return torch.cat(parts)
