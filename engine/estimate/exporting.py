"""What an export writes in each format, what its writer holds meanwhile, and what the process that runs the file takes."""

from __future__ import annotations

from dataclasses import replace

from engine.estimate import parts
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.scene import Scene
from engine.export import measured
from engine.export.format import ExportFormat
from engine.export.options import ExportOptions
from engine.options import StepOptions
from engine.pruning.options import PruneOptions
from engine.quantization.options import QuantizeOptions
from engine.quantization.step import format_of
from engine.subject import DTYPES

TOKENIZER = 72  # bytes of a tokenizer's files for each entry of the vocabulary
BUILDER = Work(fixed=25)  # seconds of the ONNX builder's process beside reading and writing
PROCESS = Work(fixed=8)  # seconds until a fresh process has imported its runtime
ANOTHER = 0.4  # of the speed measurement, for one more number of threads
RUNNING = 1.3  # of a file's bytes are in memory while its runtime works
BUILDING = 2  # copies of what the ONNX builder reads that it holds


def size(scene: Scene, options: ExportOptions, form: ExportFormat) -> float:
    """Bytes of the weights in the file, zeros that a sparse one leaves out included."""
    sizes, before = scene.sizes, earlier(scene, options)
    dtype = DTYPES[sizes.dtype if options.dtype == "auto" else options.dtype]
    quantized = [step for step in before if isinstance(step, QuantizeOptions)]
    codes = format_of(quantized[-1]) if quantized else None
    inside, outside = form.bits(dtype, codes, sizes.hidden)
    if quantized and form.codes and quantized[-1].size_ratio is not None:
        rest = sizes.number * (sizes.parameters - sizes.matrix_weights)
        inside = 8 * max(0.0, quantized[-1].size_ratio * sizes.number * sizes.parameters - rest) / sizes.matrix_weights
    if form.sparse:
        pruned = [step.amount for step in before if isinstance(step, PruneOptions) and not step.structure]
        inside = min(inside, 1 + inside * (1 - max(pruned, default=0.0)))
    return (inside * sizes.matrix_weights + outside * (sizes.parameters - sizes.matrix_weights)) / 8


def earlier(scene: Scene, options: ExportOptions) -> list[StepOptions]:
    """The steps before this one."""
    steps = scene.workspace.profile.step
    return steps[: next((i for i, step in enumerate(steps) if step is options), len(steps))]


def writing(scene: Scene, options: ExportOptions, form: ExportFormat) -> Needs:
    """The folder, and a converted copy while it is written (of a streamed model one tensor's); ONNX is made in a process of its
    own of a folder that is thrown away.
    """
    sizes, written = scene.sizes, size(scene, options, form)
    needs = Needs(disk=written + TOKENIZER * sizes.vocabulary, work=Work(traffic=written))
    if form.runtime == "onnx":
        given = max(written, FLOAT * sizes.parameters) if not form.codes else written + FLOAT * sizes.embedding
        built = replace(needs, memory=BUILDING * given, scratch=given)
        return built.then(Needs(work=BUILDER + Work(traffic=4 * given)))
    if form.runtime == "llamacpp":
        return needs.beside(written + FLOAT * sizes.embedding)
    number = sizes.number if options.dtype == "auto" else DTYPES[options.dtype].itemsize
    whole = sizes.embedding if sizes.streamed else sizes.parameters
    return needs.beside(0 if number == sizes.number else number * whole)


def process(scene: Scene, written: float, form: ExportFormat) -> Needs:
    """Load, speed on all numbers of threads, and where no torch model can be read back the text; the questions are extra."""
    sizes, evaluate = scene.sizes, scene.workspace.profile.evaluate
    out = Needs(RUNNING * written, work=PROCESS + Work(traffic=parts.LOADING * written))
    if evaluate.speed:
        threads = scene.workspace.profile.threads or 1
        speed = parts.speed(sizes)
        more = ANOTHER * len(measured.other_counts(threads))
        out = out.then(replace(speed, work=speed.work * (1 + more)).beside(RUNNING * written))
    if form.read is None and evaluate.perplexity not in (None, "none"):
        out = out.then(parts.text(sizes, evaluate.windows, evaluate.length).beside(RUNNING * written))
    return out
