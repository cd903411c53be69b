"""What of a prompt step is known to fail before the model is compressed: the checks that the step makes, on the prompt that
its options begin with (what an earlier step will choose is not known yet).
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import UsageError
from engine.prompts import adjust, pool, room, written
from engine.prompts.contest import Contest, check_budget, fitting_task, length, set_apart
from engine.prompts.context import SHORTER
from engine.prompts.forward import positions
from engine.prompts.options import AdjustPromptOptions, EmbedPromptOptions, PromptStepOptions, SelectPromptOptions
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.workspace import Workspace


def check(workspace: Workspace, options: PromptStepOptions) -> None:
    """Raises UsageError or Unavailable, as the step at the workspace's index would."""
    task, seed = fitting_task(workspace, options), workspace.profile.seed
    dev = task.dev[: options.dev_rows]
    match options:
        case SelectPromptOptions():
            written.check(task, options, f"step.{workspace.step}")
            prompts = pool.build(task, options, seed, written=pool.awaited(options))
            check_budget(workspace, options, check_lengths(workspace, prompts))
        case AdjustPromptOptions():
            adjust.check_method(workspace, task, options)
            rows, start = set_apart(task, dev, options.rows), pool.named_start(task, options, seed)
            begun = [start] if start.same(pool.plain(task)) else [pool.plain(task), start]
            adjust.check_budget(workspace, options, check_lengths(workspace, begun), rows)
        case EmbedPromptOptions():
            set_apart(task, dev, options.rows)
            contest = Contest(workspace, options, task, Scorer(workspace.subject))
            room.check(contest, options, pool.named_start(task, options, seed))


def check_lengths(workspace: Workspace, prompts: Sequence[Prompt]) -> list[int]:
    """Tokens of every prompt. Raises UsageError for one that leaves a row no room in the model's context."""
    limit, lengths = positions(workspace.subject), [length(workspace, prompt) for prompt in prompts]
    for prompt, tokens in zip(prompts, lengths, strict=True):
        if limit is not None and tokens >= limit:
            message = f"a prompt of {tokens} tokens ({prompt.origin}), but the model has {limit} positions"
            raise UsageError(message, where=f"step.{workspace.step}", hint=SHORTER)
    return lengths
