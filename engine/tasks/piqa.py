"""How to reach an everyday goal, the better of two ways (PIQA validation, 1,838 rows)."""

from engine.data.options import TaskOptions

TASK = TaskOptions(
    description="the better of two ways to reach an everyday goal",
    test="demo:oe_eval_tasks/piqa/val_rc_5shot/requests.jsonl.gz",
    template="Goal: {goal}\nAnswer:",
    text_column="goal",
    label_column="gold",
    choices_column="choices",
)
