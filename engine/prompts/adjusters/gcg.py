"""Swaps single tokens of the instruction where the loss's gradient says that it helps (HotFlip, GCG).

The gradient is of the right answer's loss on training rows, with the instruction's own surprisal beside it, so that the text
stays readable (arXiv 2307.15043, 1712.06751); by default only whole words take the place of whole words. What does not read
back as the same tokens is dropped. The step scores the swaps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.errors import UsageError
from engine.prompts import calibration
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.gradient import Question, surprise_gradient, task_gradient
from engine.prompts.surprise import surprisals
from engine.prompts.template import Prompt
from engine.prompts.vocabulary import Vocabulary

LEADS = True
ROWS = 16  # training rows of a gradient
TOP = 256  # replacements considered at each position
SAMPLES = 64  # swaps drawn from them in a round
PROPOSALS = 6  # swaps that the step is to score
PATIENCE = 16  # rounds without a better one before it ends


@dataclass(frozen=True)
class Swap:
    """Token `new` in the place of the one at `at`; `text` reads back as it. `gain` is what the loss is to fall by."""

    at: int
    new: int
    text: str
    gain: float


def adjust(setting: Setting) -> Adjuster:
    """Rounds of swaps in the best instruction so far. Raises UsageError when there is none."""
    best = setting.with_instruction(setting.instruction().strip(), "before the swaps")
    if not best.instruction:
        hint = "give the step an instruction, or the task a description"
        raise UsageError("there is no instruction to change", where="adjust_prompt", hint=hint)
    (standing,) = yield [best]
    skill, idle, known = standing.skill, 0, {best.instruction}
    vocabulary = Vocabulary(setting.subject, setting.options.words_only)
    while idle < PATIENCE:
        idle += 1
        swaps = [swap for swap in found(best, vocabulary, setting) if swap.text not in known][:PROPOSALS]
        if not swaps:
            continue
        known |= {swap.text for swap in swaps}
        asked = [replace(best, instruction=s.text, origin=told(best, s, vocabulary, setting)) for s in swaps]
        answers = yield asked
        gained, prompt = max(zip((a.skill for a in answers), asked, strict=True), key=lambda pair: pair[0])
        if gained > skill:
            best, skill, idle = prompt, gained, 0


def told(prompt: Prompt, swap: Swap, vocabulary: Vocabulary, setting: Setting) -> str:
    old = encode(prompt.instruction, setting)[swap.at]
    return f"{vocabulary.pieces[old]!r} became {vocabulary.pieces[swap.new]!r}"


def found(prompt: Prompt, vocabulary: Vocabulary, setting: Setting) -> list[Swap]:
    """Swaps in the prompt's instruction that read back as they are, the most promising first."""
    rows = setting.generator.sample(setting.task.train, min(ROWS, len(setting.task.train)))
    width = max(len(row.choices) for row in rows)
    sequences = setting.scorer.fitting(prompt, rows, width)
    lead = encode(prompt.instruction, setting)
    lead = lead[: len(os.path.commonprefix([lead, *(list(s.tokens) for s in sequences)]))]
    questions = [
        Question(tuple(s for s in sequences if s.targets[0][0] // width == i), i * width, len(row.choices), row.gold)
        for i, row in enumerate(rows)
    ]
    offsets_C = torch.zeros(width, dtype=torch.float64)
    if setting.options.calibration != "none":
        offsets_C = calibration.offsets("batch", setting.scorer.score(prompt, rows, width), None)
    task_NV = task_gradient(setting.subject, lead, questions, offsets_C, prompt.soft)
    weight = setting.options.readability
    total_NV = task_NV + weight * surprise_gradient(setting.subject, lead, prompt.soft) if weight else task_NV
    drawn = draw(total_NV, lead, vocabulary, setting)
    return ranked(prompt, lead, drawn, task_NV, setting)


def draw(grad_NV: torch.Tensor, lead: Sequence[int], vocabulary: Vocabulary, setting: Setting) -> list[tuple[int, int]]:
    """(position, token): a position at random, a token among those of the steepest descent there."""
    allowed = {at: ids for at in range(len(lead)) if len(ids := vocabulary.replacements(lead, at))}
    if not allowed:
        return []
    top = {}
    for at, ids in allowed.items():
        ids_here = ids.to(grad_NV.device)
        best = (-grad_NV[at, ids_here]).topk(min(TOP, len(ids))).indices
        top[at] = ids_here[best].tolist()
    places = [setting.generator.choice(list(top)) for _ in range(SAMPLES)]
    pairs = [(at, setting.generator.choice(top[at])) for at in places]
    return [(at, new) for at, new in dict.fromkeys(pairs) if new != lead[at]]


def ranked(
    prompt: Prompt, lead: Sequence[int], drawn: Sequence[tuple[int, int]], task_NV: torch.Tensor, setting: Setting
) -> list[Swap]:
    """Those that read back as they are, by the loss's fall: the task's by its gradient, the surprisal's as it is."""
    whole = encode(prompt.instruction, setting)
    tokenizer: Any = setting.subject.tokenizer
    texts: list[tuple[int, int, str, list[int]]] = []
    for at, new in drawn:
        ids = [*whole[:at], new, *whole[at + 1 :]]
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if text == text.strip() and encode(text, setting) == ids:
            texts.append((at, new, text, ids))
    if not texts:
        return []
    costs = surprisals(setting.subject, [list(whole), *(ids for *_, ids in texts)], prompt.soft).mean(1).tolist()
    swaps = []
    for (at, new, text, _), cost in zip(texts, costs[1:], strict=True):
        gain = float(task_NV[at, lead[at]] - task_NV[at, new]) + setting.options.readability * (costs[0] - cost)
        swaps.append(Swap(at, new, text, gain))
    return sorted(swaps, key=lambda swap: -swap.gain)


def encode(text: str, setting: Setting) -> list[int]:
    tokenizer: Any = setting.subject.tokenizer
    ids: list[int] = tokenizer(text).input_ids
    return ids
