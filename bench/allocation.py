"""Allocations side by side: the same criterion and sparsity, split over the layers in every way, compared window by window.

    python bench/allocation.py [--only uniform owl ...] [--criteria wanda admm] [--sparsities 0.6 0.7] [--start 20]
                               [--windows 20] [--statistics dense] [--compute bfloat16] [--keep FILE]
                               [--set step.0.generations=100 ...]

Settings of bench/profiles/prune.toml. Each exported folder is scored by plain transformers on the same windows of WikiText-2's
test text, which neither calibration nor the search has seen. A plan does not depend on the criterion (models on trial are
pruned by the proxy), so it is made once and handed on as `shares`; its seconds count for all. The difference of log-perplexity
to uniform is the mean over windows, with the 95% interval of that mean. Choose settings on windows 20 to 39, report windows 0
to 19.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import place

from engine.statistics import mean_interval

ALLOCATIONS = ("uniform", "owl", "atp", "sensitivity", "search")


def pruned(criterion: str, sparsity: float, allocation: str, folder: Path, more: list[str], shares: dict) -> dict:
    """Prunes and exports in one run; its plan, the plan by block, and the seconds of planning and of pruning to it."""
    sets = [f"step.0.criterion={criterion}", f"step.0.sparsity={sparsity}", *more]
    given = ",".join(f"{json.dumps(name)}={share}" for name, share in shares.items())
    sets.append(f"step.0.shares={{{given}}}" if shares else f"step.0.allocation={allocation}")
    command: list[object] = [place.SCRIPT, "run", "--run-dir", folder, "--json"]
    if folder.exists():
        command.append("--resume")
    else:
        command += ["--profile", place.PROFILES / "prune.toml", *[word for item in sets for word in ("--set", item)]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    told = [e for e in events if e["kind"] == "sparsity_planned"]  # once more when the run was resumed
    plan, began = told[0], [e["time"] for e in events if e["kind"] == "step_started" and e["use"] == "prune"]
    matrices = {m["name"]: m for e in events if e["kind"] == "model_loaded" for m in e["matrices"]}
    blocks: dict[int, list[float]] = {}
    for name, share in plan["shares"].items():
        blocks.setdefault(matrices[name]["block"], []).append(share)
    ended = max(e["time"] for e in events if e["kind"] == "layer_pruned")
    return {"planning": plan["time"] - max(t for t in began if t <= plan["time"]), "pruning": ended - told[-1]["time"],
            "shares": plan["shares"],
            "blocks": [round(100 * sum(found) / len(found)) for _, found in sorted(blocks.items())]}  # fmt: skip


def losses(folder: Path, start: int, windows: int, compute: str) -> list[float]:
    """Mean next-token cross-entropy of each window of 1024 tokens, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = (place.data() / "text" / "wikitext2-test.tokenised.txt").read_text(encoding="utf-8")
    ids = torch.tensor(AutoTokenizer.from_pretrained(folder)(text, verbose=False).input_ids)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    low = compute == "bfloat16"
    found = []
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        for window in torch.split(ids, 1024)[start : start + windows]:
            logits = model(window[None], use_cache=False).logits[0, :-1].float()
            found.append(float(torch.nn.functional.cross_entropy(logits, window[1:])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(ALLOCATIONS))
    parser.add_argument("--criteria", nargs="+", default=["wanda", "admm"])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.6, 0.7])
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--statistics", choices=["sequential", "dense"], default="sequential")
    parser.add_argument("--compute", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--keep", type=Path, help="a file of losses by window, to go on with")
    parser.add_argument("--runs", type=Path, help="a folder for runs at work, to go on with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        arguments.runs = arguments.runs or Path(name)
        everything(arguments)


def everything(arguments: argparse.Namespace) -> None:
    known = json.loads(arguments.keep.read_text()) if arguments.keep and arguments.keep.is_file() else {}
    for criterion in arguments.criteria:
        for sparsity in arguments.sparsities:
            for allocation in arguments.only:
                one_case(criterion, sparsity, allocation, arguments, known)


def one_case(criterion: str, sparsity: float, allocation: str, arguments: argparse.Namespace, known: dict) -> None:
    more = [f"step.0.statistics={arguments.statistics}", *arguments.set]
    setting = f"{criterion} {sparsity:g} windows {arguments.start}+{arguments.windows} {arguments.statistics}"
    setting += "" if arguments.compute == "float32" else f" scored in {arguments.compute}"
    extra = "".join(f" {item.removeprefix('step.0.')}" for item in arguments.set)
    key = f"{setting} {allocation}{extra}"
    if key not in known:
        folder = arguments.runs / re.sub(r"[^\w.+=-]", "-", key)
        plans: dict[str, dict] = known.setdefault("plans", {})
        name = f"{sparsity:g} {allocation}{extra}"
        shares = plans[name]["shares"] if name in plans and allocation != "uniform" else {}
        about = pruned(criterion, sparsity, allocation, folder, more, shares)
        plan = plans.setdefault(name, {part: about[part] for part in ("shares", "planning")})
        took = {"planning": plan["planning"], "seconds": plan["planning"] + about["pruning"]}
        began = time.monotonic()
        found = losses(folder / "artifacts" / "model", arguments.start, arguments.windows, arguments.compute)
        known[key] = {**took, "blocks": about["blocks"], "losses": found, "scoring": time.monotonic() - began}
        shutil.rmtree(folder)
        if arguments.keep:
            arguments.keep.write_text(json.dumps(known))
    print(line(key, known[key], known.get(f"{setting} uniform{extra}")), flush=True)


def line(key: str, case: dict, uniform: dict | None) -> str:
    """Perplexity, and the paired difference to uniform."""
    mean = sum(case["losses"]) / len(case["losses"])
    text = f"{key}: perplexity {math.exp(mean):.3f}"
    if uniform and uniform is not case:
        differences = [a - b for a, b in zip(case["losses"], uniform["losses"], strict=True)]
        low, high = mean_interval(differences)
        difference = sum(differences) / len(differences)
        verdict = "tie" if low <= 0 <= high else "better" if difference < 0 else "worse"
        text += f", log-perplexity {difference:+.4f} [{low:+.4f}, {high:+.4f}] to uniform: {verdict}"
    return f"{text}; planning {case['planning']:.0f} s, step {case['seconds']:.0f} s; blocks {case['blocks']}"


if __name__ == "__main__":
    main()
