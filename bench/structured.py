"""Structured pruning: what compensation and recovery each win back, how much smaller and faster the exported folder is.

    python bench/structured.py [--pattern channels] [--sparsity 0.3334] [--start 0] [--only CASE...] [--model DIR_OR_GGUF]

Settings of bench/profiles/prune.toml. Perplexity by the evaluator beside the data; decode speed is plain transformers'
`generate` (128 tokens after 20), dense and smaller in turn, the ratio of the medians. The share of the gap that is closed is
of log-perplexity, between the dense model and plain magnitude pruning of the same parts.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import prune

ROUNDS = 7
CASES = {
    "magnitude": ('score="magnitude", compensate=false', False),
    "score": ("compensate=false", False),
    "score+compensate": ("compensate=true", False),
    "score+recover": ("compensate=false", True),
    "score+compensate+recover": ("compensate=true", True),
}


def steps(case: str, pattern: str, sparsity: float) -> str:
    options, recover = CASES[case]
    return f'{{use="prune", pattern="{pattern}", sparsity={sparsity}, {options}}}' + (
        ', {use="recover"}' if recover else ""
    )


def loaded(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def block_parameters(model: Any) -> int:
    """Parameters of all but the embeddings."""
    embeddings = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in embeddings)


def decode_seconds(model: Any) -> float:
    """128 tokens after a prompt of 20."""
    import torch

    ids = torch.arange(100, 120)[None]
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=128, max_new_tokens=128,
                       pad_token_id=0)  # fmt: skip
    return time.perf_counter() - began


def speed_ratio(dense: Path, smaller: Path) -> tuple[float, float]:
    """(dense seconds / smaller's, share of block parameters that are gone)."""
    models = [loaded(dense), loaded(smaller)]
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for model, found in zip(models, seconds, strict=True):
            found.append(decode_seconds(model))
    ratio = statistics.median(seconds[0][1:]) / statistics.median(seconds[1][1:])
    return ratio, 1 - block_parameters(models[1]) / block_parameters(models[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pattern", default="channels")
    parser.add_argument("--sparsity", type=float, default=0.3334)
    parser.add_argument("--start", type=int, default=0, help="first window of the test text; 20 while developing")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--model", default="demo", help="a folder or a GGUF file of another model")
    arguments = parser.parse_args()
    source = arguments.model if arguments.model == "demo" else str(Path(arguments.model).resolve())
    with tempfile.TemporaryDirectory() as name:
        dense = prune.dense(source, Path(name) / "dense")
        figures = {"dense": prune.score(dense, arguments.start)["perplexity"]}
        print(f"dense: perplexity {figures['dense']}", flush=True)
        for case in arguments.only:
            made = prune.ours(steps(case, arguments.pattern, arguments.sparsity), source, 0, Path(name) / case)
            figures[case] = prune.score(made.folder, arguments.start)["perplexity"]
            line = f"{case}: perplexity {figures[case]}, {made.seconds:.0f} s, recovery {made.recovery:.0f} s"
            print(line + closed(figures, case), flush=True)
        ratio, gone = speed_ratio(dense, made.folder)
        print(f"{case}: {100 * gone:.1f}% of the block parameters gone, decodes {ratio:.3f} x as fast", flush=True)


def closed(figures: dict[str, float], case: str) -> str:
    """Share of the log-perplexity gap that plain magnitude pruning opened."""
    if "magnitude" not in figures or case == "magnitude":
        return ""
    logs = {name: math.log(value) for name, value in figures.items()}
    share = (logs["magnitude"] - logs[case]) / (logs["magnitude"] - logs["dense"])
    return f", {100 * share:.0f}% of magnitude's gap closed"


if __name__ == "__main__":
    main()
