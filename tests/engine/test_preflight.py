"""What is refused before the first long work, and what later steps on another model are left to refuse for themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.prompting import toy
from fixtures.workspaces import workspace

from engine import foreseen
from engine.calibration import Walk
from engine.data.tasks import Generation
from engine.errors import UsageError
from engine.export.options import ExportOptions
from engine.joint import grid
from engine.joint.options import JointOptions
from engine.options import StepOptions
from engine.preflight import check_measured, check_pruning, check_virtual_tokens
from engine.prompts.options import EmbedPromptOptions
from engine.pruning import step, structured
from engine.pruning.options import PruneOptions
from engine.workspace import Workspace


def prune(**options: Any) -> PruneOptions:
    return PruneOptions(use="prune", **options)


def space_of(folder: Path, *steps: StepOptions) -> Workspace:
    """48 wide, 64 channels."""
    space = workspace(folder / "run", subject("llama", hidden_size=48))
    space.profile = space.profile.model_copy(update={"step": list(steps)})
    return space


CHANNELS = prune(pattern="channels", sparsity=0.25)  # 48 of 64 stay
THIRDS = prune(pattern="2:3")  # fits 48 columns and not 64


def test_a_step_after_a_structured_one_meets_another_model(tmp_path: Path) -> None:
    space = space_of(tmp_path, CHANNELS, THIRDS)
    check_pruning(foreseen.steps(space, Walk.over(space).matrices))
    structured.run(space, CHANNELS)
    step.check_options(Walk.over(space).matrices, THIRDS)


@pytest.mark.parametrize("steps", [(THIRDS, CHANNELS), (prune(), THIRDS)])
def test_a_step_before_it_is_refused_early(tmp_path: Path, steps: tuple[PruneOptions, ...]) -> None:
    space = space_of(tmp_path, *steps)
    with pytest.raises(UsageError, match="3 does not divide the width 64"):
        check_pruning(foreseen.steps(space, Walk.over(space).matrices))


def test_what_a_gate_and_a_walk_count_is_right_answers(tmp_path: Path) -> None:
    space, chrf = space_of(tmp_path), replace(toy(), metric="chrf", generation=Generation(4, ""))
    space._tasks["toy"] = chrf
    space.profile = space.profile.model_copy(
        update={
            "evaluate": space.profile.evaluate.model_copy(update={"tasks": ["toy"]}),
            "gate": space.profile.gate.model_copy(update={"accuracy_drop": 0.1}),
        }
    )
    with pytest.raises(UsageError, match="nothing is measured for the gate accuracy_drop"):
        check_measured(space)
    walk = JointOptions.model_validate({"use": "joint", "task": "toy", "levels": [0.5]})
    with pytest.raises(UsageError, match="chrf knows none"):
        grid.check(space, walk)
    space._tasks["toy"] = replace(chrf, metric="exact_match")
    check_measured(space)
    grid.check(space, walk)


EMBED = EmbedPromptOptions(use="embed_prompt", task="toy")
WALK = JointOptions.model_validate({"use": "joint", "task": "toy", "levels": [0.5], "embed": {}})


def export(name: str) -> ExportOptions:
    return ExportOptions(use="export", format=name)


@pytest.mark.parametrize("learning", [EMBED, WALK], ids=["embed_prompt", "joint"])
def test_virtual_tokens_need_an_export_with_room_for_them(learning: StepOptions, tmp_path: Path) -> None:
    space = space_of(tmp_path, prune(), learning, export("gguf_f16"))
    with pytest.raises(UsageError, match="gguf_f16 has no room for the virtual tokens that step 2 may choose") as error:
        check_virtual_tokens(space)
    assert error.value.where == "step.2.format"
    assert error.value.hint
    space = space_of(tmp_path, learning, export("sparse"), export("gguf_f16"))
    check_virtual_tokens(space)
    [log] = space.state.log
    assert log.level == "warning"
    assert "gguf_f16" in log.message


@pytest.mark.parametrize(
    "steps", [(export("gguf_f16"), EMBED), (EMBED, export("safetensors")), (prune(), export("gguf_f16"))]
)
def test_exports_that_meet_no_virtual_tokens_are_left_alone(steps: tuple[StepOptions, ...], tmp_path: Path) -> None:
    space = space_of(tmp_path, *steps)
    check_virtual_tokens(space)
    assert not space.state.log
