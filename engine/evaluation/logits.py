"""What a model answers to windows of token ids; of a streamed model all windows pass a block before the next is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from engine.calibration import Walk
from engine.subject import Subject


def window_logits(
    subject: Subject,
    windows: Sequence[torch.Tensor],
    spill: Path | None = None,
    passed: Callable[[], None] = lambda: None,
) -> Iterator[torch.Tensor]:
    """Logits [T, vocabulary] of each window [T], all of one length; each window on its own.

    The hidden states of a streamed model wait in memory between blocks, or in files of the folder `spill`; `passed` is called
    after each of its blocks.
    """
    if subject.stream is None:
        for window in windows:
            yield _logits(subject, window)
        return
    walk = Walk(subject, torch.stack(list(windows)), 1, torch.float32, spill=spill)
    with walk.context():
        hidden, calls = walk.enter()
        for block in range(walk.blocks()):
            hidden = walk.forward(block, calls[block], hidden, discard=True)
            passed()
    with subject.rest():
        for window, last in zip(windows, hidden, strict=True):
            with walk.context():  # not around the yield: whoever stops here would stay inside
                found = walk.logits(window[None], last)[0]
            yield found


@torch.inference_mode()
def _logits(subject: Subject, window: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = subject.module(window[None], use_cache=False).logits[0]
    return found
