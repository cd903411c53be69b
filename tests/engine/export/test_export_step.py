"""What the export step refuses before any work, and what it calls its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import save, subject
from fixtures.workspaces import workspace
from safetensors.torch import load_file

from engine import archive, files, model
from engine.archive import Measured
from engine.errors import UsageError
from engine.evaluation.measure import Measurement, sparsity
from engine.export import step
from engine.export.options import ExportOptions
from engine.export.verify import exported_stage
from engine.options import StepOptions
from engine.profile import ModelOptions
from engine.prompts.forward import ends
from engine.pruning.options import PruneOptions
from engine.quantization import step as quantization
from engine.quantization.options import QuantizeOptions
from engine.registry import FORMATS
from engine.subject import Subject
from engine.training.options import RecoverOptions
from engine.workspace import Workspace

QUANTIZE = QuantizeOptions(use="quantize")
MEASURED = Measured(
    model="demo", text="t", run="r", path="artifacts/model", profile="p", format="sparse", steps="dense", time=1.0,
    device="cpu", threads=1, bytes=100, perplexity=20.0, decode=None,
)  # fmt: skip
CODED = ("compressed_tensors", "sparse", "gguf_q4_1")


def export(name: str, **options: Any) -> ExportOptions:
    return ExportOptions(use="export", format=name, **options)


def before(folder: Path, mine: Subject, *steps: StepOptions) -> Workspace:
    space = workspace(folder / "run", mine)
    space.profile = space.profile.model_copy(update={"step": list(steps)})
    return space


def check(space: Workspace, options: ExportOptions) -> None:
    step.check_options(space, len(space.profile.step), options, space.subject)


@pytest.mark.parametrize("name", ["gguf_f16", "gguf_q8_0", "onnx_fp32", "safetensors"])
def test_a_number_format_that_the_file_does_not_have_is_warned_of(name: str, tmp_path: Path) -> None:
    space = before(tmp_path, subject("llama", head_dim=16))
    form = FORMATS.load(name).FORMAT
    for dtype in ("auto", "float32", "bfloat16"):
        check(space, export(name, dtype=dtype))
    told = [log.message for log in space.state.log]
    own = f"{name} has number formats of its own: dtype = bfloat16 changes nothing"
    assert told == ([] if name == "safetensors" else [own])
    stored = step.stored_in(form, export(name, dtype="bfloat16"), torch.float32)
    assert stored == (torch.bfloat16 if name == "safetensors" else torch.float32)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("later", [PruneOptions(use="prune"), RecoverOptions(use="recover")], ids=["prune", "recover"])
def test_codes_of_weights_that_a_later_step_changes_are_refused(name: str, later: StepOptions, tmp_path: Path) -> None:
    space = before(tmp_path, subject("llama"), QUANTIZE, later)
    with pytest.raises(UsageError, match=f"{later.use} changes the weights that step 1 quantizes") as error:
        check(space, export(name))
    assert error.value.where == "step.1.use"
    check(space, export("safetensors"))
    space.profile = space.profile.model_copy(update={"step": [QUANTIZE, later, QUANTIZE]})
    check(space, export(name))


@pytest.mark.parametrize("name", FORMATS.names())
def test_only_one_format_says_that_inputs_are_rounded(name: str, tmp_path: Path) -> None:
    about = {"use": "quantize", "bits": 8, "group": 0, "symmetric": True, "activations": "dynamic"}
    space = before(tmp_path, subject("llama"), QuantizeOptions.model_validate(about))
    if name == "compressed_tensors":
        check(space, export(name))
        return
    with pytest.raises(UsageError, match=f"{name} cannot say that the layers' inputs are rounded") as error:
        check(space, export(name))
    assert (error.value.where, "compressed_tensors" in str(error.value.hint)) == ("step.format", True)


@pytest.mark.parametrize("name", CODED)
def test_a_file_that_is_read_back_whole_is_not_verified_against_a_streamed_model(name: str, tmp_path: Path) -> None:
    source = str(save("llama", tmp_path / "llama"))
    for memory in ("stream", "resident"):
        mine = model.load(ModelOptions(source=source, device="cpu", dtype="float32", memory=memory))
        space = before(tmp_path, mine, QUANTIZE)
        check(space, export(name, verify=False))
        check(space, export("safetensors"))
        if memory == "resident":
            check(space, export(name))
            continue
        with pytest.raises(UsageError, match="read back whole") as error:
            check(space, export(name))
        assert "verify = false" in str(error.value.hint)


def zeroed(mine: Subject, share: float) -> Subject:
    """With the smallest weights of every row of a matrix gone."""
    for block in mine.blocks():
        for weight in (p for p in block.parameters() if p.ndim == 2):
            gone = round(share * weight.shape[1])
            weight.scatter_(1, weight.abs().argsort(1)[:, :gone], 0.0)
    return mine


def wide() -> Subject:
    return subject("llama", hidden_size=64, intermediate_size=96)


def warnings(space: Workspace) -> list[str]:
    return [log.message for log in space.state.log if log.level == "warning"]


def test_q4_1_of_a_source_that_is_sparse_already_is_warned_of_before_the_work_and_once(tmp_path: Path) -> None:
    options = export("gguf_q4_1", verify=False, dtype="float32")
    space = before(tmp_path, zeroed(wide(), 0.5), options)
    step.check_options(space, 0, options, space.subject)
    [message] = warnings(space)
    assert message.startswith(
        "gguf_q4_1 holds no exact zeros: the 50.0% of the weights that are zero come out as nearly"
    )
    step.run(space, options)
    assert len(warnings(space)) == 1
    for name in ("gguf_q8_0", "safetensors"):
        check(space, export(name))
    assert len(warnings(space)) == 1, "these hold zeros"


@pytest.mark.parametrize("share", [0.0, 0.005, 0.25])
@pytest.mark.parametrize("coded", [False, True])
def test_q4_1_counts_the_zeros_of_the_model_that_is_exported(share: float, coded: bool, tmp_path: Path) -> None:
    """Whatever step has made them; codes of zero that rounding alone made are none."""
    quantize = QuantizeOptions(use="quantize", method="rtn", bits=4, group=32)
    options = export("gguf_q4_1", verify=False, dtype="float32")
    space = before(tmp_path, wide(), quantize, options)
    step.check_options(space, 1, options, space.subject)
    zeroed(space.subject, share)
    Measurement(space, space.subject, space.profile.evaluate, "sparse").size()
    if coded:
        quantization.run(space, quantize)
        Measurement(space, space.subject, space.profile.evaluate, "quantized").size()
        assert sparsity(space.subject) > 0.02
    space.step = 1
    assert not warnings(space)
    step.run(space, options)
    assert len(warnings(space)) == (share >= 0.01)


def test_an_archive_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    space = before(tmp_path, subject("llama"))
    files.archive_file().mkdir(parents=True)
    step.keep(space, MEASURED)
    [log] = space.state.log
    assert (log.level, "archive of artifacts cannot be written" in log.message) == ("warning", True)
    files.archive_file().rmdir()
    step.keep(space, MEASURED)
    assert archive.models() == ["demo"]


def test_every_export_has_a_stage_of_its_own(tmp_path: Path) -> None:
    steps = [export("safetensors"), export("sparse"), QUANTIZE, export("safetensors"), export("safetensors")]
    space = before(tmp_path, subject("llama"), *steps)
    names = {}
    for space.step, options in enumerate(steps):
        if isinstance(options, ExportOptions):
            names[space.step] = exported_stage(space, options)
    assert list(names.values()) == [
        "exported safetensors",
        "exported sparse",
        "exported safetensors-2",
        "exported safetensors-3",
    ]
    space.profile = space.profile.model_copy(update={"step": [QUANTIZE, export("sparse")]})
    space.step = 1
    assert exported_stage(space, export("sparse")) == "exported"


class Odd(torch.nn.Module):
    """Tied weights, whole numbers beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(6, 6, bias=False), torch.nn.Linear(6, 6, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("index", torch.tensor([999, 501]))
        self.register_buffer("flags", torch.tensor([True, False]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tied_weights_and_whole_numbers_of_other_modules_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    mine = Subject(Odd(), "odd", "odd")
    FORMATS.load("safetensors").FORMAT.write(mine, tmp_path, dtype)
    again = Odd()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert again.index.tolist() == [999, 501]
    assert again.flags.tolist() == [True, False]
    assert again.two.weight is again.one.weight
    assert torch.equal(again.one.weight, mine.module.one.weight.to(dtype).float())


@pytest.mark.parametrize("name", ["safetensors", "sparse"])
def test_where_texts_end_is_kept(name: str, tmp_path: Path) -> None:
    mine = subject("llama")
    mine.module.generation_config.eos_token_id = [0, 7]
    form = FORMATS.load(name).FORMAT
    form.write(mine, tmp_path, torch.float32)
    options = ModelOptions(source="x", device="cpu", dtype="float32", memory="resident")
    assert ends(form.read(options, tmp_path)) == ends(mine) == {0, 7}
