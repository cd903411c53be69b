"""Options of the data sections: cleaning, calibration text, tasks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.errors import UsageError
from engine.options import Options
from engine.registry import METRICS

Scores = Literal["sum", "norm", "pmi"]
Labels = dict[str, str | list[str]]
"""a file's label -> the word that stands for it, or several of them"""
FILE_KINDS = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet")


def verbalized(labels: Labels) -> dict[str, tuple[str, ...]]:
    """All the words of every label."""
    return {label: (words,) if isinstance(words, str) else tuple(words) for label, words in labels.items()}


class CleanOptions(Options):
    """Cleaning of text, done only when asked for; the counts are shown."""

    unicode: Literal["none", "NFC", "NFKC"] = "NFC"
    """Unicode normalization form"""
    whitespace: bool = True
    """collapse runs of blanks, strip the ends"""
    duplicates: bool = True
    """drop documents that are equal after normalization"""
    near_duplicates: float | None = Field(default=None, gt=0.0, le=1.0)
    """drop documents whose 5-word shingles overlap (Jaccard) at least this much with a kept one"""
    min_chars: int = Field(default=1, ge=0)
    """drop shorter documents"""
    max_chars: int | None = Field(default=None, ge=1)
    """drop longer documents"""


class CalibrationOptions(Options):
    """The data whose statistics steer compression."""

    source: str = "demo"
    """"demo", "stdlib", "self" (sampled from the dense model), "file:PATH" ("file:a.jsonl[0:800]": its first 800 rows),
    "hub:ORG/NAME", "builtin" (model's own)"""
    samples: int = Field(default=64, ge=1)
    """windows of text"""
    length: int = Field(default=512, ge=2)
    """tokens a window"""
    column: str = "text"
    """the column with the text in jsonl, csv, tsv and parquet files"""
    label: str = "label"
    """the column with the class, where the file holds numeric features"""
    normalize: bool = True
    """numeric features: zero mean and unit variance per column"""
    chunk: int | None = Field(default=None, ge=1)
    """windows that go through the model together; all at once when memory allows, else decided once and noted here"""
    states: Literal["auto", "memory", "disk"] = "auto"
    """where the data waits between blocks; auto is the disk when it would take a quarter of the free memory"""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """number format of the calibration pass, of training prompts and of scoring development rows; auto is bfloat16 where
    the machine has it in hardware"""
    clean: CleanOptions | None = None
    """cleaning of the text"""


class TaskOptions(Options):
    """A task of labelled rows, answered by the choice with the highest score, or by what the model writes."""

    description: str = ""
    """one line on what is asked"""
    train: str | None = None
    """rows that demonstrations are drawn from: "file:PATH" or "hub:ORG/NAME"; "file:a.csv[0:1000]" are its first thousand,
    "file:text.{en,de}.txt" two files, line by line, as the columns en and de"""
    dev: str | None = None
    """rows that choices are made on; split off the training rows when missing"""
    test: str | None = None
    """rows that are only reported on; split off the development rows when missing"""
    confirm: str | None = None
    """rows that nothing else of a run sees: a step calls a prompt better or worse than another only where they say so too"""
    template: str = "{text}"
    """the text of one row with its fields in braces; the choice follows directly"""
    chat: Literal["off", "on", "auto"] = "off"
    """ask through the tokenizer's chat template: instruction as the system's message, demonstrations as turns; auto: where the
    tokenizer has one"""
    labels: Labels = {}
    """label in the file -> the words that stand for it, with the leading blank; of several the first one is shown, and their
    probabilities are added up"""
    text_column: str = "text"
    """the column with the text"""
    label_column: str = "label"
    """the column with the label"""
    choices_column: str | None = None
    """multiple choice: the column with the list of answers; the label is then an index"""
    answer_column: str | None = None
    """free answers: the column with the right one, or a list of right ones; the model writes, and no choices are scored"""
    scores: Scores = "sum"
    """how a choice is scored; sum: by its log-likelihood, norm: that divided by its characters (acc_norm), pmi: that minus its
    log-likelihood with all fields empty (pointwise mutual information); gcg and embed_prompt learn from log-likelihoods"""
    max_new_tokens: int = Field(default=32, ge=1)
    """free answers: tokens that the model may write"""
    stop: str = "\n"
    """free answers: the text at which one ends, as at the model's own end of text; empty for the latter alone"""
    metric: str | None = None
    """what prompts are judged by: see `compress-tui list metrics`; accuracy by default, exact_match of free answers"""
    clean: CleanOptions | None = None
    """cleaning of the rows' text"""
    overlap: Literal["auto", "refuse", "drop", "allow"] = "auto"
    """train and dev rows that the test split asks too, train rows that the dev split asks, and confirm rows that any of these
    ask: refuse the task, drop them, allow them; auto drops them where at most one in a hundred of the rows repeats"""

    @field_validator("train", "dev", "test", "confirm")
    @classmethod
    def _source(cls, source: str | None) -> str | None:
        if source is not None and not source.startswith(("file:", "hub:", "demo:")):
            raise ValueError('must be "file:PATH" or "hub:ORG/NAME"')
        return source

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: Labels) -> Labels:
        told: dict[str, str] = {}
        for label, words in verbalized(labels).items():
            if not words or not all(word.strip() for word in words):
                raise UsageError(f"label {label!r} needs a word that is not empty", hint='as in " yes"')
            for word in words:
                if word in told:
                    raise ValueError(f"the word {word!r} stands for {told[word]!r} and again for {label!r}")
                told[word] = label
        if len(labels) == 1:
            hint = "name the other label too, with its word; free answers have an answer_column instead"
            raise UsageError(f"{label!r} is the only label: there is nothing to choose from", hint=hint)
        return labels

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str | None) -> str | None:
        return None if name is None else METRICS.check(name)

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if not (self.train or self.dev or self.test):
            raise ValueError("needs at least one of train, dev, test")
        if not self.labels and not self.choices_column and not self.answer_column:
            raise ValueError("needs labels, choices_column for multiple choice, or answer_column for free answers")
        if self.answer_column and (self.labels or self.choices_column):
            raise ValueError("answer_column is for free answers, which have no labels and no choices_column")
        if self.answer_column and self.scores != "sum":
            raise ValueError(f'scores = "{self.scores}" is for choices, and free answers have none')
        if self.scores == "norm" and not self.choices_column:
            raise ValueError('scores = "norm" is for the choices of a choices_column, which differ in length')
        if self.judge == "nll" and self.scores != "sum":
            raise ValueError(f'the metric nll is of log-likelihoods, and scores = "{self.scores}" are none')
        wanted = METRICS.load(self.judge).FOR
        if wanted not in self.kinds:
            raise ValueError(f"the metric {self.judge} is for a task with {wanted}, and this one has {self.kinds[-1]}")
        return self

    @property
    def kinds(self) -> list[str]:
        """What the answers are, in the words of metrics."""
        if self.answer_column:
            return ["answers"]
        return ["choices"] if self.choices_column else ["choices", "labels"]

    @property
    def judge(self) -> str:
        """The metric's name."""
        return self.metric or ("exact_match" if self.answer_column else "accuracy")
