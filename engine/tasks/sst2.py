"""Sentiment of a movie review, negative or positive (SST-2 validation, 872 rows)."""

from engine.data.options import TaskOptions

TASK = TaskOptions(
    description="sentiment of a movie review: negative or positive",
    test="demo:hf_datasets/glue/sst2/validation",
    template="Review: {text}\nSentiment:",
    labels={"0": " negative", "1": " positive"},
    text_column="sentence",
)
