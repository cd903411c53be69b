"""What of a prompt step is known to fail before the model is compressed: the checks that the step makes, on the prompt that
its options begin with (what an earlier step will choose is not known yet).
"""

from __future__ import annotations

import random

from engine.data.tasks import Task
from engine.prompts import adjust, pool, room
from engine.prompts.cache import ScoreCache
from engine.prompts.contest import Contest, check_budget, check_development, fitting_task
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions, PromptStepOptions, SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.workspace import Workspace


def check(workspace: Workspace, options: PromptStepOptions) -> None:
    """Raises UsageError or Unavailable, as the step at the workspace's index would."""
    task = fitting_task(workspace, options)
    match options:
        case SelectPromptOptions():
            check_budget(workspace, options, len(pool.build(task, options, workspace.profile.seed)))
        case AdjustPromptOptions():
            dev = task.dev[: options.dev_rows]
            check_development(task, dev)
            start, plain = first(workspace, task, options), Prompt(pool.BASELINE, task.template)
            adjust.check_budget(workspace, options, (2 - plain.same(start)) * min(options.rows, len(dev) // 2))
        case EmbedPromptOptions():
            check_development(task, task.dev[: options.dev_rows])
            contest = Contest(workspace, options, task, Scorer(workspace.subject), ScoreCache())
            room.check(contest, options, first(workspace, task, options))


def first(workspace: Workspace, task: Task, options: AdjustPromptOptions | EmbedPromptOptions) -> Prompt:
    """The prompt that the options name, the plain one where they leave it to an earlier step."""
    shown = pool.draw(task, options.demonstrations, random.Random(f"{workspace.profile.seed} start"))
    return Prompt(pool.BASELINE, task.template, options.instruction or "", shown)
