"""The shapes that steps leave are known before the first of them, and what cannot be made of these is refused there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.workspaces import workspace

from engine import foreseen
from engine.calibration import Walk
from engine.errors import UsageError
from engine.export.options import ExportOptions
from engine.options import StepOptions
from engine.preflight import check_exports, check_quantizing
from engine.pruning import structured
from engine.pruning.configs import shapes_of
from engine.pruning.options import PruneOptions
from engine.quantization.options import QuantizeOptions
from engine.subject import Subject
from engine.training.options import RecoverOptions
from engine.workspace import Workspace

RECOVER = RecoverOptions(use="recover", epochs=1)
QUANTIZE = QuantizeOptions(use="quantize")
Q4_1 = ExportOptions(use="export", format="gguf_q4_1")


def prune(pattern: str, sparsity: float = 0.2, **options: Any) -> PruneOptions:
    return PruneOptions(use="prune", pattern=pattern, sparsity=sparsity, **options)


def llama(**changes: Any) -> Subject:
    return subject("llama", **{"hidden_size": 64, "intermediate_size": 96, **changes})


def space_of(folder: Path, mine: Subject, *steps: StepOptions) -> Workspace:
    space = workspace(folder / "run", mine)
    space.profile = space.profile.model_copy(update={"step": list(steps)})
    return space


def check(folder: Path, mine: Subject, *steps: StepOptions) -> None:
    space = space_of(folder, mine, *steps)
    found = foreseen.steps(space, Walk.over(space).matrices)
    check_quantizing(found)
    check_exports(found)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("llama", prune("channels", 0.3)), ("gpt2", prune("channels", 0.3, multiple=12)), ("qwen2", prune("hidden", 0.3)),
        ("llama", prune("heads", 0.5)), ("gpt2", prune("blocks", 0.5)), ("mixtral", prune("experts", 0.34)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.pattern,
)  # fmt: skip
def test_what_is_foreseen_is_what_is_left(name: str, how: PruneOptions, tmp_path: Path) -> None:
    space = space_of(tmp_path, subject(name), how, RECOVER, QUANTIZE)
    before = shapes_of(space.subject.module)
    *_, last = foreseen.steps(space, Walk.over(space).matrices)
    met = last.met
    assert met is not None
    structured.run(space, how)
    assert shapes_of(met.subject.module) == shapes_of(space.subject.module) != before
    assert met.subject.bytes == space.subject.bytes
    named = [(m.name, m.block, m.shape) for m in met.matrices]
    assert named == [(m.name, m.block, m.shape) for m in Walk.over(space).matrices]


@pytest.mark.parametrize("pattern", ["channels", "hidden"])
@pytest.mark.parametrize("last", [[RECOVER, QUANTIZE], [Q4_1]], ids=["quantize", "gguf_q4_1"])
def test_a_width_that_pruning_leaves_is_refused_with_the_multiple_that_fits(
    pattern: str, last: list[StepOptions], tmp_path: Path
) -> None:
    mine = llama(hidden_size=96 if pattern == "hidden" else 64)
    with pytest.raises(UsageError, match=r"divide the width (80|72|76)") as error:
        check(tmp_path, mine, prune(pattern), *last)
    assert str(error.value.hint).startswith("multiple = 32 in the prune step, or ")
    check(tmp_path, mine, prune(pattern, multiple=32), *last)


def test_a_width_that_pruning_does_not_decide_on_keeps_its_hint(tmp_path: Path) -> None:
    for steps in ([QUANTIZE], [prune("blocks", 0.5), QUANTIZE]):
        with pytest.raises(UsageError, match="does not divide the width 100") as error:
            check(tmp_path, llama(intermediate_size=100), *steps)
        assert "prune step" not in str(error.value.hint)


def test_a_format_is_held_against_what_pruning_leaves(tmp_path: Path) -> None:
    odd = llama(intermediate_size=100)
    with pytest.raises(UsageError, match="do not divide the width 100"):
        check(tmp_path, odd, Q4_1)
    check(tmp_path, odd, prune("channels", 0.3, multiple=32), Q4_1)


def test_shapes_that_nobody_knows_yet_are_left_to_the_steps(tmp_path: Path) -> None:
    twice = [prune("channels", 0.3, multiple=32), prune("heads", 0.5)]
    check(tmp_path, llama(intermediate_size=100), *twice, QUANTIZE, Q4_1.model_copy(update={"format": "gguf_f16"}))
    check(tmp_path, llama(intermediate_size=100), *twice, Q4_1)
    with pytest.raises(UsageError, match="no step before it quantizes"):
        check(tmp_path, llama(), *twice, ExportOptions(use="export", format="compressed_tensors"))
