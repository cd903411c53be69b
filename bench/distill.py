"""What recovery and distillation win back, on text that nothing was trained on, beside plain training with the same tokens.

    python bench/distill.py [--only CASE...] [--steps 78] [--rate 1e-4] [--model DIR_OR_GGUF] [--keep FOLDER] [--set KEY=VALUE]

Trained on rows 0-799 of the C4 sample; judged on its rows 800-999 and on WikiText-2's test windows 0-19, of 512 tokens each,
by plain transformers. Every figure is paired over windows: the difference of log-perplexity with a 95% t-interval, and the
share of the gap to the dense model that was closed, with a 95% bootstrap interval over windows. Cases whose losses are in
FOLDER already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import place

from engine.statistics import mean_interval

LENGTH = 512
EXPORT = '{use="export", verify=false}'
RECOVER = '{use="recover"}'
ALONE, BOTH = ", answers=0.0, imitation=1.0", ", answers=1.0, imitation=1.0"


@dataclass(frozen=True)
class Training:
    """The tokens and the pace that all trainings share."""

    text: Path
    steps: int
    rate: float

    def step(self, use: str, more: str = "") -> str:
        return f'{{use="{use}", data="file:{self.text}", steps={self.steps}, learning_rate={self.rate}{more}}}'


def prune(criterion: str, pattern: str = "unstructured") -> str:
    return f'{{use="prune", criterion="{criterion}", pattern="{pattern}"}}'


def cases(how: Training) -> dict[str, list[str]]:
    """Steps by name; what begins alike is compared with the case of the shortest name."""
    kd, ce, mix = how.step("distill", ALONE), how.step("finetune"), how.step("distill", BOTH)
    half = ', student="every-second-block"'
    begun = f'{{use="distill", data="file:{how.text}", steps=1, learning_rate=1e-12{half}}}'
    out = {"dense": [], "dense+ce": [ce]}
    for name, step in (("wanda", prune("wanda")), ("admm", prune("admm")), ("admm-2:4", prune("admm", "2:4"))):
        out |= {name: [step], f"{name}+recover": [step, RECOVER], f"{name}+kd": [step, kd], f"{name}+ce": [step, ce],
                f"{name}+mix": [step, mix], f"{name}+recover+kd": [step, RECOVER, kd],
                f"{name}+recover+ce": [step, RECOVER, ce], f"{name}+recover+mix": [step, RECOVER, mix]}  # fmt: skip
    learned = {f"half+{name}": [how.step("distill", f"{half}{loss}")] for name, loss in (("kd", ALONE), ("mix", BOTH))}
    return {**out, "half": [begun], "half+ce": [begun, ce], **learned}


@dataclass
class Bench:
    """Runs cases and keeps what their models lose on each window of each text, in nats a token."""

    model: str
    folder: Path
    sets: Sequence[str] = ()

    def losses(self, name: str, steps: Sequence[str]) -> dict[str, list[float]]:
        kept = self.folder / f"{name}.json"
        if not kept.is_file():
            began = time.monotonic()
            found = judged(self.exported(name, steps))
            kept.write_text(json.dumps({"minutes": (time.monotonic() - began) / 60, "losses": found}))
        record = json.loads(kept.read_text())
        print(f"{name}: {record['minutes']:.0f} m", flush=True)
        losses: dict[str, list[float]] = record["losses"]
        return losses

    def exported(self, name: str, steps: Sequence[str]) -> Path:
        """The folder that a run of these steps writes; a run that was broken off goes on."""
        folder = self.folder / name
        begin = ["--profile", place.PROFILES / "distill.toml", "--set", f'model.source="{self.model}"',
                 "--set", f"step=[{', '.join([*steps, EXPORT])}]",
                 *(word for item in self.sets for word in ("--set", item))]  # fmt: skip
        how = ["--resume"] if (folder / "profile.toml").is_file() else begin
        command = [place.SCRIPT, "run", *how, "--run-dir", folder]
        subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        return folder / "artifacts" / "model"


def judged(folder: Path) -> dict[str, list[float]]:
    """The mean next-token cross-entropy of every window."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    out = {}
    for name, text in texts().items():
        ids = torch.tensor(tokenizer(text, verbose=False).input_ids)
        windows = [w.to(device) for w in ids.split(LENGTH) if len(w) == LENGTH][: 20 if name == "wikitext" else None]
        with torch.inference_mode():
            out[name] = [float(cross_entropy(model(w[None]).logits[0, :-1].float(), w[1:])) for w in windows]
    return out


def texts() -> dict[str, str]:
    wikitext = place.data() / "text" / "wikitext2-test.tokenised.txt"
    return {"c4": "\n\n".join(rows()[800:1000]), "wikitext": wikitext.read_text(encoding="utf-8")}


def rows() -> list[str]:
    lines = (place.data() / "text" / "c4-sample.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def table(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """A line a case and text: perplexity, and where there is a case to compare with, the difference and the share."""
    lines = [
        "| case | text | perplexity | log-perplexity less than | [95%] | gap to dense closed [95%] |",
        "|" + "---|" * 6,
    ]
    for name, losses in found.items():
        before = name.partition("+")[0]
        for text, mine in losses.items():
            line = f"| {name} | {text} | {np.exp(np.mean(mine)):.2f} "
            plain = name.replace("+kd", "+ce").replace("+mix", "+ce")
            for other in dict.fromkeys(one for one in (before, plain) if one in found and one != name):
                less = np.array(found[other][text]) - np.array(mine)
                low, high = mean_interval(less.tolist())
                line += f"| {other} {less.mean():+.4f} | [{low:+.4f}, {high:+.4f}] "
                if other == before and before != "dense" and "dense" in found:
                    line += f"| {closed(mine, found[before][text], found['dense'][text])} "
            lines.append(line + "|")
    return lines


def closed(after: list[float], before: list[float], dense: list[float]) -> str:
    """(before - after) / (before - dense) of the means, with the interval of 10,000 draws of windows."""
    a, b, d = np.array(after), np.array(before), np.array(dense)
    drawn = np.random.default_rng(0).integers(0, len(a), (10_000, len(a)))
    shares = (b[drawn].mean(1) - a[drawn].mean(1)) / (b[drawn].mean(1) - d[drawn].mean(1))
    low, high = np.percentile(shares, [2.5, 97.5])
    return f"{(b.mean() - a.mean()) / (b.mean() - d.mean()):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--steps", type=int, default=78)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    text = folder.resolve() / "train.jsonl"
    text.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows()[:800]))
    os.environ["COMPRESS_TUI_BENCH_TEXT"] = str(text)
    known, bench = cases(Training(text, args.steps, args.rate)), Bench(args.model, folder, args.sets)
    found = {name: bench.losses(name, known[name]) for name in args.only or known}
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
