"""What of a prompt step is known to fail before the model is compressed: the checks that the step makes, on the prompt that
its options begin with (what an earlier step will choose is not known yet).
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import UsageError
from engine.prompts import embed, needs, pool, room
from engine.prompts.contest import Contest, fitting_task, length
from engine.prompts.context import SHORTER
from engine.prompts.forward import positions
from engine.prompts.options import (
    AdjustPromptOptions,
    EmbedPromptOptions,
    PromptStepOptions,
    SelectPromptOptions,
    StartedPromptOptions,
)
from engine.prompts.scorer import Scorer
from engine.prompts.template import Prompt
from engine.workspace import Workspace


def check(workspace: Workspace, options: PromptStepOptions) -> None:
    """Raises UsageError or Unavailable, as the step at the workspace's index would. Warns of what may be a mistake."""
    task, seed, where = fitting_task(workspace, options), workspace.profile.seed, f"step.{workspace.step}"
    for warning in pool.literal(given(options), task):
        workspace.log(warning, "warning")
    if isinstance(options, AdjustPromptOptions):
        needs.check_method(task, options, where)
    contest = Contest(workspace, options, task, Scorer(workspace.subject))
    if isinstance(options, EmbedPromptOptions):
        embed.held_back(contest, options)
        room.check(contest, options, pool.named_start(task, options, seed))
        return
    prompts = needs.begun(task, options, seed, where)
    needs.check_budget(task, options, check_lengths(contest, prompts), where)
    alone = options is workspace.profile.step[workspace.step]  # a part of another step has prompts besides its own
    if alone and isinstance(options, SelectPromptOptions):
        pool.check_several(prompts, where)


def given(options: PromptStepOptions) -> list[str]:
    """The instructions that the options name."""
    if isinstance(options, SelectPromptOptions):
        return [instruction.text for instruction in pool.given(options)]
    return [options.instruction or ""] if isinstance(options, StartedPromptOptions) else []


def check_lengths(contest: Contest, prompts: Sequence[Prompt]) -> list[int]:
    """Tokens of every prompt. Raises UsageError for one that leaves a row no room in the model's context."""
    workspace, space = contest.workspace, room.Room(contest)
    lengths = [length(workspace, prompt) for prompt in prompts]
    for prompt, tokens in zip(prompts, lengths, strict=True):
        if not space.fits(prompt):
            message = (
                f"a prompt of {tokens} tokens ({prompt.origin}) needs {space.needs(prompt)} with a row and an answer"
            )
            raise UsageError(f"{message}, but the model has {positions(workspace.subject)} positions",
                             where=f"step.{workspace.step}", hint=SHORTER)  # fmt: skip
    return lengths
