"""What a walk over levels of compression amounts to: the grid of levels and prompts, what was recovered, what transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.events.base import Event

PLAIN, TEXT, SOFT, LORA = "plain", "text", "soft", "lora"
CARRIED_TEXT, CARRIED_SOFT = "carried text", "carried soft"
PROMPTS = (PLAIN, CARRIED_TEXT, TEXT, CARRIED_SOFT, SOFT, LORA)
"""the kinds of prompts in a grid, in its order: a carried one was made for the level before and not changed; lora is low-rank
weights of a soft prompt's size behind the text"""


@dataclass(frozen=True, kw_only=True)
class GridScored(Event):
    """A kind of prompt (see PROMPTS) on the test split with the model of a level ("dense", or the sparsity as "50%").

    `chosen`: the best of the level's texts and soft prompts by development rows.
    """

    kind: ClassVar[str] = "grid_scored"
    step: int
    level: str
    sparsity: float
    prompt: str
    candidate: str
    calibration: str
    n: int
    accuracy: float
    low: float
    high: float
    margin: float
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Recovered(Event):
    """What share of the test accuracy that a level lost (`gap`, with the plain prompt) a kind of prompt wins back: `value` with
    a 95% paired bootstrap interval, None where the gap's own interval does not leave zero behind.

    `control` is what the same kind of prompt gains on the dense model, None where it was not tried there. Of a step that
    chooses a prompt `stage` names the model and `prompt` the one chosen; there is no `level` then.
    """

    kind: ClassVar[str] = "recovered"
    step: int
    level: str
    prompt: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    gap: float
    gap_low: float
    gap_high: float
    control: float | None = None
    control_low: float | None = None
    control_high: float | None = None
    stage: str = ""


@dataclass(frozen=True, kw_only=True)
class Transferred(Event):
    """A prompt ("text" or "soft") found at the level `trained_at`, on the test split with the model of `used_at`, unchanged."""

    kind: ClassVar[str] = "transferred"
    step: int
    prompt: str
    trained_at: str
    used_at: str
    n: int
    accuracy: float
    low: float
    high: float
