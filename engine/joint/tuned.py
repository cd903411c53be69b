"""What a level finds for itself: its best text, and virtual tokens ahead of it. No test row is looked at here.

Both go on from what the level before has found, as far as it serves: its text stands in the pool, its virtual tokens are
what the training begins with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from engine import files, runs
from engine.joint.options import JointOptions
from engine.prompts import adjust, embed, needs, room, select
from engine.prompts import soft as soft_prompts
from engine.prompts.contest import Contest, prefix
from engine.prompts.embed import Embedding
from engine.prompts.options import EmbedPromptOptions
from engine.prompts.soft import Soft
from engine.prompts.template import Prompt
from engine.workspace import Workspace

CARRIED = "carried"


@dataclass(frozen=True)
class Tuned:
    """A level's prompts: the best text, and virtual tokens ahead of what they were trained with, where any were."""

    text: Prompt
    soft: Prompt | None = None

    def of(self, kind: str) -> Prompt | None:
        """The prompt of the kind "text" or "soft"."""
        return self.text if kind == "text" else self.soft


def tuned(workspace: Workspace, options: JointOptions, before: Tuned | None) -> Tuned:
    """The level's prompts; `before` are those of the level before."""
    found = read(workspace)
    if found is None:
        text = best_text(workspace, options, before.text if before else None)
        embedding = options.embedding()
        found = Tuned(text)
        if embedding:
            work = beginning(workspace.within("embed"), embedding, text, before.soft if before else None)
            found = Tuned(text, replace(work.text, soft=work.trained(work.beginning()[0])))
        write(workspace, found)
    return found


def best_text(workspace: Workspace, options: JointOptions, carried: Prompt | None) -> Prompt:
    """The best of the pool and of the level before's text, adjusted where the options say so."""
    contest = Contest.open(workspace.within("select"), options.selecting())
    more = [replace(carried, name=prefix(contest.workspace) + CARRIED)] if carried else []
    winner = select.choose(contest, options.selecting(), more)
    adjusting = options.adjusting()
    if adjusting is None:
        return contest.race.prompts[winner]
    start = contest.race.prompts[winner]
    contest = Contest.open(workspace.within("adjust"), adjusting)
    guiding(contest, options)
    start = replace(start, name=prefix(contest.workspace) + "start")
    winner, baselines, pick = adjust.adjusted(contest, adjusting, start)
    return contest.race.prompts[contest.decide(winner, baselines, pick)]


def guiding(contest: Contest, options: JointOptions) -> int:
    """Puts the development rows first by which prompts are made: those that a training is checked on, where an adjuster's
    search begins too. Returns how many they are; they do not choose among the prompts.
    """
    embedding, adjusting, race = options.embedding(), options.adjusting(), contest.race
    number = needs.set_apart(contest.task, len(race.rows), adjusting.rows) if adjusting else 0
    held = embed.held_back(contest, embedding) if embedding else []
    race.rows = [*held, *race.rows]
    return max(number, len(held))


def beginning(workspace: Workspace, options: EmbedPromptOptions, text: Prompt, carried: Prompt | None) -> Embedding:
    """A training that begins with the carried virtual tokens, ahead of the text that is better behind them on the rows that it
    is checked on; with the text's own tokens where none fit.
    """
    contest = Contest.open(workspace, options)
    soft = fitting(workspace, carried)
    work = Embedding.of(contest, options, replace(text, soft=soft))
    if carried is None or soft is None:
        return work
    start = max(work.start, carried, key=lambda p: replace(work, start=p).check(p.soft, contest.scorer).skill)
    return replace(work, start=start, rows=room.check(contest, options, start))


def fitting(workspace: Workspace, carried: Prompt | None) -> Soft | None:
    """The virtual tokens, where the model has a place for them."""
    soft = carried.soft if carried else None
    if soft is None or soft.fits(workspace.subject):
        return soft
    workspace.log(f"the model has other sizes now: {soft.tokens} learned {soft.form} tokens are left out", "warning")
    return None


def write(workspace: Workspace, found: Tuned) -> None:
    """Keeps the prompts for resume and for other levels."""
    folder = workspace.checkpoint("prompts")

    def fill(part: Path) -> None:
        if found.soft and found.soft.soft:
            found.soft.soft.save(part, workspace.subject)
        texts = {kind: prompt.as_json() for kind in ("text", "soft") if (prompt := found.of(kind))}
        files.write_text(part / "texts.json", json.dumps(texts))

    files.write_folder(folder, fill)


def read(workspace: Workspace) -> Tuned | None:
    """What `write` kept."""
    folder = workspace.checkpoint("prompts")
    texts = runs.read_json(folder / "texts.json")
    if texts is None:
        return None
    found = {kind: Prompt.from_json(record) for kind, record in texts.items()}
    soft = found.get("soft")
    return Tuned(found["text"], replace(soft, soft=soft_prompts.load(folder)) if soft else None)
