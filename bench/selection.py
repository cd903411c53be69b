"""Racing a pool of prompts against scoring all of it: is the raced winner as good, for how many of the evaluations?

    python bench/selection.py --task sst2 [--model FOLDER ...] [--seeds 10] [--shares 0.1 0.2 0.35] [--calibration batch]

The pool is the plain prompt and a public list of instructions. Every prompt is scored once on all development rows; each seed
replays the race on them in an order of its own, for every share of the evaluations. Only winners meet the test rows: a raced
one is as good as the exhaustive one where its test accuracy lies in that one's 95% interval; the paired difference is told too.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from functools import partial

import place
import torch

from engine import statistics
from engine.data.rows import Row
from engine.data.tasks import Task, load_task
from engine.fitting import fast_compute
from engine.model import load
from engine.profile import ModelOptions
from engine.profile import parse as parse_profile
from engine.prompts import calibration, pool
from engine.prompts.cache import ScoreCache
from engine.prompts.optimizers import exhaustive, halving
from engine.prompts.options import SelectPromptOptions
from engine.prompts.race import Race, Standing, standing
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


def rows_of(name: str) -> Task:
    file = place.PROFILES / f"{name}.toml"
    [(task, options)] = parse_profile(file.read_text(encoding="utf-8"), file.name).task.items()
    return load_task(task, options, 0)


def raced(prompts: list[Prompt], scores: list[torch.Tensor], rows: Sequence[Row], order: list[int], budget: int,
          kind: str, choose: Callable[[Race], int]) -> tuple[int, int]:  # fmt: skip
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


class Tested:
    """Figures on the test rows, of a prompt when they are first asked for; calibrated on all development rows."""

    def __init__(self, scorer: Scorer, task: Task, prompts: list[Prompt], dev: list[torch.Tensor], kind: str) -> None:
        self.scorer, self.task, self.prompts, self.dev, self.kind = scorer, task, prompts, dev, kind
        self.known: dict[int, Standing] = {}

    def __call__(self, index: int) -> Standing:
        if index not in self.known:
            scores = self.scorer.exact.score(self.prompts[index], self.task.test, self.task.most_choices)
            offsets = calibration.offsets(self.kind, self.dev[index], None)
            self.known[index] = standing(calibration.apply(scores, offsets), [row.gold for row in self.task.test])
        return self.known[index]


def study(task: Task, prompts: list[Prompt], folder: str, shares: list[float], seeds: int, kind: str) -> None:
    subject = load(ModelOptions(source=folder, device="cpu", dtype="float32"), seed=0, allow_code=False)
    tell = lambda done, total: print(f"\r{done}/{total}  ", end="", flush=True)  # noqa: E731
    scorer = Scorer(subject, ScoreCache(), tell, fast_compute(subject.device))
    rows, dev = task.dev, list[torch.Tensor]()
    for number, prompt in enumerate(prompts):
        dev.append(scorer.score(prompt, rows, task.most_choices))
        print(f"\rdevelopment rows scored: prompt {number + 1} of {len(prompts)}", flush=True)
    tested, run = Tested(scorer, task, prompts, dev, kind), partial(raced, prompts, dev, rows, kind=kind)
    every = len(prompts) * len(rows)
    best, _ = run(list(range(len(rows))), every, choose=exhaustive.choose)
    top = tested(best)
    low, high = statistics.wilson(int(top.correct.sum()), len(top.correct))
    print(f"\n{folder}\nexhaustive: {prompts[best].name}, test {top.accuracy:.2%} [{low:.2%}, {high:.2%}], "
          f"n = {len(top.correct)}; plain {tested(0).accuracy:.2%}; {prompts[best].instruction!r}")  # fmt: skip
    for share in shares:
        inside, ties, spent, names = 0, 0, 0, list[str]()
        for seed in range(seeds):
            order = random.Random(seed).sample(range(len(rows)), len(rows))
            winner, used = run(order, int(share * every), choose=halving.choose)
            found = tested(winner)
            compared = statistics.compare(found.correct, top.correct, seed)
            inside += low <= found.accuracy <= high or found.accuracy > high
            ties += compared.high >= 0
            spent = max(spent, used)
            names.append(f"{prompts[winner].name} {found.accuracy:.2%}")
        print(f"raced, {share:.0%} of the evaluations (at most {spent / every:.1%} used): in the interval or above "
              f"{inside}/{seeds}, paired not worse {ties}/{seeds}: {', '.join(names)}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["sst2", "agnews"], default="sst2")
    parser.add_argument("--model", nargs="+", default=["demo"], help="demo, or exported folders")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.2, 0.35])
    parser.add_argument("--calibration", default="batch")
    arguments = parser.parse_args()
    task = rows_of(arguments.task)
    prompts = entrants(task, arguments.task, arguments.prompts)
    print(f"{arguments.task}: {len(prompts)} prompts, {len(task.dev)} development rows, {len(task.test)} test rows")
    for folder in arguments.model:
        study(task, prompts, folder, arguments.shares, arguments.seeds, arguments.calibration)


if __name__ == "__main__":
    main()
