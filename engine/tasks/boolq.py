"""A yes-or-no question about a passage (BoolQ validation, 3,270 rows)."""

from engine.data.options import TaskOptions

TASK = TaskOptions(
    description="a yes-or-no question about a Wikipedia passage",
    test="demo:hf_datasets/boolq/none/validation",
    template="{passage}\nQuestion: {question}?\nAnswer:",
    labels={"false": " no", "true": " yes"},
    text_column="passage",
    label_column="answer",
)
