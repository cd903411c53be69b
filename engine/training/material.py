"""What is trained on and what is held out: windows of a text, rows of a task with their right answers, or features.

Items are inputs with a target for each place that is predicted: for a language model token ids [T] and the next tokens [T],
IGNORED where nothing is asked; for other modules features and a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from engine.data.features import Features
from engine.errors import Unavailable, UsageError
from engine.prompts import pool
from engine.prompts.scorer import Scorer
from engine.training.options import TASK, TrainingOptions
from engine.workspace import Workspace

IGNORED = -100


@dataclass(frozen=True)
class Material:
    """Items, and the indices of those that are trained on and of those that only judge; `unit` is what throughput counts."""

    inputs: Sequence[torch.Tensor]
    targets: Sequence[torch.Tensor]
    train: Sequence[int]
    held: Sequence[int]
    unit: str

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of some items, one below the other; shorter texts are filled up behind their end."""
        inputs, targets = [self.inputs[i] for i in indices], [self.targets[i] for i in indices]
        if inputs[0].is_floating_point():
            return torch.stack(inputs), torch.stack(targets)
        return pad_sequence(inputs, batch_first=True), pad_sequence(targets, batch_first=True, padding_value=IGNORED)

    def predicted(self, indices: Sequence[int]) -> int:
        """How many places of these items are predicted."""
        return sum(int((self.targets[i] != IGNORED).sum()) for i in indices)

    def size(self, indices: Sequence[int]) -> int:
        """How much these items are, in `unit`."""
        return len(indices) if self.unit == "rows" else sum(len(self.inputs[i]) for i in indices)


def material(workspace: Workspace, options: TrainingOptions) -> Material:
    """The data of a step. Raises UsageError or Unavailable when the model cannot be trained on it or there is too little."""
    if not workspace.subject.is_language_model:
        return of_features(workspace, options)
    if options.data.startswith(TASK):
        return of_task(workspace, options)
    if options.data == "calibration":
        return of_windows(workspace.calibration_inputs(), options)
    tokens = workspace.subject.token_ids(workspace.text(options.data, "calibration").joined())
    count = len(tokens) // options.length
    return of_windows(tokens[: count * options.length].view(count, options.length), options)


def of_windows(ids_NT: torch.Tensor, options: TrainingOptions) -> Material:
    """Windows of token ids; the last of them are held out."""
    items = list(ids_NT)
    train, held = divided(list(range(len(items))), options)
    return Material([ids[:-1] for ids in items], [ids[1:] for ids in items], train, held, "tokens")


def of_task(workspace: Workspace, options: TrainingOptions) -> Material:
    """Training rows of a task, each with its right answer behind the template's text; development rows are held out."""
    task = workspace.task(options.data.removeprefix(TASK))
    rows = [*task.train, *task.dev[: options.held_out]]
    width = max(len(row.choices) for row in rows)
    answers: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for sequence in Scorer(workspace.subject).fitting(pool.plain(task), rows, width):
        for slot, tokens in sequence.targets:
            row, choice = divmod(slot, width)
            if choice == rows[row].gold:
                context = sequence.tokens[: len(sequence.tokens) - len(tokens) + 1]
                answers.setdefault(row, (context, tokens))  # of several words the first, which is the one that is shown
    inputs, targets = [], []
    for row in range(len(rows)):
        context, tokens = answers[row]
        inputs.append(torch.tensor([*context, *tokens[:-1]]))
        targets.append(torch.tensor([IGNORED] * (len(context) - 1) + list(tokens)))
    train = list(range(len(task.train)))
    return Material(inputs, targets, train, list(range(len(train), len(rows))), "rows")


def of_features(workspace: Workspace, options: TrainingOptions) -> Material:
    """The features that the module came with; some rows, by the seed, are held out."""
    features = check_features(workspace, options)
    generator = torch.Generator().manual_seed(workspace.profile.seed)
    order = torch.randperm(len(features.x), generator=generator).tolist()
    train, held = divided(order, options)
    return Material(list(torch.from_numpy(features.x)), list(torch.from_numpy(features.y)), train, held, "rows")


def check_features(workspace: Workspace, options: TrainingOptions) -> Features:
    """The features that a module is trained on. Raises UsageError when there are none, or other data are asked for."""
    features = workspace.subject.features
    if features is None:
        raise UsageError("this model needs features to train on", where="calibration.source")
    if options.data != "calibration":
        message = f"{options.data!r} is for language models; this one is trained on its features"
        raise UsageError(message, where=f"step.{workspace.step}.data", hint='data = "calibration"')
    return features


def divided(order: Sequence[int], options: TrainingOptions) -> tuple[Sequence[int], Sequence[int]]:
    """Those to train on, and the last ones held out: as many as asked for, a quarter of all at most."""
    if len(order) < 2:
        hint = "a longer text, or a smaller length"
        raise Unavailable(f"{len(order)} windows or rows are too few to train on and hold one out", hint=hint)
    held = max(1, min(options.held_out, len(order) // 4))
    return order[:-held], order[-held:]
