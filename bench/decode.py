"""Decode and prefill speed of the demo model's files, each by its own runtime in a fresh process, one after the other.

    python bench/decode.py [--threads 2] [--decode 128] [--prefill 512] [--repeats 3] [--node FOLDER] [--keep FOLDER]

Torch float32, ONNX float32, ONNX int4 (GPTQ, groups of 32) and, where --node names a folder in which `npm install
node-llama-cpp` has been done, llama.cpp on the untouched Q4_1 file. Each decodes after a prompt of 20 tokens; medians over the
repeats after one that is not counted. Files are written once into --keep, a temporary folder by default.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import place

from engine.export.runtime.process import LLAMACPP_FOLDER, run
from engine.export.runtime.spec import Spec

PROMPT = 20
CASES = {
    "torch fp32": ("torch", "safetensors", ""),
    "ONNX fp32": ("onnx", "onnx_fp32", ""),
    "ONNX int4": ("onnx", "onnx_int4", '{use="quantize", method="gptq", bits=4, group=32},'),
}
"""name: (runtime, export format, the steps before the export)"""
GOALS = {"torch fp32": 4.5, "ONNX fp32": 2.8, "llama.cpp Q4_1": 1.5}
"""how many times as fast ONNX int4 is to decode"""


def written(name: str, keep: Path) -> Path:
    """The folder of an exported file, made when it is not there."""
    _, form, before = CASES[name]
    folder = keep / form
    if not folder.is_dir():
        scratch = keep / f"run-{form}"
        shutil.rmtree(scratch, ignore_errors=True)
        sets = [f'step=[{before}{{use="export", format="{form}", verify=false}}]', "evaluate.perplexity=none"]
        command = [place.SCRIPT, "run", "--json", "--profile", place.PROFILES / "quantize.toml", "--run-dir", scratch]
        command += [word for item in sets for word in ("--set", item)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.move(scratch / "artifacts" / "model", folder)
        shutil.rmtree(scratch)
    return folder


def figures(arguments: argparse.Namespace, runtime: str, form: str, folder: Path) -> dict[str, float]:
    """What the artifact's runtime takes in a fresh process."""
    prefill = [100 + index for index in range(arguments.prefill)]
    spec = Spec(
        runtime=runtime, form=form, folder=str(folder), threads=arguments.threads, prompt=prefill[:PROMPT],
        decode=arguments.decode, prefill=prefill, repeats=arguments.repeats,
    )  # fmt: skip
    answer = run(spec)
    return {"decode": answer.decode or 0.0, "prefill": answer.prefill or 0.0, "load": answer.load_seconds,
            "first": answer.first_token_seconds or 0.0, "memory": answer.memory}  # fmt: skip


def llamacpp(arguments: argparse.Namespace, keep: Path) -> dict[str, float]:
    """The demo package's own file, under the name that an export has."""
    from engine.inspection import demo_model

    os.environ[LLAMACPP_FOLDER] = str(arguments.node.resolve())
    folder = keep / "demo"
    folder.mkdir(exist_ok=True)
    (folder / "model.gguf").unlink(missing_ok=True)
    (folder / "model.gguf").symlink_to(demo_model())
    return figures(arguments, "llamacpp", "gguf_q4_1", folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--node", type=Path)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        keep = arguments.keep or Path(name)
        keep.mkdir(parents=True, exist_ok=True)
        found = {case: figures(arguments, *CASES[case][:2], written(case, keep)) for case in CASES}
        if arguments.node:
            found["llama.cpp Q4_1"] = llamacpp(arguments, keep)
    for case, taken in found.items():
        print(line(case, taken, found["ONNX int4"]["decode"] / taken["decode"]), flush=True)


def line(case: str, taken: dict[str, float], times: float) -> str:
    text = f"{case}: decode {taken['decode']:.1f}, prefill {taken['prefill']:.1f} tokens/s, load {taken['load']:.2f} s"
    text += f", first token {1000 * taken['first']:.0f} ms, peak {taken['memory'] / 1e6:.0f} MB"
    if case in GOALS:
        text += f"; ONNX int4 is {times:.2f} times as fast (at least {GOALS[case]} wanted)"
    return text


if __name__ == "__main__":
    main()
