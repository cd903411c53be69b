"""Every training's methods, killed with -9 in the middle and behind what came before: what they end with is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.killing import forks, kill_9
from fixtures.models import TEXT, save
from fixtures.training import MEASURED, weights

from engine import events as ev
from engine import runs
from engine.records import StepState
from engine.worker import execute

METHODS = {
    "finetune": ("finetune", ""),
    "distill": ("distill", "answers = 0.5\ntop = 16"),
    "gradual": ("sparse_train", 'pattern = "2:4"\nupdate_every = 2'),
    "straight_through": ("sparse_train", 'method = "straight_through"\npattern = "2:4"'),
    "rigl": ("sparse_train", 'method = "rigl"\nsparsity = 0.6\nupdate_every = 2'),
    "threshold": ("sparse_train", 'method = "threshold"\nthreshold = 1e-4\nupdate_every = 2'),
    "recover by finetune": ("recover", 'method = "finetune"'),
    "recover by lora": ("recover", 'method = "lora"\nrank = 2'),
    "student": ("distill", 'student = "every-second-block"\ncache = false\nhidden = 0.1'),
}
STEP = """[[step]]
use = "{use}"
steps = 8
batch = 2
held_out = 4
check_every = 2
save_every = 3
learning_rate = 1e-3
{more}
"""


@forks
def test_every_method_goes_on_from_kill_9_with_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    save("llama", tmp_path / "model")
    steps = "".join(STEP.format(use=use, more=more) for use, more in METHODS.values())
    text = MEASURED.format(folder=tmp_path, dtype="bfloat16") + '[[step]]\nuse = "prune"\ncriterion = "magnitude"\n'
    text += steps + '[[step]]\nuse = "export"\nreference = false\n'
    whole, broken = (runs.create("killed", text, tmp_path / name) for name in ("whole", "broken"))
    for index in range(1, len(METHODS) + 1):
        kill_9(
            broken, lambda event, at=index: isinstance(event, ev.LossMeasured) and (event.step, event.done) == (at, 6)
        )
    for run in (whole, broken):
        assert execute(run) == 0, run.state().failure
    assert weights(broken) == weights(whole)
    broken_steps, whole_steps = (run.state().steps for run in (broken, whole))
    for index in range(1, len(METHODS) + 1):
        assert told(broken_steps[index]) == told(whole_steps[index])


def told(step: StepState) -> dict[str, Any]:
    """A step's summary but for how long its teacher took: after a kill its answers are there already."""
    return {key: None if key == "answers_seconds" else value for key, value in (step.summary or {}).items()}
