"""What the ONNX writers and their runtime cannot do, and packages that are missing, are told before any work."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import subject
from transformers import MistralConfig

from engine import builtin
from engine.errors import Unavailable, UsageError
from engine.export.onnx import decoder
from engine.export.onnx import module as modules
from engine.export.runtime import onnx as runtime
from engine.export.runtime.spec import Spec
from engine.quantization.grid import Format
from engine.registry import FORMATS
from engine.subject import Subject

pytest.importorskip("onnxruntime_genai")

REFUSED: dict[str, tuple[Callable[[], Subject], Format | None, str, str]] = {
    "three bits": (lambda: wide(), Format(3, 32, True), "onnx_int4", "3 bits"),
    "a scale a row": (lambda: wide(), Format(4, 0, True), "onnx_int4", "a scale for every row"),
    "no codes": (lambda: wide(), None, "onnx_int4", "no step before it quantizes"),
    "linear rotary embeddings": (lambda: rotated("linear"), None, "onnx_fp32", "linear rotary embeddings of llama"),
    "yarn": (lambda: rotated("yarn"), Format(4, 32, True), "onnx_int4", "yarn rotary embeddings of llama"),
    "another family's rotary embeddings": (
        lambda: rotated("dynamic", "qwen2"),
        None,
        "onnx_fp32",
        "dynamic rotary embeddings of qwen2",
    ),
    "heads rotated in part": (
        lambda: wide(rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        None,
        "onnx_fp32",
        "a part of each head",
    ),
    "narrow heads": (lambda: subject("llama"), None, "onnx_fp32", "heads of 8 dimensions"),
    "a sliding window": (
        lambda: wide("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=0),
        Format(4, 32, True),
        "onnx_int4",
        "sliding window of 16 tokens",
    ),
    "a window over all layers": (lambda: mistral(16), None, "onnx_fp32", "sliding window of 16 tokens"),
    "another architecture": (lambda: subject("gpt2"), None, "onnx_fp32", "not gpt2"),
    "a classifier in four bits": (lambda: classifier(), None, "onnx_int4", "language models only"),
}


def wide(name: str = "llama", **changes: Any) -> Subject:
    return subject(name, hidden_size=64, **changes)


def mistral(window: int) -> Subject:
    mine = wide()
    mine.module.config = MistralConfig(
        **mine.module.config.to_dict() | {"model_type": "mistral", "sliding_window": window}
    )
    return mine


def rotated(kind: str, name: str = "llama") -> Subject:
    return wide(name, rope_parameters={"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0})


def classifier() -> Subject:
    module, features = builtin.linear(0)
    return Subject(module.eval(), "builtin:linear", "linear", features=features)


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_file_cannot_hold_is_refused(case: str) -> None:
    make, form, name, message = REFUSED[case]
    with pytest.raises(UsageError, match=message) as error:
        FORMATS.load(name).FORMAT.check(make(), form)
    assert error.value.hint


@pytest.mark.parametrize(("name", "kind"), [("llama", "llama3"), ("llama", "dynamic"), ("qwen2", "linear")])
def test_rotary_embeddings_that_are_written_right_are_taken(name: str, kind: str) -> None:
    module = wide(name).module
    module.config.rope_parameters["rope_type"] = kind
    assert not list(decoder.limits(module.config))


def test_a_window_as_long_as_the_model_s_texts_is_none() -> None:
    assert not list(decoder.limits(mistral(4096).module.config))


@pytest.mark.parametrize(
    ("make", "needed", "other"),
    [(lambda: wide(), decoder.NEEDED, "onnxscript"), (lambda: classifier(), modules.NEEDED, "onnxruntime_genai")],
    ids=["decoder", "classifier"],
)
def test_a_package_that_is_missing_is_told_before_any_work(
    make: Callable[[], Subject], needed: Sequence[str], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the writer that the model needs, and no other."""
    check = FORMATS.load("onnx_fp32").FORMAT.check
    for package in needed:
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(Unavailable, match=f"need {package}$") as error:
                check(make(), None)
            assert "compress-tui[onnx]" in str(error.value.hint)
    monkeypatch.setitem(sys.modules, other, None)
    check(make(), None)


def test_a_classifier_runs_without_what_generates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, form = classifier(), FORMATS.load("onnx_fp32").FORMAT
    assert mine.features is not None
    form.write(mine, tmp_path, torch.float32)
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    monkeypatch.delitem(sys.modules, runtime.__name__)
    again = importlib.import_module(runtime.__name__)
    found = again.load(Spec(runtime="onnx", form="onnx_fp32", folder=str(tmp_path), threads=1)).answers(mine.features.x)
    torch.testing.assert_close(torch.from_numpy(found), mine.module(torch.from_numpy(mine.features.x).float()).detach())
