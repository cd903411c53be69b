"""A quarter of the block parameters removed, recovered and rounded to four bits, beside the dense model rounded to four bits.

    python bench/compact.py [--only CASE...] [--keep FOLDER] [--set KEY=VALUE ...]

Settings of bench/profiles/quantize.toml. Both are exported as onnx_int4 and measured on the exported file by onnxruntime in a
process of its own: bytes, perplexity on WikiText-2's test windows 0-19 with its interval, tokens a second, memory. Each run
also shows its dense reference of equal bytes and says which of the two dominates. Runs go into FOLDER, and those that are
finished there are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import place

QUANTIZE = '{use="quantize", method="gptq", bits=4, group=32}'
EXPORT = '{use="export", format="onnx_int4"}'
CHANNELS = '{use="prune", pattern="channels", sparsity=0.3334}'
CASES = {
    "dense int4": [QUANTIZE, EXPORT],
    "25% smaller int4": [CHANNELS, QUANTIZE, EXPORT],
    "25% smaller, recovered, int4": [CHANNELS, '{use="recover"}', QUANTIZE, EXPORT],
}


def run(folder: Path, steps: list[str], sets: list[str]) -> dict[str, Any]:
    """The result of a run of these steps, made or gone on with when it is not there."""
    if not (folder / "result.json").is_file():
        begin = ["--profile", place.PROFILES / "quantize.toml"]
        for item in (f"step=[{', '.join(steps)}]", "evaluate.speed=true", *sets):
            begin += ["--set", item]
        how = ["--resume"] if (folder / "profile.toml").is_file() else begin
        subprocess.run(
            [place.SCRIPT, "run", "--json", *how, "--run-dir", folder], check=True, stdout=subprocess.DEVNULL
        )
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def line(name: str, metrics: dict[str, Any]) -> str:
    """What a file is worth."""
    perplexity, value = metrics["perplexity"], {key: metric["value"] for key, metric in metrics.items()}
    text = f"{name}: {value['bytes'] / 1e6:.1f} MB, perplexity {perplexity['value']:.2f}"
    text += f" [{perplexity['low']:.2f}, {perplexity['high']:.2f}]"
    if "decode_tokens_per_second" in value:
        text += f", decode {value['decode_tokens_per_second']:.0f}, prefill {value['prefill_tokens_per_second']:.0f} tokens/s"
    return f"{text}, peak {value['peak_memory_bytes'] / 1e6:.0f} MB" if "peak_memory_bytes" in value else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--set", nargs="+", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        keep = arguments.keep or Path(name)
        for case in arguments.only:
            folder = keep / case.replace(" ", "-").replace(",", "").replace("%", "")
            result = run(folder, CASES[case], arguments.set)
            for stage, metrics in result["stages"].items():
                if stage == "exported" or stage.startswith("dense int"):
                    print(line(f"{case}: {stage}", metrics), flush=True)
            for verdict in dominance(folder):
                print(f"{case}: {verdict}", flush=True)


def dominance(folder: Path) -> list[str]:
    """The report's own lines about the reference of equal bytes."""
    report = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    return [text for text in report if "dominate" in text or "equal bytes" in text]


if __name__ == "__main__":
    main()
