"""The `evaluate` step: measures the model as it is now, with the section's options or its own."""

from __future__ import annotations

from typing import Any

from engine.evaluation.measure import Measurement
from engine.evaluation.options import EvaluateStepOptions
from engine.workspace import Workspace


def run(workspace: Workspace, options: EvaluateStepOptions) -> dict[str, Any]:
    # other text or rows are another measurement: gates and verification go by the section's figures
    stage = f"{workspace.stage}, step {workspace.step}" if options.changes else workspace.stage
    Measurement(workspace, workspace.subject, options.over(workspace.profile.evaluate), stage).all()
    return {"stage": stage, **options.changes}
