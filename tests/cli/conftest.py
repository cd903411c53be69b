"""Runs command lines in this process, and compares what they print with recorded bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tui.cli import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`cli("run", "--json")`: exit code, stdout, stderr."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    """A safetensors folder of two blocks with known sizes, as transformers lays it out."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "tiny"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 16,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"model.embed_tokens.weight": np.zeros((16, 8), np.float32), "model.norm.weight": np.zeros(8, np.float32)}
    for block in range(2):
        tensors[f"model.layers.{block}.self_attn.q_proj.weight"] = np.zeros((8, 8), np.float16)
        tensors[f"model.layers.{block}.mlp.up_proj.weight"] = np.zeros((24, 8), np.float16)
    save_file(tensors, folder / "model.safetensors")
    return folder
