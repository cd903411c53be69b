"""Grade-school science, three to five answers (ARC-Easy: 570 validation rows, 2,376 test rows)."""

from engine.data.options import TaskOptions

TASK = TaskOptions(
    description="a grade-school science question with three to five answers",
    dev="demo:oe_eval_tasks/arc_easy/val_rc_5shot/requests.jsonl.gz",
    test="demo:oe_eval_tasks/arc_easy/test_rc_5shot/requests.jsonl.gz",
    template="{query}",
    text_column="query",
    label_column="gold",
    choices_column="choices",
)
