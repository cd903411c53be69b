"""Isolation for every test: runs in a folder of its own, one cache for the session, no network; and a recorded run to read."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from engine import events as ev
from engine import runs

settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

BEGAN = 1_700_000_000.0
NUMBERS = itertools.count()

os.environ["HF_HUB_OFFLINE"] = "1"

gc.disable()  # what is imported for the tests stays


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def modules_are_no_garbage() -> None:
    """No search for garbage goes through all that was imported: with torch and transformers one takes a third of a second.
    What the file of tests before has left is gone first.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """One search for garbage at the end is enough, of all that is left; pytest makes five."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, and of each folder the files with most of them, so that at the end no worker waits for much."""
    count = Counter(item.path for item in items)
    folders = list(dict.fromkeys(item.path.parent for item in items))
    items.sort(
        key=lambda item: (
            item.get_closest_marker("long") is None,
            folders.index(item.path.parent),
            -count[item.path],
            item.path,
        )
    )


@pytest.fixture(autouse=True)
def runs_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The runs folder of this test alone, made by whoever writes into it: most tests need none. Kept if the test fails."""
    own = tmp_path_factory.getbasetemp() / f"of-{next(NUMBERS)}"
    monkeypatch.setenv("COMPRESS_TUI_RUNS", str(own / "runs"))
    monkeypatch.setenv("COMPRESS_TUI_STATE", str(own / "state"))
    failed = request.session.testsfailed
    yield own / "runs"
    if request.session.testsfailed == failed:
        shutil.rmtree(own, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_disk() -> Iterator[None]:
    """Nothing waits for the disk: what a killed process wrote is there without that, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests and all parallel workers: what is in it can only be made again the same."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "cache"
    os.environ["COMPRESS_TUI_CACHE"] = str(folder)
    os.environ["COMPRESS_TUI_STATE"] = str(base / "state")  # of fixtures that several tests share
    return folder


@pytest.fixture
def shared_data() -> Path:
    """Optional real data, in the folder that COMPRESS_TUI_DATA names; the project itself does not bring it."""
    folder = os.environ.get("COMPRESS_TUI_DATA")
    if folder is None:
        pytest.skip("reads real data that is not part of the project: COMPRESS_TUI_DATA names no folder")
    return Path(folder)


