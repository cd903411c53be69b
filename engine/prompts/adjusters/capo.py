"""Evolution of instruction and demonstrations together, the longer prompt at a disadvantage (CAPO, arXiv 2504.16005).

Demonstrations are crossed, added, dropped, swapped, reordered and drawn anew in every child, instructions are merged and
rewritten by the local model in some: on small models the demonstrations are what matters. Unlike the paper's, a generation does
not race: every child meets all of the search's rows, and only the step's finalists are dropped block by block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.data.rows import Row
from engine.prompts import requests
from engine.prompts.adjusting import Adjuster, Setting
from engine.prompts.donors import Donors
from engine.prompts.template import Prompt

SHOWS = True
POPULATION = 6
CHILDREN = 4  # a generation
TRIES = 8  # attempts for each child that a generation is to have
REWORDED = 0.35  # share of children whose instruction is merged or rewritten too
PHRASINGS = 4  # answers to choose a new instruction from
SWAPS = ("add", "drop", "swap", "swap", "reorder", "redraw")


@dataclass(frozen=True)
class Member:
    prompt: Prompt
    fitness: float


def adjust(setting: Setting) -> Adjuster:
    """Generations until no new child is found."""
    donors = Donors.of(setting)
    population: list[Member] = []
    known: set[str] = set()
    asked = beginning(donors, setting)
    longest = max(setting.tokens(prompt) for prompt in asked)
    while asked:
        known |= {prompt.text() for prompt in asked}
        answers = yield asked
        for prompt, answer in zip(asked, answers, strict=True):
            penalty = setting.options.length_penalty * setting.tokens(prompt) / longest
            population.append(Member(prompt, answer.skill - penalty))
        population = sorted(population, key=lambda member: -member.fitness)[:POPULATION]
        asked = children(population, donors, known, setting)


def beginning(donors: Donors, setting: Setting) -> list[Prompt]:
    """The start; demonstrations alone; and the start's instruction and paraphrases of it with draws of demonstrations."""
    text, most, half = setting.instruction(), donors.most, -(-donors.most // 2)
    others = [*(phrasings(requests.paraphrase(text), setting) if text else []), text, text]
    plans = [(text, most), ("", most), (others[0], half), (others[1], most), (text, half)]
    out = [setting.start]
    for instruction, count in plans:
        shown = donors.drawn(count, setting)
        words = "" if instruction == text else "the start in other words, " if instruction else "no instruction, "
        origin = f"{words}{count} demonstrations drawn"
        out.append(replace(setting.start, instruction=instruction, demonstrations=shown, origin=origin))
    return list({prompt.text(): prompt for prompt in out}.values())


def children(population: Sequence[Member], donors: Donors, known: set[str], setting: Setting) -> list[Prompt]:
    """A generation of new prompts; empty when none is found."""
    out: dict[str, Prompt] = {}
    for _ in range(TRIES * CHILDREN):
        if len(out) == CHILDREN:
            break
        child = born(parent(population, setting), parent(population, setting), donors, setting)
        if child.text() not in known:
            out.setdefault(child.text(), child)
    return list(out.values())


def parent(population: Sequence[Member], setting: Setting) -> Prompt:
    """The fitter of two."""
    return max(setting.generator.choices(population, k=2), key=lambda member: member.fitness).prompt


def born(mother: Prompt, father: Prompt, donors: Donors, setting: Setting) -> Prompt:
    """The mother with other demonstrations, and at times with another instruction."""
    told, instruction = [], mother.instruction
    if setting.generator.random() < REWORDED:
        instruction, what = reworded(mother, father, setting)
        told.append(what)
    shown, what = exchanged(mother.demonstrations, father.demonstrations, donors, setting)
    told.append(what)
    return replace(mother, instruction=instruction, demonstrations=shown, origin=", ".join(told))


def reworded(mother: Prompt, father: Prompt, setting: Setting) -> tuple[str, str]:
    """Both parents' instructions merged, or the mother's in other words, and which of it."""
    one, other = mother.instruction, father.instruction
    if not one:
        return other or setting.instruction(), "the other parent's instruction"
    if other and other != one:
        merged = phrasings(requests.crossover(one, other), setting)
        return (setting.generator.choice(merged) if merged else other), "instructions merged"
    found = phrasings(requests.paraphrase(one), setting)
    return (setting.generator.choice(found) if found else one), "in other words"


def phrasings(request: str, setting: Setting) -> list[str]:
    """The local model's different answers to a request."""
    answers = setting.writer.write([request] * PHRASINGS, tokens=requests.LONGEST)
    read = [requests.instruction(answer) for answer in answers]
    return list(dict.fromkeys(text for text in read if text is not None))


def exchanged(
    mother: Sequence[Row], father: Sequence[Row], donors: Donors, setting: Setting
) -> tuple[tuple[Row, ...], str]:
    """The mother's demonstrations, at times crossed with the father's, after one or two edits; and what was done."""
    rows, told = list(mother), []
    if list(father) != rows and setting.generator.random() < 0.5:
        both = rows + [row for row in father if row not in rows]
        count = min(len(both), donors.most, round((len(mother) + len(father)) / 2 + setting.generator.random() - 0.5))
        rows = setting.generator.sample(both, max(0, count))
        told.append("demonstrations crossed")
    for _ in range(setting.generator.choice((1, 1, 2))):
        rows, what = edit(setting.generator.choice(SWAPS), rows, donors, setting)
        told.append(what)
    return tuple(rows), ", ".join(told)


def edit(kind: str, rows: list[Row], donors: Donors, setting: Setting) -> tuple[list[Row], str]:
    """One edit of the demonstrations; what is not possible becomes a new draw."""
    generator, others = setting.generator, [row for row in donors.rows if row not in rows]
    match kind:
        case "add" if others and len(rows) < donors.most:
            new = generator.choice(rarest(others, rows) if donors.labelled else others)
            rows.insert(generator.randrange(len(rows) + 1), new)
            return rows, "one demonstration more"
        case "drop" if rows:
            rows.pop(generator.randrange(len(rows)))
            return rows, "one demonstration less"
        case "swap" if rows and others:
            at = generator.randrange(len(rows))
            alike = [row for row in others if row.gold == rows[at].gold] if donors.labelled else []
            rows[at] = generator.choice(alike or others)
            return rows, "one demonstration for another"
        case "reorder" if len(rows) > 1:
            return generator.sample(rows, len(rows)), "demonstrations reordered"
        case _:
            count = min(len(rows), donors.most) or generator.randint(0, donors.most)
            return list(donors.drawn(count, setting)), f"{count} demonstrations drawn"


def rarest(others: list[Row], rows: Sequence[Row]) -> list[Row]:
    """The candidates of the class that is shown least."""
    shown = Counter(row.gold for row in rows)
    least = min(shown[row.gold] for row in others)
    return [row for row in others if shown[row.gold] == least]
