"""Bits chosen by measured sensitivity against other ways to spend the same bytes: at random, and on the first layers first.

    python bench/mixed.py [--between 0.5] [--randoms 3] [--method gptq] [--set KEY=VALUE ...]

Settings of bench/profiles/quantize.toml: WikiText-2, windows 0 to 19 of its test text. The budget lies `--between` three bits
everywhere and four; every assignment takes as much of it as fits and is quantized by the same method on the same calibration
data. A difference of log-perplexity is the mean over windows of the searched minus the other loss, with the 95% interval of
that mean. Three and four bits everywhere are told for scale.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import place
from torch.nn.functional import cross_entropy

from engine import files, pipeline, profile, runs
from engine.calibration import Walk
from engine.evaluation.logits import window_logits
from engine.evaluation.perplexity import chosen_windows
from engine.matrices import Matrix
from engine.quantization import step, widths
from engine.quantization.options import QuantizeOptions
from engine.statistics import mean_interval
from engine.workspace import Workspace

LEAST, MOST = 3, 4


def prepared(folder: Path, sets: Sequence[str]) -> Workspace:
    """The dense model at the quantize step of a new run."""
    text = (place.PROFILES / "quantize.toml").read_text(encoding="utf-8")
    parsed = profile.parse(text, "quantize.toml", sets)
    run = runs.create("mixed", text, folder)
    workspace = pipeline.prepare(run, parsed, lambda event: None, lambda: False, allow_code=False)
    workspace.step = 0
    return workspace


def losses(workspace: Workspace, bits: dict[str, int]) -> tuple[list[float], dict[str, int]]:
    """Mean next-token cross-entropy of each window after quantization to these bits (none: searched), and the bits."""
    if bits:
        files.write_text(workspace.checkpoint("plan.json"), json.dumps(bits))
    [options] = workspace.profile.step
    assert isinstance(options, QuantizeOptions)
    step.run(workspace, options)
    evaluate, subject = workspace.profile.evaluate, workspace.subject
    tokens = workspace.evaluation_tokens(str(evaluate.perplexity), subject)
    windows = chosen_windows(tokens, evaluate.windows, evaluate.length, evaluate.start)
    answers = window_logits(subject, windows, None)
    found = [float(cross_entropy(y[:-1].float(), window[1:])) for window, y in zip(windows, answers, strict=True)]
    return found, json.loads(workspace.checkpoint("plan.json").read_text(encoding="utf-8"))


def raised(matrices: Iterable[Matrix], room: float, options: QuantizeOptions) -> dict[str, int]:
    """The larger width for the matrices in this order, as long as there is room beside the smaller one of all others."""
    matrices = list(matrices)
    left = room - sum(widths.bytes_of(matrix, LEAST, options) for matrix in matrices)
    bits = {}
    for matrix in matrices:
        price = widths.bytes_of(matrix, MOST, options) - widths.bytes_of(matrix, LEAST, options)
        bits[matrix.name] = MOST if price <= left else LEAST
        left -= price if price <= left else 0
    return bits


def ratio(workspace: Workspace, matrices: Sequence[Matrix], between: float) -> float:
    """The share of the model's bytes that lies so far between the two uniform widths."""
    [options] = workspace.profile.step
    assert isinstance(options, QuantizeOptions)
    least, most = (sum(widths.bytes_of(matrix, width, options) for matrix in matrices) for width in (LEAST, MOST))
    other = workspace.subject.bytes - workspace.subject.dtype.itemsize * sum(m.weight.numel() for m in matrices)
    return (other + least + between * (most - least)) / workspace.subject.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--between", type=float, default=0.5)
    parser.add_argument("--randoms", type=int, default=3)
    parser.add_argument("--method", default="gptq")
    parser.add_argument("--set", nargs="+", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), arguments)


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    """One line an assignment, the searched one first."""
    sets = [f"step.0.method={arguments.method}", *arguments.set]
    first = prepared(folder / "sizes", sets)
    matrices = Walk.over(first).matrices
    sets.append(f"step.0.size_ratio={ratio(first, matrices, arguments.between)}")
    workspace = prepared(folder / "searched", sets)
    [options] = workspace.profile.step
    assert isinstance(options, QuantizeOptions)
    room = widths.budget(workspace.subject, matrices, options)
    searched, bits = losses(workspace, {})
    print(line("searched", searched, size(matrices, bits, options), []), flush=True)
    for name, bits in assignments(matrices, room, options, arguments.randoms).items():
        found, _ = losses(prepared(folder / name.replace(" ", "-"), sets), bits)
        print(line(name, found, size(matrices, bits, options), searched), flush=True)


def assignments(
    matrices: Sequence[Matrix], room: float, options: QuantizeOptions, randoms: int
) -> dict[str, dict[str, int]]:
    """What the search is held against."""
    out = {"first layers first": raised(sorted(matrices, key=lambda matrix: matrix.block), room, options)}
    for seed in range(randoms):
        order = list(matrices)
        random.Random(seed).shuffle(order)
        out[f"random {seed}"] = raised(order, room, options)
    return out | {f"W{width}": dict.fromkeys((m.name for m in matrices), width) for width in (LEAST, MOST)}


def size(matrices: Sequence[Matrix], bits: dict[str, int], options: QuantizeOptions) -> float:
    """Megabytes of the matrices."""
    return sum(widths.bytes_of(matrix, bits[matrix.name], options) for matrix in matrices) / 1e6


def line(name: str, found: list[float], megabytes: float, searched: list[float]) -> str:
    """Perplexity and bytes, and the paired difference of the searched bits to these."""
    text = f"{name}: perplexity {math.exp(sum(found) / len(found)):.3f}, {megabytes:.3f} MB"
    if not searched:
        return text
    differences = [a - b for a, b in zip(searched, found, strict=True)]
    low, high = mean_interval(differences)
    verdict = "tie" if low <= 0 <= high else "searched better" if high < 0 else "searched worse"
    return f"{text}, searched {sum(differences) / len(differences):+.4f} [{low:+.4f}, {high:+.4f}]: {verdict}"


if __name__ == "__main__":
    main()
