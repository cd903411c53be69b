"""Whole runs with the `joint` step on a tiny model: the grid, the levels' weights, the transfer matrix, a kill, the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.killing import Condition, Killed, die_when, nth
from fixtures.models import TEXT, save
from fixtures.workspaces import ON_FOLDER

from engine import events as ev
from engine import runs
from engine.events.joint import CARRIED_SOFT, CARRIED_TEXT, LORA, PLAIN, PROMPTS, SOFT
from engine.events.joint import TEXT as BEST_TEXT
from engine.runs import Run
from engine.state import RunState
from engine.worker import execute

PROFILE = (
    'name = "joint"'
    + ON_FOLDER
    + """\
samples = 4
length = 32
compute = "float32"
[evaluate]
perplexity = "none"
speed = false
[task.mood]
description = "Is it good?"
test = "file:{folder}/mood.jsonl"
template = "Review: {{text}}\\nGood?"
labels = {{ bad = " no", good = " yes" }}
"""
)
JOINT = """
[[step]]
use = "joint"
task = "mood"
calibration = "batch"
levels = [0.4, 0.7]
lora = true
[step.select]
candidates = ["Say if it is good.", "Good or bad?"]
budget = 100
[step.adjust]
budget = 80
rows = 6
finalists = 2
[step.embed]
epochs = 2
batch = 4
tokens = 4
learning_rate = 5e-2
rows = 10
"""
MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """A new run of these steps on a tiny model."""
    folder = tmp_path_factory.mktemp("joint")
    save("llama", folder / "model")
    (folder / "text.txt").write_text(TEXT)
    words = TEXT.split()
    lines = [{"text": " ".join(words[7 * i : 7 * i + 6]), "label": ["bad", "good"][i % 2]} for i in range(80)]
    (folder / "mood.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    number = iter(range(20))

    def create(*steps: str) -> Run:
        text = PROFILE.format(folder=folder, dtype="float32") + "".join(steps)
        return runs.create("joint", text, folder / f"run-{next(number)}")

    return create


@pytest.fixture(scope="module")
def whole(begin: MakeRun) -> Run:
    run = begin(JOINT, '[[step]]\nuse = "export"\nverify = false\n')
    assert execute(run) == 0, run.state().failure
    return run
