"""Finds the pluggable pieces by their file names, without importing them.

A family is a package in which every public module is one piece, named as its file; the first paragraph of the module's
docstring describes it. Listing reads file names only; a broken file breaks nobody else.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.errors import EngineError, UsageError, did_you_mean


@dataclass(frozen=True)
class Family:
    """One kind of piece: `kind` in words, `package` where each module is a piece."""

    kind: str
    package: str

    def _files(self) -> dict[str, Path]:
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        files = [file for folder in folders or [] for file in Path(folder).glob("*.py")]
        return {file.stem: file for file in sorted(files) if not file.stem.startswith("_")}

    def names(self) -> list[str]:
        """Every piece of the family, sorted; imports nothing."""
        return list(self._files())

    def summary(self, name: str) -> str:
        """First paragraph of the docstring of the piece's file, read once and without importing it."""
        return _summary(self._files()[name])

    def check(self, name: str) -> str:
        """`name` itself, or a UsageError that names the near ones."""
        if name not in self._files():
            raise UsageError(f"unknown {self.kind} {name!r}", hint=did_you_mean(name, self.names()))
        return name

    def load(self, name: str) -> ModuleType:
        """Imports the piece. Raises UsageError for an unknown name, EngineError for a file that does not import."""
        try:
            return importlib.import_module(f"{self.package}.{self.check(name)}")
        except (ImportError, SyntaxError) as error:
            raise EngineError(f"{self.kind} {name!r} does not import: {error}", where=self.package) from error


@functools.cache
def _summary(file: Path) -> str:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        return f"(broken: {error.msg}, line {error.lineno})"
    return first_paragraph(ast.get_docstring(tree))


def first_paragraph(docstring: str | None) -> str:
    """What a docstring says first, on one line."""
    return " ".join(re.split(r"\n\s*\n", (docstring or "").strip())[0].split())


CRITERIA = Family("criterion", "engine.pruning.criteria")
ALLOCATIONS = Family("allocation", "engine.pruning.allocations")
OPTIMIZERS = Family("prompt optimizer", "engine.prompts.optimizers")
ADJUSTERS = Family("prompt adjuster", "engine.prompts.adjusters")
PERTURBATIONS = Family("perturbation", "engine.prompts.perturbations")
METRICS = Family("metric", "engine.prompts.metrics")
FORMATS = Family("export format", "engine.export.formats")
STRUCTURES = Family("structured pattern", "engine.pruning.structures")
SCORES = Family("score of parts", "engine.pruning.scores")
METHODS = Family("quantization method", "engine.quantization.methods")
TASKS = Family("task", "engine.tasks")


@functools.cache
def metric(name: str) -> ModuleType | None:
    """The metric; None where another version's run names one that is not here."""
    return METRICS.load(name) if name in METRICS.names() else None


FAMILIES = {
    "criteria": CRITERIA,
    "allocations": ALLOCATIONS,
    "structures": STRUCTURES,
    "scores": SCORES,
    "methods": METHODS,
    "optimizers": OPTIMIZERS,
    "adjusters": ADJUSTERS,
    "perturbations": PERTURBATIONS,
    "metrics": METRICS,
    "formats": FORMATS,
    "tasks": TASKS,
}


@dataclass(frozen=True)
class StepEntry:
    """Where a step lives: its options model (no torch) and the module with its `run(workspace, options)`.

    `stage` names the model after a step that changes its weights (it is measured then); such a module also has
    `restore(workspace, options)`, which puts the weights of a finished step back.
    """

    options: str
    module: str
    stage: str | None = None

    def options_model(self) -> Any:
        return resolved(self.options)

    def summary(self) -> str:
        """What the step does, as its options' docstring begins."""
        return first_paragraph(self.options_model().__doc__)

    def run(self) -> Any:
        return importlib.import_module(self.module).run

    def restore(self) -> Any:
        return importlib.import_module(self.module).restore


BUILTIN = {"linear": "engine.builtin:linear"}
"""small models that bring their own data: name -> who makes one of a seed, with its features"""


def check_builtin(name: str) -> None:
    """Raises UsageError for what is no built-in model."""
    if name not in BUILTIN:
        raise UsageError(f"unknown built-in model {name!r}", hint=did_you_mean(name, BUILTIN))


def resolved(reference: str) -> Any:
    """What a "package.module:name" stands for, imported."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


STEPS = {
    "sensitivity": StepEntry("engine.sensitivity.options:SensitivityOptions", "engine.sensitivity.step"),
    "prune": StepEntry("engine.pruning.options:PruneOptions", "engine.pruning.step", stage="pruned"),
    "recover": StepEntry("engine.training.options:RecoverOptions", "engine.training.recover", stage="recovered"),
    "sparse_train": StepEntry("engine.training.options:SparseTrainOptions", "engine.training.sparse", stage="sparse"),
    "distill": StepEntry("engine.training.options:DistillOptions", "engine.training.distill", stage="distilled"),
    "finetune": StepEntry("engine.training.options:FinetuneOptions", "engine.training.finetune", stage="finetuned"),
    "quantize": StepEntry("engine.quantization.options:QuantizeOptions", "engine.quantization.step", stage="quantized"),
    "select_prompt": StepEntry("engine.prompts.options:SelectPromptOptions", "engine.prompts.select"),
    "adjust_prompt": StepEntry("engine.prompts.options:AdjustPromptOptions", "engine.prompts.adjust"),
    "embed_prompt": StepEntry("engine.prompts.options:EmbedPromptOptions", "engine.prompts.embed"),
    "joint": StepEntry("engine.joint.options:JointOptions", "engine.joint.step", stage="joint"),
    "evaluate": StepEntry("engine.evaluation.options:EvaluateStepOptions", "engine.evaluation.step"),
    "export": StepEntry("engine.export.options:ExportOptions", "engine.export.step"),
}
