"""What the command line says of a run: a compact line for most kinds of event, few for a long work."""

from __future__ import annotations

from dataclasses import replace

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


def test_a_long_work_is_told_once_a_tenth_and_each_recovered_block_once() -> None:
    narrate, lines, steps = Narrator("again"), [], 300
    for block in range(20):
        for step in range(1, steps + 1):
            done = block * steps + step
            progress = ev.Progress(step=0, label="recovering", done=done, total=20 * steps, time=2.0 * done)
            lines += narrate(progress)
        lines += narrate(ev.BlockRecovered(step=0, block=block, before=0.2, after=0.1, seconds=600.0, done=block + 1,
                                           total=20, time=2.0 * done))  # fmt: skip
    assert sum(line.strip().startswith("recovered") for line in lines) == 20
    told = [line.split()[1] for line in lines if line.strip().startswith("recovering")]
    assert told == ["1/6000", *(f"{600 * tenth}/6000" for tenth in range(1, 11))]


def test_every_epoch_of_a_trained_prompt_is_a_line() -> None:
    epoch = ev.PromptTrained(step=0, candidate="soft", epoch=1, epochs=10, loss=0.4123, accuracy=0.781, skill=0.7444, n=64,
                             best=True, seconds=31.0)  # fmt: skip
    (line,) = Narrator("again")(epoch)
    figures = "loss 0.412, accuracy 78.1%, skill 0.744, n 64, the best so far, 31.0 s"
    assert line.strip() == f"trained soft 1/10 epochs: {figures}"
    (line,) = Narrator("again")(replace(epoch, epoch=0, loss=None, best=False))
    assert line.strip() == "trained soft 0/10 epochs: accuracy 78.1%, skill 0.744, n 64, 31.0 s"


def test_a_training_tells_its_loss_now_and_then_and_every_look_at_held_out_data() -> None:
    narrate, lines = Narrator("again"), []
    for step in range(1, 1001):
        loss = ev.LossMeasured(step=0, done=step, total=1000, part="train", loss=3.51234, rate=1e-4, per_second=181.6,
                               unit="tokens", time=2.0 * step)  # fmt: skip
        lines += narrate(loss)
    assert len(lines) == 11
    assert lines[-1].strip() == "training step 1000/1000: loss 3.512, 182 tokens/s"
    look = ev.LossMeasured(step=0, done=25, total=1000, part="held out", loss=3.41, best=True)
    assert narrate(look)[0].strip() == "held-out loss 3.41 at step 25/1000, the best"
    assert narrate(replace(look, best=False))[0].strip() == "held-out loss 3.41 at step 25/1000"


def test_what_was_taken_out() -> None:
    lines = told("structured")
    assert "removed 384 of 1536 channels of block 29, error 0.088" in lines
    assert "removed 2 of 30 blocks" in lines


def test_narration_is_sparse_and_never_misses_the_end() -> None:
    narrate = Narrator("again")
    lines = []
    for done in range(1, 101):
        event = ev.Progress(step=0, label="windows", done=done, total=100, unit="windows", time=done * 0.5)
        lines += narrate(event)
    assert len(lines) == 11
    assert "1/100" in lines[0]
    assert "100/100" in lines[-1]


def test_narration_of_two_works_at_once_is_as_sparse() -> None:
    narrate = Narrator("again")
    lines = []
    for done in range(1, 101):
        for label in ("layers", "blocks"):
            lines += narrate(ev.Progress(step=0, label=label, done=done, total=100, time=done * 0.5))
            lines += narrate(ev.Progress(step=0, label=label, done=done, total=100, time=done * 0.5))
    assert len(lines) <= 14
    assert len(set(lines)) == len(lines)


def test_what_a_run_needs_is_one_line() -> None:
    narrate = Narrator("again")
    needs = [
        ev.Estimated(name="memory", value=2.1e9, available=23e9, unit="B"),
        ev.Estimated(name="disk", value=1.24e9, available=80.4e9, unit="B"),
    ]
    assert [line for event in needs for line in narrate(event)] == []
    line = "needs about 2.1 GB memory (23.0 GB free), 1.2 GB disk (80.4 GB free), about 5 m"
    assert narrate(ev.Estimated(name="time", value=310.0, unit="s")) == [line]
    narrate(needs[0])  # refused; on resuming, the line starts anew
    narrate(ev.RunStarted(run="r", profile="p", source="demo", steps=[], resumed=True))
    assert narrate(ev.Estimated(name="time", value=1.2, unit="s")) == ["needs about 1 s"]


def test_a_resumed_run_names_the_steps_that_were_done() -> None:
    narrate = Narrator("again")
    narrate(ev.RunStarted(run="r", profile="p", source="demo", steps=["prune", "export"], resumed=True))
    finished = [ev.StepFinished(step=step, seconds=0.0, resumed=True) for step in (-1, 0)]
    assert [narrate(event) for event in finished] == [["[0/2] measure: ✓ done before"], ["[1/2] prune: ✓ done before"]]


def test_a_plan_is_one_line_with_a_figure_a_block() -> None:
    narrate = Narrator("again")
    matrices = [{"name": f"{block}.{part}", "block": block, "shape": [1, size], "parameters": size}
                for block in (0, 1) for part, size in (("a", 10), ("b", 30))]  # fmt: skip
    narrate(ev.ModelLoaded(source="demo", device="cpu", dtype="float32", architecture="A", parameters=80, bytes=320,
                           threads=1, matrices=matrices))  # fmt: skip
    shares = {"0.a": 0.2, "0.b": 0.4, "1.a": 0.65, "1.b": 0.65}
    (line,) = narrate(ev.SparsityPlanned(step=0, allocation="owl", sparsity=0.5, shares=shares))
    assert line.strip() == "plan (owl): 50.0%, by block 35 65"
    (line,) = narrate(ev.SparsityPlanned(step=0, allocation="uniform", sparsity=0.5, shares=dict.fromkeys(shares, 0.5)))
    assert line.strip() == "plan (uniform): 50.0% everywhere"


def test_the_narration_tells_what_left() -> None:
    narrate = Narrator("again")
    common = {"step": 0, "seconds": 1.0, "total": 2}
    first = ev.PartsRemoved(part="channels", block=0, removed=[1, 2], of=8, error=0.0312, done=1, **common)
    last = ev.PartsRemoved(part="blocks", block=None, removed=[3], of=4, error=None, done=2, **common)
    assert narrate(first) == ["      removed 2 of 8 channels of block 0, error 0.0312"]
    assert narrate(last) == ["      removed 1 of 4 blocks"]


def test_a_comparison_among_several_tells_both_p_values() -> None:
    one = ev.PromptsCompared(step=0, a="a02", b="start", stage="pruned", split="test", calibration="none", n=100,
                             difference=0.06, low=0.02, high=0.11, p_value=0.03125, p_holm=0.0625, verdict="tie")  # fmt: skip
    assert ", p 0.031 (0.062 by Holm), n 100: tie" in Narrator("again")(one)[0]
    for alone in (0.03125, None):
        assert ", p 0.031, n 100: " in Narrator("again")(replace(one, p_holm=alone))[0]
