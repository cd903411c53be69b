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
    assert [line for line in lines if line.startswith("needs")] == [
        "needs about 2.1 GB memory (7.9 GB free), 1.1 GB disk (41.0 GB free), about 12 m"
    ]
    (plan,) = [line for line in lines if line.startswith("plan")]
    assert plan.startswith("plan (owl): 60.0%, by block 36 53 53 54")
    tried = [line for line in lines if line.startswith("tried")]
    assert 2 < len(tried) < 30  # 210 matrices in a minute and a half
    assert tried[-1].startswith("tried 210/210 model.layers.29.mlp.down_proj.weight: error 0.0622 at 30%, 0.178 at 50%")
    assert tried[-1].endswith("loss +0.0711")
    assert [line for line in lines if line.startswith("recovered")][-1] == (
        "recovered 18/30 block 17: error 0.102 -> 0.0664, 6.7 s"
    )


def test_what_was_taken_out() -> None:
    lines = told("structured")
    assert "removed 384 of 1536 channels of block 29, error 0.088" in lines
    assert "removed 2 of 30 blocks" in lines
