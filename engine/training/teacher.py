"""Who is imitated: the dense model or another one, loaded beside the student or known by its kept answers alone.

What is kept of a language model's answer are the most likely tokens of every place, the rest as one (as in evaluation/
divergence.py), at the temperature they are needed at: one file an item in the user's cache. With all of them there the dense
model is not loaded as a teacher.

Shapes: P predictions, V vocabulary or classes, K most likely tokens.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from engine import figures, files
from engine.errors import EngineError, UsageError, naming
from engine.evaluation.divergence import Answer, kept
from engine.grams import trim
from engine.model import load
from engine.subject import Subject
from engine.training.learning import answers
from engine.training.losses import Predictions
from engine.training.material import Material
from engine.training.options import DistillOptions
from engine.weights import writing
from engine.workspace import Workspace

TEACHING = ("teacher", "student")


class Teacher(Protocol):
    """Gives its view of every place that is predicted in some items, of the first `vocabulary` tokens or classes."""

    @property
    def vocabulary(self) -> int: ...

    def view(self, items: Sequence[int]) -> Answer:
        """Log-probabilities at the distillation's temperature [P, V], or of the tokens `ids` [P, K]."""

    def hidden(self, items: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """The states behind every block, each [items, T, hidden]."""


@dataclass
class Loaded:
    """A teacher in memory; the states of the items last seen stay until others come."""

    subject: Subject
    material: Material
    compute: torch.dtype
    temperature: float
    vocabulary: int
    states: bool = False
    _last: Predictions | None = None

    def view(self, items: Sequence[int]) -> Answer:
        logits_PV = self._seen(items).logits_PV[:, : self.vocabulary].float()
        return Answer(torch.log_softmax(logits_PV / self.temperature, dim=-1))

    def hidden(self, items: Sequence[int]) -> tuple[torch.Tensor, ...]:
        return self._seen(items).hidden

    def _seen(self, items: Sequence[int]) -> Predictions:
        if self._last is None or list(self._last.items) != list(items):
            self._last = None
            with torch.no_grad():
                self._last = answers(self.subject, self.material, items, self.compute, self.states)
        return self._last


@dataclass(frozen=True)
class Kept:
    """Answers on disk."""

    folder: Path
    device: torch.device
    vocabulary: int

    def view(self, items: Sequence[int]) -> Answer:
        try:
            found = [load_file(self.file(item)) for item in items]
        except OSError as error:
            hint = "resuming the run collects them again"
            raise EngineError("the teacher's answers have left the cache", where=str(self.folder), hint=hint) from error
        return Answer(*(torch.cat([part[key] for part in found]).to(self.device) for key in ("log", "ids")))

    def hidden(self, items: Sequence[int]) -> tuple[torch.Tensor, ...]:
        raise EngineError("kept answers have no hidden states")

    def missing(self, items: Sequence[int]) -> list[int]:
        return [item for item in items if not self.file(item).is_file()]

    def add(self, item: int, answer: Answer) -> None:
        assert answer.ids_TK is not None
        stored = {"log": answer.log_TK.cpu().contiguous(), "ids": answer.ids_TK.cpu().contiguous()}
        with writing(self.file(item)):
            files.write_with(self.file(item), lambda part: save_file(stored, part))

    def file(self, item: int) -> Path:
        return self.folder / f"{item}.safetensors"


@contextmanager
def keeping(name: str, device: torch.device, vocabulary: int) -> Iterator[Kept]:
    """Answers of this name in the user's cache, for more to be added; then what nobody has used lately goes from there."""
    found = Kept(files.cache_folder() / "teachers" / name, device, vocabulary)
    found.folder.mkdir(parents=True, exist_ok=True)
    yield found
    os.utime(found.folder)
    trim(found.folder.parent)


@dataclass
class Lesson:
    """The teacher's model as the step needs it: loaded when it is first asked for, and again after it was let go."""

    workspace: Workspace
    options: DistillOptions
    _model: Subject | None = None

    def model(self) -> Subject:
        if self._model is None:
            self._model = subject_of(self.workspace, self.options)
        return self._model

    def let_go(self) -> None:
        self._model = None
        gc.collect()

    def known(self) -> Subject:
        """Somebody with its name, tokens and vocabulary: the dense model's are those of what was made of it."""
        made_of_it = self.workspace.subject.fingerprint == self.workspace.dense_fingerprint
        return self.workspace.subject if self.options.teacher == "dense" and made_of_it else self.model()


def teacher_of(lesson: Lesson, material: Material, items: Sequence[int], student: Subject,
               compute: torch.dtype) -> tuple[Teacher, dict[str, Any]]:  # fmt: skip
    """The step's teacher, ready for these items, and what the summary says of it."""
    workspace, options = lesson.workspace, lesson.options
    with naming(f"step.{workspace.step}.teacher", options.teacher):
        vocabulary, weights = check_fit(lesson.known(), student), lesson.known().fingerprint

    def loaded() -> Loaded:
        return Loaded(lesson.model(), material, compute, options.temperature, vocabulary, options.hidden > 0)

    if not (options.cache and student.is_language_model):
        return loaded(), {}
    name = key(weights, options, material, compute, vocabulary)
    with keeping(name, student.device, vocabulary) as found:
        told = collect(workspace, options, found, items, loaded)
        lesson.let_go()
    return found, told


def subject_of(workspace: Workspace, options: DistillOptions) -> Subject:
    """The teacher's model, loaded."""
    if options.teacher == "dense":
        return workspace.dense_subject()
    how = workspace.profile.model.model_copy(update={"source": options.teacher})
    return load(how, seed=workspace.profile.seed, allow_code=workspace.allow_code)


def collect(
    workspace: Workspace, options: DistillOptions, known: Kept, items: Sequence[int], loaded: Callable[[], Loaded]
) -> dict[str, Any]:
    """Asks the teacher about the items that are not on disk yet, and lets go of it; says what was kept and how long it took."""
    began, missing = time.perf_counter(), known.missing(items)
    if missing:
        asked = loaded()
        for done, item in enumerate(missing):
            workspace.progress("asking the teacher", done, len(missing), "items")
            known.add(item, kept(asked.view([item]).log_TK, min(options.top, asked.vocabulary)))
    size, seconds = sum(known.file(item).stat().st_size for item in items), round(time.perf_counter() - began, 3)
    told = (
        f"{len(items)} items, {figures.size(size)} on disk, {len(missing)} of them asked in {figures.duration(seconds)}"
    )
    workspace.log(f"the teacher's answers: {told}")
    return {"answers_bytes": size, "answers_seconds": seconds}


def key(name: str, options: DistillOptions, material: Material, compute: torch.dtype, vocabulary: int) -> str:
    """Of everything that kept answers depend on."""
    digest = hashlib.blake2b(digest_size=12)
    for tensor in material.inputs:
        digest.update(tensor.numpy().tobytes())
    digest.update(repr((name, options.temperature, options.top, compute, vocabulary, torch.__version__)).encode())
    return digest.hexdigest()


def check_fit(teacher: Subject, student: Subject) -> int:
    """How many tokens or classes both predict. Raises UsageError when the two do not speak of the same things."""
    check_kinds(teacher, student)
    if not teacher.is_language_model:
        return 2**62
    check_tokenizers(teacher.tokenizer, student.tokenizer)
    return min(outputs(teacher), outputs(student))


def check_kinds(one: Subject, other: Subject, names: tuple[str, str] = TEACHING) -> None:
    """Raises UsageError for a language model beside another module."""
    if one.is_language_model != other.is_language_model:
        kinds = ["a language model" if subject.is_language_model else "another module" for subject in (one, other)]
        raise UsageError(f"the {names[0]} is {kinds[0]} and the {names[1]} {kinds[1]}", where="step.teacher")


def check_tokenizers(one: Any, another: Any, names: tuple[str, str] = TEACHING) -> None:
    """Padding behind the vocabulary may differ, the tokens may not."""
    theirs, ours = one.get_vocab(), another.get_vocab()
    other = sorted((token for token in theirs.keys() | ours.keys() if theirs.get(token) != ours.get(token)), key=str)
    if other:
        told = f"{len(other)} tokens differ, {other[0]!r} among them"
        message = f"{names[0]} and {names[1]} have different tokenizers: {told}"
        hint = f"a {names[0]} of the same family, whose tokens have the same numbers"
        raise UsageError(message, where="step.teacher", hint=hint)


def outputs(subject: Subject) -> int:
    """How many tokens a language model predicts, padding included."""
    module: Any = subject.module
    return int(module.get_output_embeddings().weight.shape[0])
