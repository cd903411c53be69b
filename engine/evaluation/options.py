"""Options of the `[evaluate]` section and of the `evaluate` step."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from engine.options import Options, StepOptions


class EvaluateOptions(Options):
    """What is measured for the dense model and after every step that changes the weights."""

    perplexity: str | None = "demo"
    """text for perplexity: "demo", "stdlib", "file:PATH" or "hub:ORG/NAME", or "none\""""
    windows: int = Field(default=20, ge=1)
    """consecutive windows of that text to score"""
    length: int = Field(default=1024, ge=2)
    """tokens a window"""
    start: int = Field(default=0, ge=0)
    """first window"""
    tasks: list[str] = []
    """tasks whose accuracy is measured with their plain template"""
    rows: int | None = Field(default=None, ge=1)
    """test rows of each task; all by default"""
    speed: bool = True
    """measure prefill and decode tokens per second"""


class EvaluateStepOptions(StepOptions):
    """Measure the model as it is now; what the `[evaluate]` section says, or other text and tasks."""

    use: Literal["evaluate"]
    perplexity: str | None = None
    """another text than the [evaluate] section's"""
    tasks: list[str] | None = None
    """other tasks than the [evaluate] section's"""
    rows: int | None = Field(default=None, ge=1)
    """test rows of each task"""

    @property
    def changes(self) -> dict[str, Any]:
        """What is asked for otherwise than in the [evaluate] section."""
        own = {name: getattr(self, name) for name in ("perplexity", "tasks", "rows")}
        return {name: value for name, value in own.items() if value is not None}

    def over(self, section: EvaluateOptions) -> EvaluateOptions:
        """The section's options with this step's own in their place."""
        return section.model_copy(update=self.changes)
