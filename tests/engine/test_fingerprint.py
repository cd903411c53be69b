"""What a refused resume says of the settings that changed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine import fingerprint
from engine import profile as profiles
from engine.errors import UsageError
from engine.workspace import Workspace

BEGUN = """
[model]
source = "demo"
[[step]]
use = "prune"
[[step]]
use = "export"
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """As much of one as a fingerprint is taken of, with the fingerprint written."""
    made: Any = SimpleNamespace(
        profile=profiles.parse(BEGUN, "begun.toml"),
        subject=SimpleNamespace(fingerprint="weights"),
        run=SimpleNamespace(checkpoints=tmp_path, path=tmp_path),
        data_fingerprint=lambda: "rows",
    )
    fingerprint.check(made)
    return cast("Workspace", made)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["threads=3"], "threads (not set) is now 3"),
        (["step.0.sparsity=0.25", "seed=7"], "seed 0 is now 7, step.0.sparsity (not set) is now 0.25"),
        (["calibration.samples=9", "calibration.length=9", "seed=7", "step.0.sparsity=0.25", "threads=3"], ", 2 more"),
        (['evaluate.tasks=["sst2"]'], 'evaluate.tasks [] is now ["sst2"]'),
    ],
)
def test_the_settings_that_changed_are_named(workspace: Workspace, changes: list[str], said: str) -> None:
    workspace.profile = profiles.parse(BEGUN, "begun.toml", changes)
    with pytest.raises(UsageError) as refused:
        fingerprint.check(workspace)
    assert refused.value.message.startswith("the profile changed since this run began: ")
    assert refused.value.message.endswith(said)


def test_a_step_less_is_a_change(workspace: Workspace) -> None:
    workspace.profile = profiles.parse(BEGUN.replace('[[step]]\nuse = "export"\n', ""), "begun.toml")
    with pytest.raises(UsageError, match=r'step\.1\.use "export" is now \(not set\)'):
        fingerprint.check(workspace)


def test_a_bound_without_end_is_no_change(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "fingerprint.json").unlink()
    workspace.profile = profiles.parse(BEGUN, "begun.toml", ["gate.perplexity_ratio=inf"])
    for _ in range(2):
        fingerprint.check(workspace)


def test_nothing_changed(workspace: Workspace, tmp_path: Path) -> None:
    before = (tmp_path / "fingerprint.json").read_bytes()
    fingerprint.check(workspace)
    assert (tmp_path / "fingerprint.json").read_bytes() == before


def test_a_prompt_pool_that_changed_is_refused_and_one_that_is_gone_is_not(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "fingerprint.json").unlink()
    pool = tmp_path / "pool.txt"
    pool.write_text("Say yes.\nSay no.\n")
    steps = f'[[step]]\nuse = "select_prompt"\ntask = "sst2"\npool = "file:{pool}"\n'
    workspace.profile = profiles.parse(BEGUN + steps, "begun.toml")
    for text in ("Say yes.\nSay no.\n", "\nSay yes.\nSay no.", None, "Say yes.\nSay no.\n"):
        pool.unlink(missing_ok=True)
        if text:
            pool.write_text(text)
        fingerprint.check(workspace)
    pool.write_text("Say no.\nSay yes.\n")
    with pytest.raises(UsageError, match="the prompt pools changed since this run began"):
        fingerprint.check(workspace)


def test_a_run_of_before_pools_were_noted_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "fingerprint.json"
    began = json.loads(file.read_text())
    del began["prompt pools"]
    file.write_text(json.dumps(began))
    fingerprint.check(workspace)