@pytest.fixture(autouse=True)
def neutral_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own terminal or shell changes what is printed."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "COMPRESS_TUI_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the recorded file of that name beside the test; UPDATE_GOLDEN=1 records it anew."""

    def check(name: str, text: str) -> None:
        file = request.path.parent / "golden" / f"{name}.txt"
        if os.environ.get("UPDATE_GOLDEN"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture
def story() -> list[ev.Event]:
    """The events of a small finished run: prune, select_prompt, export; numbered, ten seconds apart."""
    return numbered(_story())


@pytest.fixture
def record(runs_folder: Path) -> Callable[..., runs.Run]:
    """Writes events as a run folder that nobody works on any more."""

    def write(events: Sequence[ev.Event], name: str = "20231114T221320-small-ab12") -> runs.Run:
        run = runs.create("small", 'name = "small"\n[model]\nsource = "demo"\n', runs_folder / name)
        run.events_file.write_text("".join(ev.to_json(event) + "\n" for event in events))
        return run

    return write


def numbered(events: Sequence[ev.Event]) -> list[ev.Event]:
    """Gives events their sequence numbers and times, as the writer does."""
    for index, event in enumerate(events):
        object.__setattr__(event, "seq", index + 1)
        object.__setattr__(event, "time", BEGAN + 10 * index)
    return list(events)


def _story() -> list[ev.Event]:
    def metrics(step: int, stage: str, perplexity: float, accuracy: float, sparsity: float) -> list[ev.Event]:
        return [
            ev.Metric(step=step, stage=stage, name="perplexity", value=perplexity, n=10),
            ev.Metric(
                step=step, stage=stage, name="accuracy:sst2", value=accuracy, low=accuracy - 0.03,
                high=accuracy + 0.03, n=872,
            ),
            ev.Metric(step=step, stage=stage, name="bytes", value=538e6, unit="bytes"),
            ev.Metric(step=step, stage=stage, name="parameters", value=134515008),
            ev.Metric(step=step, stage=stage, name="sparsity", value=sparsity),
            ev.Metric(step=step, stage=stage, name="decode_tokens_per_second", value=38.25),
        ]  # fmt: skip

    def score(candidate: str, calibration: str, accuracy: float) -> ev.Event:
        return ev.CandidateScored(
            step=1, candidate=candidate, stage="pruned", split="test", calibration=calibration, n=872,
            accuracy=accuracy, low=accuracy - 0.03, high=accuracy + 0.03,
        )  # fmt: skip

    def compared(calibration: str, difference: float, p_value: float, verdict: str) -> ev.Event:
        return ev.PromptsCompared(
            step=1, a="c01", b="plain", stage="pruned", split="test", calibration=calibration, n=872,
            difference=difference, low=difference - 0.02, high=difference + 0.02, p_value=p_value, verdict=verdict,
        )  # fmt: skip

    matrices = [
        {"name": f"layers.{block}.{part}", "block": block, "shape": [4, 8], "parameters": 32}
        for block in (0, 1)
        for part in ("q", "k")
    ]
    pruned = [
        ev.LayerPruned(
            step=0, layer=matrix["name"], block=matrix["block"], shape=[4, 8], sparsity=0.5,
            error=0.01 * (index + 1), seconds=0.5, done=index + 1, total=4,
        )
        for index, matrix in enumerate(matrices)
    ]  # fmt: skip
    summary = {"winner": "c01", "baseline": "plain", "task": "sst2", "stage": "pruned", "calibration": "batch"}
    return [
        ev.RunStarted(
            run="20231114T221320-small-ab12", profile="small", source="demo", description="half of it",
            steps=["prune", "select_prompt", "export"],
        ),
        ev.ModelLoaded(
            source="demo", device="cpu", dtype="float32", architecture="LlamaForCausalLM", parameters=134515008,
            bytes=538060032, threads=2, matrices=matrices,
        ),
        ev.StepStarted(step=-1, use="measure"),
        *metrics(-1, "dense", 17.42, 0.81, 0.0),
        ev.StepFinished(step=-1, seconds=60.0),
        ev.StepStarted(step=0, use="prune", title="sparsegpt 50%"),
        *pruned,
        *metrics(0, "pruned", 30.9, 0.63, 0.5),
        ev.StepFinished(step=0, seconds=100.0, summary={"criterion": "sparsegpt", "sparsity": 0.5}),
        ev.StepStarted(step=1, use="select_prompt"),
        ev.CandidateAdded(step=1, candidate="plain", text="Review: {text}\nSentiment:", origin="template", tokens=6),
        ev.CandidateAdded(step=1, candidate="c01", text="Good | bad?\n{text}\nSentiment:", origin="pool", tokens=9),
        ev.Progress(step=1, label="race", done=1, total=2, unit="rounds"),
        score("plain", "batch", 0.66),
        score("c01", "batch", 0.76),
        score("plain", "none", 0.63),
        score("c01", "none", 0.64),
        compared("batch", 0.1, 0.0001, "better"),
        compared("none", 0.01, 0.4, "tie"),
        ev.StepFinished(step=1, seconds=30.0, summary=summary),
        ev.StepStarted(step=2, use="export"),
        ev.ArtifactWritten(step=2, path="artifacts/safetensors", format="safetensors", bytes=538000000),
        *metrics(2, "exported", 30.9, 0.63, 0.5),
        ev.StepFinished(step=2, seconds=20.0),
        ev.GateChecked(name="perplexity_ratio", bound=2.5, value=1.7738, passed=True),
        ev.Log(message="a word of warning", level="warning"),
        ev.RunFinished(seconds=215.5),
    ]  # fmt: skip
