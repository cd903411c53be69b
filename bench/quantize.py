"""Quantization methods side by side: perplexity at four and three bits over calibration seeds, and the exported ONNX file.

    python bench/quantize.py [--seeds 0 1 2] [--bits 4 3] [--methods rtn gptq awq] [--group 32] [--set KEY=VALUE ...]

Settings of bench/profiles/quantize.toml: WikiText-2, windows 0 to 19 of its test text. Nearer is the share of the distance to
the dense model, in log-perplexity, that a method takes away from rounding to the nearest, by the means over the seeds. With
four bits among --bits the last GPTQ model is exported as onnx_int4 and scored by onnxruntime on the same windows.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import place

EXPORT = {"use": "export", "format": "onnx_int4", "tolerance": 10.0}


def stages(folder: Path, sets: list[str], export: bool) -> dict[str, float]:
    """{stage: perplexity} of a run with these settings."""
    text = (place.PROFILES / "quantize.toml").read_text(encoding="utf-8")
    if export:
        text += "\n[[step]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in EXPORT.items())
    profile = folder.with_suffix(".toml")
    profile.write_text(text, encoding="utf-8")
    words = [word for item in sets for word in ("--set", item)]
    command = [place.SCRIPT, "run", "--json", "--profile", profile, "--run-dir", folder, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))["stages"]
    return {stage: metrics["perplexity"]["value"] for stage, metrics in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--bits", nargs="+", type=int, default=[4, 3])
    parser.add_argument("--methods", nargs="+", default=["rtn", "gptq", "awq"])
    parser.add_argument("--group", type=int, default=32)
    parser.add_argument("--set", nargs="+", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for bits in arguments.bits:
            compare(bits, arguments, Path(name))


def compare(bits: int, arguments: argparse.Namespace, folder: Path) -> None:
    """One line a method, then one for the exported file."""
    found: dict[str, list[float]] = {}
    dense, file = math.nan, math.nan
    for method in arguments.methods:
        seeds = arguments.seeds[:1] if method == "rtn" else arguments.seeds  # which looks at no inputs
        for seed in seeds:
            last = bits == 4 and method == "gptq" and seed == seeds[-1]
            sets = [f"seed={seed}", f"step.0.method={method}", f"step.0.bits={bits}", f"step.0.group={arguments.group}"]
            run = stages(folder / f"{method}-{bits}-{seed}", [*sets, *arguments.set], last)
            found.setdefault(method, []).append(run["quantized"])
            dense, file = run["dense"], run.get("exported", file)
        print(line(method, bits, found, dense), flush=True)
    if not math.isnan(file):
        change = file / found["gptq"][-1] - 1
        print(f"W{bits} onnx_int4 file of the last GPTQ model: {file:.3f}, {100 * change:+.2f}% of the same in torch")


def line(method: str, bits: int, found: dict[str, list[float]], dense: float) -> str:
    values = found[method]
    mean = sum(map(math.log, values)) / len(values) - math.log(dense)
    each = " ".join(f"{value:.3f}" for value in values)
    text = f"W{bits} {method}: {each}; dense {dense:.3f}, {100 * math.expm1(mean):+.2f}%"
    if method != "rtn" and "rtn" in found:
        rounding = math.log(found["rtn"][0] / dense)
        text += f", {100 * (1 - mean / rounding):.0f}% nearer than rtn"
    return text


if __name__ == "__main__":
    main()
