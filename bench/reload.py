"""A 2:4 model of four-bit codes as a compressed-tensors folder: what transformers reads against the model in memory.

    python bench/reload.py [--criterion magnitude] [--method rtn] [--set KEY=VALUE ...]

Settings of bench/profiles/quantize.toml. The largest difference of a logit over the first window of WikiText-2's test text, and
the share of matrices' groups of four that hold two zeros or more, as read back. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import place
import torch
from transformers import AutoModelForCausalLM

from engine import pipeline, profile, runs
from engine.calibration import Walk
from engine.evaluation.perplexity import chosen_windows
from engine.export.formats import compressed_tensors
from engine.workspace import Workspace

PRUNE = '{{use="prune", criterion="{}", pattern="2:4"}}'
QUANTIZE = '{{use="quantize", method="{}", bits=4, group=32}}'


def made(folder: Path, steps: str, sets: list[str]) -> Workspace:
    """A run whose steps were done, without any measurement."""
    text = (place.PROFILES / "quantize.toml").read_text(encoding="utf-8")
    parsed = profile.parse(text, "quantize.toml", [f"step=[{steps}]", *sets])
    workspace = pipeline.prepare(runs.create("reload", text, folder), parsed, lambda event: None, lambda: False, False)
    for index, options in enumerate(workspace.profile.step):
        workspace.step = index
        pipeline.one_step(workspace, options)
    return workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criterion", default="magnitude")
    parser.add_argument("--method", default="rtn")
    parser.add_argument("--set", nargs="+", default=[])
    arguments = parser.parse_args()
    steps = f"{PRUNE.format(arguments.criterion)}, {QUANTIZE.format(arguments.method)}"
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "model"
        target.mkdir()
        compare(made(Path(name) / "run", steps, arguments.set), target)


def compare(workspace: Workspace, target: Path) -> None:
    subject, evaluate = workspace.subject, workspace.profile.evaluate
    compressed_tensors.write(subject, target, torch.float32)
    tokens = workspace.evaluation_tokens(str(evaluate.perplexity), subject)
    window = chosen_windows(tokens, 1, evaluate.length, evaluate.start)[0][None]
    read: Any = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    with torch.inference_mode():
        difference = float((read(window).logits - subject.module(window).logits).abs().max())
    found = dict(read.named_parameters())
    groups = [found[matrix.name].view(-1, 4) for matrix in Walk.over(workspace).matrices]
    held = sum(int(((group == 0).sum(1) >= 2).sum()) for group in groups) / sum(len(group) for group in groups)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{size / 1e6:.1f} MB, 2:4 in {held:.2%} of the groups, largest difference of a logit {difference:.1e}")


if __name__ == "__main__":
    main()
