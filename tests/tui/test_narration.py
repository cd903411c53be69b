"""What the command line says of a run: one compact line for each new kind of event."""

from __future__ import annotations

from recorded import RECORDED

from engine import events as ev
from tui.narration import Narrator


def told(name: str) -> list[str]:
    narrate = Narrator("resume")
    lines = (RECORDED / f"{name}.jsonl").read_text().splitlines()
    return [line.strip() for text in lines for line in narrate(ev.from_json(text))]


def test_what_a_run_needs_plans_measures_and_recovers() -> None:
    lines = told("allocated")
    assert "needs about 2.1 GB of 7.9 GB memory" in lines
    assert "needs about 12 m 23 s time" in lines
    plan = [line for line in lines if line.startswith("plan")]
    assert plan == ["plan owl 60.0%, % by block 0-29: 36 53 53 54 54 55 56 56 57 57 58 59 59 60 60 61 62 62 63 63 64 65 65 "
                    "66 66 67 68 68 69 53"]  # fmt: skip
    tried = [line for line in lines if line.startswith("tried")]
    assert 2 < len(tried) < 30  # 210 matrices in a minute and a half
    assert tried[-1].startswith("tried 210/210 model.layers.29.mlp.down_proj.weight: error 0.0622 at 30%, 0.178 at 50%")
    assert tried[-1].endswith("loss +0.0711")
    assert [line for line in lines if line.startswith("recovered")][-1] == (
        "recovered 18/30 block 17: error 0.102 -> 0.0664, 6.7 s"
    )


def test_what_was_taken_out() -> None:
    lines = told("structured")
    assert "30/30 block 29: 1152 of 1536 channels, error 0.088" in lines
    assert "1/1 the model: 28 of 30 blocks, without 21, 24" in lines


def test_a_plan_without_differences_says_so() -> None:
    narrate = Narrator("resume")
    matrices = [{"name": name, "block": block, "shape": [2, 2], "parameters": 4} for block, name in enumerate("ab")]
    narrate(ev.ModelLoaded(source="s", device="cpu", dtype="float32", architecture="A", parameters=8, bytes=32, threads=1,
                           matrices=matrices))  # fmt: skip
    plan = ev.SparsityPlanned(step=0, allocation="uniform", sparsity=0.5, shares={"a": 0.5, "b": 0.5})
    assert narrate(plan) == ["      plan uniform 50.0%: the same everywhere"]
