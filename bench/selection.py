"""Racing a pool of prompts against scoring all of it: is the raced winner as good, for how many of the evaluations?

    python bench/selection.py --task sst2 [--model dense wanda50 FOLDER ...] [--keep FOLDER] [--prompts 30] [--rows N]
                              [--seeds 10] [--shares 0.1 0.2 0.35] [--calibration batch]

The pool is the plain prompt and a public list of instructions. Every prompt is scored once on all development rows; each seed
replays the race on them in an order of its own, for every share of the evaluations. Only winners meet the test rows: a raced
one is as good as the exhaustive one where its test accuracy lies in that one's 95% interval; the paired difference is told too.
What a prompt gets from a model lies in the folder of --keep, whence a bench that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import place
import prune
import torch

from engine import files
from engine.data.rows import Row
from engine.data.tasks import Task, load_task
from engine.fitting import fast_compute
from engine.model import load, resolve
from engine.profile import ModelOptions
from engine.profile import parse as parse_profile
from engine.prompts import answers, calibration, pool
from engine.prompts.cache import ScoreCache
from engine.prompts.judging import ACCURACY, Standing
from engine.prompts.optimizers import exhaustive, halving
from engine.prompts.options import SelectPromptOptions
from engine.prompts.race import Race
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt

LISTS = ("human", "auto")


def entrants(task: Task, name: str, most: int) -> list[Prompt]:
    """The plain prompt and the public instructions, the written ones first."""
    found = list[str]()
    for kind in LISTS:
        found += pool.read_pool(f"file:{place.data()}/prompts/{name}-{kind}.txt")
    options = SelectPromptOptions.model_validate({"use": "select_prompt", "task": name, "candidates": found})
    return pool.build(task, options, 0)[:most]


def rows_of(name: str, dev: int | None, test: int | None) -> Task:
    """The task of the profile, or the beginning of its splits."""
    file = place.PROFILES / f"{name}.toml"
    [(task, options)] = parse_profile(file.read_text(encoding="utf-8"), file.name).task.items()
    whole = load_task(task, options, 0)
    return replace(whole, dev=whole.dev[:dev], test=whole.test[:test])


def source(model: str, keep: Path) -> str:
    """What to load; the pruned one is made where it is not kept yet."""
    if model == "wanda50":
        run = keep / model
        folder = run / "artifacts" / "model"
        if not folder.exists():
            shutil.rmtree(run, ignore_errors=True)  # stopped on the way
            prune.ours(prune.CASES["wanda"].steps, "demo", 0, run)
        return str(folder)
    return "demo" if model == "dense" else model


@dataclass
class Matrix:
    """Log-likelihoods [rows, choices] of prompts by a model, each kept in a file."""

    scorer: Scorer
    task: Task
    keep: Path

    def dev(self, prompt: Prompt) -> torch.Tensor:
        return self._kept(self.scorer, prompt, self.task.dev)

    def test(self, prompt: Prompt) -> torch.Tensor:
        return self._kept(self.scorer.exact, prompt, self.task.test)

    def _kept(self, scorer: Scorer, prompt: Prompt, rows: Sequence[Row]) -> torch.Tensor:
        about = (scorer.weights, prompt.text(), [row.digest for row in rows])
        file = self.keep / f"{hashlib.blake2b(repr(about).encode(), digest_size=16).hexdigest()}.pt"
        if not file.exists():
            scores = scorer.score(prompt, rows, self.task.most_choices)
            files.write_with(file, lambda path: torch.save(scores, path))
        found: torch.Tensor = torch.load(file)
        return found


def raced(prompts: list[Prompt], scores: list[torch.Tensor], rows: Sequence[Row], order: list[int], budget: int,
          kind: str, choose: Callable[[Race], int]) -> tuple[int, float]:  # fmt: skip
    """The winner of a race over the rows in this order, and the examples it took."""
    places = {id(prompt): index for index, prompt in enumerate(prompts)}
    shuffled = [rows[i] for i in order]
    where = {id(row): i for row, i in zip(shuffled, order, strict=True)}

    def score(prompt: Prompt, new: Sequence[Row]) -> torch.Tensor:
        return scores[places[id(prompt)]][[where[id(row)] for row in new]]

    lengths = [len(prompt.text()) for prompt in prompts]
    race = Race(
        list(prompts), shuffled, budget, kind, lengths, score, lambda prompt: torch.zeros(1, 1), lambda *_: None
    )
    winner = choose(race)
    return winner, race.spent


@dataclass
class Tested:
    """Figures on the test rows, of a prompt when they are first asked for; calibrated on all development rows."""

    matrix: Matrix
    prompts: list[Prompt]
    dev: list[torch.Tensor]
    kind: str
    known: dict[int, Standing] = field(default_factory=dict)

    def __call__(self, index: int) -> Standing:
        if index not in self.known:
            offsets = calibration.offsets(self.kind, self.dev[index], None)
            scores, rows = self.matrix.test(self.prompts[index]), self.matrix.task.test
            self.known[index] = answers.judged(ACCURACY, scores, offsets, rows)
        return self.known[index]


def study(matrix: Matrix, prompts: list[Prompt], shares: list[float], seeds: int, kind: str) -> None:
    rows, dev = matrix.task.dev, list[torch.Tensor]()
    for number, prompt in enumerate(prompts):
        dev.append(matrix.dev(prompt))
        print(f"development rows scored: prompt {number + 1} of {len(prompts)}", flush=True)
    tested, run = Tested(matrix, prompts, dev, kind), partial(raced, prompts, dev, rows, kind=kind)
    every = len(prompts) * len(rows)
    best, _ = run(list(range(len(rows))), every, choose=exhaustive.choose)
    top = tested(best)
    low, high = top.measured.interval(0)
    print(f"exhaustive: {prompts[best].name}, test {top.quality:.2%} [{low:.2%}, {high:.2%}], n = {top.rows}; "
          f"{prompts[best].instruction!r}", flush=True)  # fmt: skip
    for share in shares:
        inside, ties, spent, names = 0, 0, 0.0, list[str]()
        for seed in range(seeds):
            order = random.Random(seed).sample(range(len(rows)), len(rows))
            winner, used = run(order, int(share * every), choose=halving.choose)
            found = tested(winner)
            inside += found.quality >= low
            ties += found.measured.against(top.measured, seed).high >= 0
            spent = max(spent, used)
            names.append(f"{prompts[winner].name} {found.quality:.2%}")
        print(f"\rraced, {share:.0%} of the evaluations (at most {spent / every:.1%} used): in the interval or above "
              f"{inside}/{seeds}, paired not worse {ties}/{seeds}: {', '.join(names)}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["sst2", "agnews"], default="sst2")
    parser.add_argument("--model", nargs="+", default=["dense"], help="dense, wanda50, or exported folders")
    parser.add_argument("--keep", type=Path, help="scores and the pruned model stay here, or are there already")
    parser.add_argument("--prompts", type=int, default=30)
    parser.add_argument("--rows", type=int, help="test rows (all)")
    parser.add_argument("--dev-rows", type=int, help="development rows (all)")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 0.35])
    parser.add_argument("--calibration", default="batch")
    arguments = parser.parse_args()
    task = rows_of(arguments.task, arguments.dev_rows, arguments.rows)
    prompts = entrants(task, arguments.task, arguments.prompts)
    print(f"{arguments.task}: {len(prompts)} prompts, {len(task.dev)} development rows, {len(task.test)} test rows")
    with tempfile.TemporaryDirectory() as name:
        keep = arguments.keep or Path(name)
        (keep / "scores").mkdir(parents=True, exist_ok=True)
        for model in arguments.model:
            print(model, flush=True)
            options = resolve(ModelOptions(source=source(model, keep), dtype="float32"))
            subject = load(options, seed=0, allow_code=False)
            scorer = Scorer(subject, ScoreCache(), compute=fast_compute(subject.device))
            matrix = Matrix(scorer, task, keep / "scores")
            study(matrix, prompts, arguments.shares, arguments.seeds, arguments.calibration)


if __name__ == "__main__":
    main()
