"""Zero-shot accuracy of exported folders on PIQA, ARC-easy, BoolQ and LAMBADA with plain transformers, none of our code.

    python bench/zeroshot.py FOLDER... [--rows 500]        score folders
    python bench/zeroshot.py --cases dense wanda admm      prune as bench/prune.py does, then score

Multiple choice: the answer with the highest log-likelihood, per character where answers are longer than a token (BoolQ's are
not: " yes", " no"). LAMBADA: whether greedy decoding gives the last word. Prints accuracy and 95% Wilson interval for each, and
the mean of the four.
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

from engine.allocator import keep_freed_memory

BATCH_TOKENS = 4096
SETS = ("piqa", "arc_easy", "boolq", "lambada_openai")


@dataclass(frozen=True)
class Item:
    """One sequence to compute: its row, its tokens, and the continuations that end it.

    Several continuations are a token each, all predicted at the sequence's end; a single one ends within it.
    """

    row: int
    tokens: list[int]
    own: list[list[int]]
    characters: int = 1


class Model:
    """A folder as plain transformers loads it, computing in bfloat16 where the weights are in float32 (autocast)."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(self.device).eval()

    def items(self, row: int, context: str, continuations: Sequence[str]) -> list[Item]:
        start = self.tokenizer(context).input_ids
        own = [self.tokenizer(context + text).input_ids[len(start) :] for text in continuations]
        if all(len(tokens) == 1 for tokens in own):
            return [Item(row, start, own)]
        return [
            Item(row, start + tokens[:-1], [tokens], len(text)) for tokens, text in zip(own, continuations, strict=True)
        ]

    @torch.inference_mode()
    def score(self, items: Sequence[Item]) -> list[tuple[list[float], bool]]:
        """For each item the log-likelihoods of its continuations, and whether greedy decoding gives the first."""
        out: list[tuple[list[float], bool]] = [([], False)] * len(items)
        order = sorted(range(len(items)), key=lambda i: len(items[i].tokens))
        while order:
            size = max(1, BATCH_TOKENS // len(items[order[min(len(order), 64) - 1]].tokens))
            batch, order = order[:size], order[size:]
            length = max(len(items[i].tokens) for i in batch)
            ids = torch.tensor([items[i].tokens + [0] * (length - len(items[i].tokens)) for i in batch])
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                hidden = self.model.base_model(ids.to(self.device)).last_hidden_state
            for state, i in zip(hidden, batch, strict=True):
                out[i] = self._own(state[: len(items[i].tokens)], items[i])
        return out

    def _own(self, hidden_TH: torch.Tensor, item: Item) -> tuple[list[float], bool]:
        longest = max(len(tokens) for tokens in item.own)
        logits = self.model.get_output_embeddings()(hidden_TH[-longest:].float())
        targets = torch.tensor(item.own, device=self.device)
        found = logits.log_softmax(-1).expand(len(targets), -1, -1).gather(2, targets[:, :, None]).sum((1, 2))
        return found.tolist(), bool((logits.argmax(-1) == targets[0]).all())


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    text = (place.data() / "multiple_choice" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()[:count]]


def accuracy(model: Model, name: str, count: int) -> tuple[int, int]:
    """(right, of)."""
    rows = rows_of(name, count)
    if name == "lambada_openai":
        asked = [(row["context"].rstrip(), [" " + row["continuation"]]) for row in rows]
    else:
        asked = [(row["query"] + "\nAnswer:", [" " + choice.strip() for choice in row["choices"]]) for row in rows]
    items = [item for i, (context, choices) in enumerate(asked) for item in model.items(i, context, choices)]
    scored = model.score(items)
    if name == "lambada_openai":
        return sum(greedy for _, greedy in scored), len(rows)
    best: dict[int, list[float]] = {}
    for item, (values, _) in zip(items, scored, strict=True):
        best.setdefault(item.row, []).extend(value / item.characters for value in values)
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
    keep_freed_memory()  # speed alone
    if not arguments.folders and not arguments.cases:
        sys.exit("name folders or --cases")
    for folder in arguments.folders:
        report(str(folder), folder, arguments.rows)
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as work:
            made = Path(work) / "run"
            steps = None if case == "dense" else prune.CASES[case].steps
            folder = prune.dense("demo", made) if steps is None else prune.ours(steps, "demo", 0, made).folder
            report(case, folder, arguments.rows)


if __name__ == "__main__":
    main()
