"""The model under compression tried on a few calibration windows: its divergence from the dense model, with the weights as
they are now. Hidden states before the first changed block are kept, so that a try computes only what changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.blockcall import BlockCall
from engine.calibration import Walk
from engine.evaluation.divergence import Reference, likely
from engine.subject import DTYPES, Subject
from engine.workspace import Workspace

ROWS = 512  # of the features of a model that is no language model


@dataclass
class Trial:
    """`entries[block][window]` are the hidden states that enter a block, as of the last call with keep."""

    walk: Walk
    parts: list[torch.Tensor]
    entries: list[list[torch.Tensor]]
    calls: list[list[BlockCall]]
    reference: Reference

    @classmethod
    def of(cls, workspace: Workspace, windows: int) -> Trial:
        """On the first `windows` calibration windows, against the model that the run began with."""
        trial = cls._over(workspace, workspace.subject, windows)
        teacher = trial if workspace.stage == "dense" else cls._over(workspace, workspace.dense_subject(), windows)
        with trial.walk.context():
            for window in range(len(trial.parts)):
                logits = teacher.logits(0, window, keep=True)
                if not trial.reference.answers:
                    trial.reference.likely = likely(len(logits) * len(trial.parts), logits.shape[-1])
                trial.reference.add(logits)
        if teacher is not trial:
            trial.divergence(keep=True)
        return trial

    @classmethod
    def _over(cls, workspace: Workspace, subject: Subject, windows: int) -> Trial:
        text = subject.is_language_model
        inputs = workspace.calibration_inputs()[: windows if text else ROWS]
        compute = DTYPES[workspace.profile.calibration.compute]
        walk = Walk(subject, inputs, 1 if text else len(inputs), compute)
        with walk.context():
            hidden, calls = walk.enter()
        entries = [list(hidden) for _ in range(walk.blocks())]
        return cls(walk, list(torch.split(walk.inputs, walk.chunk)), entries, calls, Reference())

    @property
    def windows(self) -> int:
        return len(self.parts)

    def divergence(self, first: int = 0, windows: int | None = None, *, keep: bool = False) -> float:
        """Mean KL per token on the first `windows`; what enters block `first` is as of the last call with keep."""
        chosen = range(windows or self.windows)
        with self.walk.context():
            found = [self.reference.divergence(i, self.logits(first, i, keep)) for i in chosen]
        return sum(found) / len(found)

    def logits(self, first: int, window: int, keep: bool) -> torch.Tensor:
        """[T, V] of a window, computed from block `first` on; inside the walk's context."""
        hidden = self.entries[first][window]
        for block in range(first, self.walk.blocks()):
            if keep:
                self.entries[block][window] = hidden
            hidden = self.calls[block][window](self.walk.block(block), hidden)
        out = self.walk.logits(self.parts[window], hidden)
        return out.reshape(-1, out.shape[-1])
