"""Models of the hub: from the cache where they are there whole, else by their headers alone; what fails is said in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import hubs
from fixtures.hubs import NAME, RESPONSE
from huggingface_hub.errors import GatedRepoError, HTTPError, OfflineModeIsEnabled, SafetensorsParsingError
from huggingface_hub.utils import SafetensorsFileMetadata, SafetensorsRepoMetadata, TensorInfo
from safetensors.torch import save_file

from engine.errors import Unavailable
from engine.inspection import inspect
from engine.stored.reading import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}))
    tensors = {"a.weight": torch.ones(4, 8, dtype=torch.bfloat16), "a.bias": torch.ones(4)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return hubs.cache(monkeypatch, tmp_path / "hub")


@pytest.mark.parametrize("source", [NAME, f"hub:{NAME}"])
def test_what_is_in_the_cache_is_read_there(
    source: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, asked = hubs.cached(cache, folder), hubs.online(monkeypatch, folder)
    found = inspect(source)
    assert asked == []
    assert found == replace(inspect(str(folder)), path=str(snapshot), name=NAME)
    assert found.title == NAME
    assert read(found, found.tensors[1]).values_RC.sum() == 32


def test_else_the_hub_is_asked_for_headers_alone(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hubs.online(monkeypatch, folder)
    found = inspect(NAME)
    assert asked == [f"{NAME} headers", f"{NAME} config.json"]
    assert found == replace(inspect(str(folder)), path=f"hub:{NAME}", name=NAME)
    with pytest.raises(Unavailable, match="weights are on the hub") as caught:
        read(found, found.tensors[0])
    assert caught.value.hint == f"hf download {NAME}"


def test_a_part_in_the_cache_is_not_the_model(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubs.cached(cache, folder, leave="model.safetensors")
    with pytest.raises(Unavailable, match=r"HF_HUB_OFFLINE forbids asking; in the cache: no model\.safetensors"):
        inspect(NAME)
    hubs.online(monkeypatch, folder)
    assert inspect(NAME).remote


def test_a_model_without_configuration_is_shown(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config.json").unlink()
    hubs.online(monkeypatch, folder)
    assert inspect(NAME).architecture == "unknown"


def test_a_folder_of_that_name_comes_first(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hubs.online(monkeypatch, folder)
    monkeypatch.chdir(folder.parent.parent)
    assert inspect(f"{folder.parent.name}/model").name == ""
    assert asked == []


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (OfflineModeIsEnabled("off"), "HF_HUB_OFFLINE forbids asking", "unset HF_HUB_OFFLINE"),
        (HTTPError("Name not known"), "cannot be reached: Name not known", "is the network there?"),
        (TimeoutError(), "cannot be reached: TimeoutError", "is the network there?"),
        (GatedRepoError("no", response=RESPONSE), "only known users", "hf auth login"),
        (SafetensorsParsingError("x"), "make no sense", "owner"),
    ],
)
def test_why_it_cannot_be_had(
    error: Exception, words: str, hint: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headers(*_: Any) -> None:
        raise error

    hubs.answer(monkeypatch, headers)
    for source in (NAME, f"hub:{NAME}"):
        with pytest.raises(Unavailable) as caught:
            inspect(source)
        assert words in caught.value.message
        assert ("no such file or folder here" in caught.value.message) is (source == NAME)
        assert caught.value.where == source.removeprefix("hub:")
        assert hint in str(caught.value.hint)


@pytest.mark.parametrize("source", ["org/another", "hub:org/another", "hub:no name"])
def test_a_name_that_the_hub_does_not_know(
    source: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.online(monkeypatch, folder)
    with pytest.raises(Unavailable, match="no safetensors model of this name"):
        inspect(source)


def test_a_hostile_header_is_refused(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hubs.online(monkeypatch, folder)
    tensor = TensorInfo(dtype="F32", shape=[4], data_offsets=(0, 10**9))
    header = SafetensorsFileMetadata(metadata={}, tensors={"w": tensor})
    files = {"model.safetensors": header}
    found = SafetensorsRepoMetadata(metadata=None, sharded=False, weight_map={}, files_metadata=files)
    hubs.answer(monkeypatch, lambda *_: found)
    with pytest.raises(Unavailable, match="'w' makes no sense"):
        inspect(NAME)
