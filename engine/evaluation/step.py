"""The `evaluate` step: measures the model as it is now, with the section's options or its own."""

from __future__ import annotations

from typing import Any

from engine.evaluation.measure import Measurement
from engine.evaluation.options import EvaluateStepOptions
from engine.workspace import Workspace


def run(workspace: Workspace, options: EvaluateStepOptions) -> dict[str, Any]:
    changes = {name: value for name in ("perplexity", "tasks", "rows") if (value := getattr(options, name)) is not None}
    merged = workspace.profile.evaluate.model_copy(update=changes)
    # other text or rows are another measurement: gates and verification go by the section's figures
    stage = f"{workspace.stage}, step {workspace.step}" if changes else workspace.stage
    Measurement(workspace, workspace.subject, merged, stage).all()
    return {"stage": stage, **changes}
