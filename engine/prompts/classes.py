"""Every class in every split that a prompt step uses: rows of a class that a split lacks are never shown, judge no prompt, and
are no part of its figures.

A class that no row of the task has is another matter: its words compete with the others, and nothing is lost. So are fewer
rows than there are classes: who asks for so few has been told by their number.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.rows import Row
from engine.data.tasks import SPLITS, Task
from engine.errors import UsageError
from engine.prompts import adjusting
from engine.prompts.options import AdjustPromptOptions, JudgedOptions, SelectPromptOptions, StartedPromptOptions

HINT = "name a file with rows of every class for the split, or take the label and its rows out of the task"


def check(task: Task, options: JudgedOptions) -> None:
    """Raises UsageError for a class that the development or the test rows of a step lack, or the training rows where the step
    shows any.
    """
    used = {"dev": task.dev[: options.dev_rows], "test": task.test[: options.test_rows]}
    if shows(options):
        used["train"] = task.train
    if task.confirm:
        used["confirm"] = task.confirm
    everywhere = present(task, [row for split in SPLITS for row in getattr(task, split)])
    for split, rows in used.items():
        there = present(task, rows)
        lacking = [name for name in everywhere if name not in there]
        if lacking and len(rows) >= len(everywhere):
            cut = len(rows) < len(getattr(task, split))
            hint = f"raise {split}_rows: the file may be sorted by class" if cut else HINT
            message = f"no row of {', '.join(map(repr, lacking))} among the {len(rows)} {split} rows"
            raise UsageError(message, where=f"task {task.name}", hint=hint)


def present(task: Task, rows: Sequence[Row]) -> list[str]:
    """The task's labels that some of the rows have, none for a task whose rows bring their own choices."""
    found = {row.gold for row in rows}
    return [label for index, label in enumerate(task.labels) if index in found]


def shows(options: JudgedOptions) -> bool:
    """Whether a step draws demonstrations."""
    match options:
        case SelectPromptOptions():
            return max(options.demonstrations) > 0 or options.induction > 0
        case AdjustPromptOptions() if adjusting.shows(options.method):
            return options.max_demonstrations > 0 or options.demonstrations > 0
        case StartedPromptOptions():
            return options.demonstrations > 0
    return False
