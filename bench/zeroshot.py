"""Zero-shot accuracy of exported folders on PIQA, ARC-easy, BoolQ and LAMBADA with plain transformers, none of our code.

    python bench/zeroshot.py FOLDER... [--rows 500]        score folders
    python bench/zeroshot.py --cases dense wanda admm      prune as bench/prune.py does, then score

Multiple choice: the answer with the highest log-likelihood per character. BoolQ: " yes" against " no". LAMBADA: whether greedy
decoding gives the last word. Prints accuracy with its 95% Wilson interval for each, and the mean of the four.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import place
import prune
import torch
from scipy.stats import binomtest
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH_TOKENS = 4096
SETS = ("piqa", "arc_easy", "boolq", "lambada_openai")


@dataclass(frozen=True)
class Item:
    """One continuation to score: its row, its tokens with the context's, how many are its own, its characters."""

    row: int
    tokens: list[int]
    own: int
    characters: int


class Model:
    """A folder as plain transformers loads it, computing in bfloat16 where the weights are in float32 (autocast)."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(self.device).eval()

    def item(self, row: int, context: str, continuation: str) -> Item:
        start = self.tokenizer(context).input_ids
        whole = self.tokenizer(context + continuation).input_ids
        return Item(row, whole, len(whole) - len(start), len(continuation))

    @torch.inference_mode()
    def score(self, items: Sequence[Item]) -> list[tuple[float, bool]]:
        """For each item the log-likelihood of its own tokens, and whether greedy decoding gives them."""
        out: list[tuple[float, bool]] = [(0.0, False)] * len(items)
        order = sorted(range(len(items)), key=lambda i: len(items[i].tokens))
        while order:
            size = max(1, BATCH_TOKENS // len(items[order[min(len(order), 64) - 1]].tokens))
            batch, order = order[:size], order[size:]
            length = max(len(items[i].tokens) for i in batch)
            ids = torch.tensor([items[i].tokens + [0] * (length - len(items[i].tokens)) for i in batch])
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                hidden = self.model.base_model(ids.to(self.device)).last_hidden_state
            for state, i in zip(hidden, batch, strict=True):
                out[i] = self._own(state, items[i])
        return out

    def _own(self, hidden_TH: torch.Tensor, item: Item) -> tuple[float, bool]:
        end = len(item.tokens)
        targets = torch.tensor(item.tokens[end - item.own :], device=self.device)
        logits = self.model.get_output_embeddings()(hidden_TH[end - item.own - 1 : end - 1].float())
        found = logits.float().log_softmax(-1).gather(1, targets[:, None]).sum()
        return float(found), bool((logits.argmax(-1) == targets).all())


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    text = (place.data() / "multiple_choice" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()[:count]]


def accuracy(model: Model, name: str, count: int) -> tuple[int, int]:
    """(right, of)."""
    rows = rows_of(name, count)
    if name == "lambada_openai":
        items = [model.item(i, row["context"].rstrip(), " " + row["continuation"]) for i, row in enumerate(rows)]
        return sum(greedy for _, greedy in model.score(items)), len(rows)
    items = [
        model.item(i, row["query"] + "\nAnswer:", " " + choice.strip())
        for i, row in enumerate(rows)
        for choice in row["choices"]
    ]
    best: dict[int, list[float]] = {}
    for item, (value, _) in zip(items, model.score(items), strict=True):
        best.setdefault(item.row, []).append(value if name == "boolq" else value / item.characters)
    return sum(values.index(max(values)) == rows[i]["gold"] for i, values in best.items()), len(rows)


def report(label: str, folder: Path, count: int) -> None:
    model, shares = Model(folder), []
    line = f"{label}:"
    for name in SETS:
        right, n = accuracy(model, name, count)
        low, high = binomtest(right, n).proportion_ci(method="wilson")
        shares.append(right / n)
        line += f" {name} {100 * right / n:.1f} [{100 * low:.1f}, {100 * high:.1f}],"
    print(f"{line} mean {100 * sum(shares) / len(shares):.2f}, n {count} each", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--cases", nargs="+", choices=["dense", *prune.CASES], default=[])
    parser.add_argument("--rows", type=int, default=500)
    arguments = parser.parse_args()
    if not arguments.folders and not arguments.cases:
        sys.exit("name folders or --cases")
    for folder in arguments.folders:
        report(folder.name, folder, arguments.rows)
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as work:
            made = Path(work) / "run"
            steps = None if case == "dense" else prune.CASES[case].steps
            folder = prune.dense("demo", made) if steps is None else prune.ours(steps, "demo", 0, made).folder
            report(case, folder, arguments.rows)


if __name__ == "__main__":
    main()
