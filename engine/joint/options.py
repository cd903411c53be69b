"""Options of the `joint` step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from engine.options import Options, completed, table_of
from engine.prompts.options import (
    AdjustPromptOptions,
    EmbedPromptOptions,
    JudgedOptions,
    PromptStepOptions,
    SelectPromptOptions,
)
from engine.pruning.options import PruneOptions

if TYPE_CHECKING:
    from engine.options import Options as AdjustTable
    from engine.options import Options as EmbedTable
    from engine.options import Options as PruneTable
    from engine.options import Options as SelectTable
else:
    JUDGED = ("calibration", "dev_rows", "test_rows", "control", "robustness", "robustness_rows")
    STARTED = ("instruction", "demonstrations")
    PruneTable = table_of(PruneOptions, ("sparsity", "threshold"), use="prune")
    SelectTable = table_of(SelectPromptOptions, JUDGED, use="select_prompt", task="")
    AdjustTable = table_of(AdjustPromptOptions, JUDGED + STARTED, use="adjust_prompt", task="")
    EmbedTable = table_of(EmbedPromptOptions, (*JUDGED, *STARTED, "budget"), use="embed_prompt", task="")


class JointGate(Options):
    """What a level must reach on development rows with its best prompt; the walk ends at the first that does not, and a run
    whose first level does not has exit code 4.
    """

    recovered: float | None = None
    """least share of the accuracy that pruning cost which the prompt must win back; where that cost's 95% interval reaches zero
    the share is undefined, and a level misses only by a drop against the dense model whose paired 95% interval is above zero"""
    accuracy_drop: float | None = None
    """largest loss of accuracy against the dense model with the plain prompt, as a share of 1"""


class JointOptions(JudgedOptions):
    """Prune to rising levels, find each level's prompts, and end with the highest level that is still good enough."""

    use: Literal["joint"]
    levels: list[float] = [0.3, 0.5, 0.6]
    """rising sparsities; every level is pruned from the model as the step finds it"""
    lora: bool = False
    """train low-rank weights with as many numbers as the soft prompt has, for comparison; they are taken out again"""
    lora_learning_rate: float = Field(default=3e-3, gt=0.0)
    """AdamW's largest step for them; the rest of their training is as the soft prompt's"""
    prune: PruneTable = PruneTable()
    """how the model is pruned: the options of `prune`"""
    select: SelectTable = SelectTable()
    """the pool of text prompts: the options of `select_prompt`"""
    adjust: AdjustTable | None = None
    """change the selected text further: the options of `adjust_prompt`"""
    embed: EmbedTable | None = None
    """train virtual tokens ahead of the best text: the options of `embed_prompt`"""
    gate: JointGate = JointGate()
    """when the walk ends early"""

    @model_validator(mode="after")
    def _walkable(self) -> Self:
        if not self.levels or self.levels[0] <= 0 or self.levels[-1] >= 1 or sorted(set(self.levels)) != self.levels:
            raise ValueError("levels must be rising sparsities above 0 and below 1, as in [0.3, 0.5]")
        if self.lora and self.embed is None:
            raise ValueError("lora needs an embed table: its size and its training are the soft prompt's")
        assert self.prunings  # made once: a pattern may allow one sparsity only
        return self

    @property
    def prunings(self) -> list[PruneOptions]:
        """What every level is, as a step of its own."""
        return [self.pruning(level) for level in self.levels]

    @property
    def prompt_steps(self) -> list[PromptStepOptions]:
        """What finds a level's prompts, as steps of their own."""
        found = (self.selecting(), self.adjusting(), self.embedding())
        return [step for step in found if step is not None]

    def pruning(self, level: float) -> PruneOptions:
        return completed(PruneOptions, self.prune, use="prune", sparsity=level)

    def selecting(self) -> SelectPromptOptions:
        return completed(SelectPromptOptions, self.select, use="select_prompt", **self._judged())

    def adjusting(self) -> AdjustPromptOptions | None:
        if self.adjust is None:
            return None
        return completed(AdjustPromptOptions, self.adjust, use="adjust_prompt", **self._judged())

    def embedding(self) -> EmbedPromptOptions | None:
        if self.embed is None:
            return None
        return completed(EmbedPromptOptions, self.embed, use="embed_prompt", **self._judged())

    def _judged(self) -> dict[str, object]:
        """What all the steps that it is made of share."""
        return self.model_dump(include={"task", "calibration", "dev_rows", "test_rows"})
