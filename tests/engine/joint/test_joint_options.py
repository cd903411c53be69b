"""The options of the `joint` step: tables of other steps' options, checked as these steps check them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.models import subject
from fixtures.prompting import toy
from fixtures.sizes import SIZES
from fixtures.workspaces import workspace

from engine import preflight
from engine import profile as profiles
from engine.errors import ProfileError, UsageError
from engine.estimate import steps
from engine.estimate.scene import Scene
from engine.joint.options import JointOptions
from engine.registry import STEPS

HEAD = 'name = "x"\n[model]\nsource = "demo"\n[[step]]\nuse = "joint"\ntask = "sst2"\ncalibration = "batch"\n'
WHOLE = (
    HEAD
    + """levels = [0.25, 0.5]
[step.prune]
criterion = "magnitude"
[step.select]
candidates = ["a", "b"]
[step.adjust]
rows = 12
[step.embed]
tokens = 7
[step.gate]
recovered = 0.5
"""
)


def test_a_table_stands_for_a_whole_step() -> None:
    profile = profiles.parse(WHOLE, "test")
    (step,) = profile.step
    assert isinstance(step, JointOptions)
    assert [(p.criterion, p.sparsity) for p in step.prunings] == [("magnitude", 0.25), ("magnitude", 0.5)]
    selecting, adjusting, embedding = step.prompt_steps
    assert {(s.task, s.calibration) for s in step.prompt_steps} == {("sst2", "batch")}
    assert selecting.candidates == ["a", "b"]
    assert (adjusting.rows, embedding.tokens, step.gate.recovered) == (12, 7, 0.5)
    plain = STEPS["select_prompt"].options_model().model_validate({"use": "select_prompt", "task": "sst2"})
    alike = selecting.model_copy(update={"candidates": [], "calibration": "none"})
    assert alike == plain


def test_it_is_written_and_read_again() -> None:
    for text in (WHOLE, HEAD):
        profile = profiles.parse(text, "test")
        written = profiles.dump(profile)
        assert profiles.parse(written, "test") == profile
        assert "# labelled" not in written.partition("[step.select]")[0]
    assert "how many labelled examples" in profiles.dump(profiles.parse(WHOLE, "test"))


@pytest.mark.parametrize(
    ("added", "key", "words"),
    [
        ("[step.select]\nmetod = 1\n", "step.0.select.metod", "unknown key"),
        ('[step.select]\nmethod = "halvin"\n', "step.0.select.method", "unknown prompt optimizer"),
        ("[step.embed]\ntokens = 0\n", "step.0.embed.tokens", "greater than"),
        ('[step.prune]\npattern = "2:4"\n', "step.0", "pattern 2:4 means sparsity 0.5"),
        ("[step.prune]\nsparsity = 0.5\n", "step.0.prune.sparsity", "unknown key"),
        ("lora = true\n", "step.0", "lora needs an embed table"),
        ("levels = [0.5, 0.3]\n", "step.0", "rising sparsities"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(added: str, key: str, words: str) -> None:
    with pytest.raises(ProfileError) as refused:
        profiles.parse(HEAD + added, "test")
    (problem,) = refused.value.problems
    assert problem.key == key
    assert words in problem.message
    if added.startswith("[step.select]\nmetod"):
        assert "method" in (problem.hint or "")


def joint(**changes: Any) -> JointOptions:
    return JointOptions.model_validate({"use": "joint", "task": "toy", **changes})


def test_its_parts_are_checked_before_the_run(tmp_path: Path) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    made._tasks["toy"] = toy()
    evaluate = made.profile.evaluate.model_copy(update={"perplexity": "none"})
    calibration = made.profile.calibration.model_copy(update={"length": 40})
    for step, words in (
        (joint(select={"candidates": ["a", "b"], "budget": 2}), "a budget of 2 examples for 3 prompts"),
        (joint(adjust={"budget": 5}), "a budget of 5 examples"),
        (joint(embed={"tokens": 513}), "513 virtual tokens"),
    ):
        update = {"evaluate": evaluate, "calibration": calibration, "step": [step]}
        made.profile = made.profile.model_copy(update=update)
        with pytest.raises(UsageError, match=words):
            preflight.check(made, [])


def test_more_levels_and_more_kinds_of_prompts_need_more(tmp_path: Path) -> None:
    made = workspace(tmp_path / "run", subject("llama"))
    made._tasks["toy"] = toy()
    scene = Scene(made, SIZES)
    sizes: list[dict[str, Any]] = [
        {"levels": [0.5]},
        {},
        {"embed": {}},
        {"embed": {}, "lora": True},
        {"embed": {}, "lora": True, "adjust": {}},
    ]
    products = [steps.of_step(scene, joint(**changes)).work.products["float32"] for changes in sizes]
    assert products == sorted(products)
    assert len(set(products)) == len(products)
    assert steps.of_step(scene, joint()).disk > 3 * SIZES.matrix_weights * SIZES.number
    assert steps.of_step(scene, joint()).memory > SIZES.loaded
    assert steps.after_step(scene, joint()).changed
