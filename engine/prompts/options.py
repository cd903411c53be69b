"""Options of the prompt steps."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.options import StepOptions
from engine.prompts.budget import Budget, Written
from engine.registry import ADJUSTERS, OPTIMIZERS, PERTURBATIONS

ALPHA = 0.5
Form = Literal["soft", "prefix"]
ALONE = "the pool is the plain prompt alone: there is nothing to choose from"
MORE = "name candidates, a pool file or templates, demonstrations such as [0, 4], or ask for rewrites or induction"


class JudgedOptions(StepOptions):
    """The rows that prompts are chosen and tested on, and how their scores are read."""

    task: str
    """the task's name: a built-in one or a [task.NAME] table of the profile"""
    calibration: Literal["none", "contextual", "domain", "batch"] = "none"
    """correct the label words' bias: by content-free inputs, by 20 texts of random words of the development rows, or by the
    mean over these rows"""
    dev_rows: int | None = Field(default=None, ge=1)
    """rows of the development split to choose on; all by default"""
    test_rows: int | None = Field(default=None, ge=1)
    """rows of the test split to compare on; all by default"""


class PromptStepOptions(JudgedOptions):
    """What every prompt step chooses on, and what it shows of its choice."""

    budget: Written = 2000
    """examples that may be scored while choosing, 8 for each prompt at least, or "200k tokens" (of the prompt, for every row)
    or "10 minutes\""""
    control: bool = False
    """score the finalists on the dense model too: what share of the right answers lost with the plain prompt is won back"""
    robustness: list[str] = []
    """score the finalists on disturbed test rows too: see `compress-tui list perturbations`"""
    robustness_rows: int = Field(default=200, ge=1)
    """test rows that are disturbed"""

    @property
    def spending(self) -> Budget:
        """The budget, read."""
        return Budget.of(self.budget)

    @field_validator("robustness")
    @classmethod
    def _known_perturbations(cls, names: list[str]) -> list[str]:
        return [PERTURBATIONS.check(name) for name in dict.fromkeys(names)]


class SelectPromptOptions(PromptStepOptions):
    """Choose the best prompt of a pool on a development split and compare it with the baseline on the test split."""

    use: Literal["select_prompt"]
    method: str = "halving"
    """how candidates are compared: see `compress-tui list optimizers`"""
    candidates: list[str] = []
    """instructions to try, put before the task's template on a line of their own"""
    pool: str | None = None
    """"file:PATH" with one instruction a line (\\n in a line is a line break)"""
    templates: list[str] = []
    """further templates to try with every instruction; the task's own is always tried"""
    demonstrations: list[int] = [0]
    """how many labelled examples of the training split to show; each number is tried"""
    demonstration_sets: int = Field(default=1, ge=1)
    """how many random draws of demonstrations to try for each number above zero"""
    demonstration_orders: int = Field(default=1, ge=1)
    """in how many orders to show each draw"""
    rewrites: int = Field(default=0, ge=0)
    """how often to ask the model for a given instruction, or the task's description, in other words"""
    induction: int = Field(default=0, ge=0)
    """how often to ask the model which instruction leads from some labelled training rows to their answers"""
    written_tokens: int = Field(default=60, ge=1)
    """tokens that an instruction which the model writes may have; longer ones are dropped"""

    @property
    def plain_alone(self) -> bool:
        """Whether the options name nothing but the plain prompt."""
        named = (self.pool, self.templates, self.rewrites, self.induction, any(self.demonstrations))
        return not any(named) and not any(text.strip() for text in self.candidates)

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return OPTIMIZERS.check(name)

    @field_validator("pool")
    @classmethod
    def _file(cls, source: str | None) -> str | None:
        if source is not None and not source.startswith("file:"):
            raise ValueError('must be "file:PATH"')
        return source

    @field_validator("demonstrations")
    @classmethod
    def _counts(cls, counts: list[int]) -> list[int]:
        if not counts or min(counts) < 0:
            raise ValueError("must be a list of numbers >= 0, as in [0, 4]")
        return counts


class StartedPromptOptions(PromptStepOptions):
    """The steps that begin with one prompt."""

    instruction: str | None = None
    """the instruction to begin with; by default the prompt that an earlier step chose for the task, else the plain one"""
    demonstrations: int = Field(default=0, ge=0)
    """labelled examples of the training split that the given instruction begins with"""

    @property
    def names_start(self) -> bool:
        """Whether the options say what to begin with."""
        return self.instruction is not None or self.demonstrations > 0


class AdjustPromptOptions(StartedPromptOptions):
    """Change a prompt step by step, keep what scores better on a development split, compare with where it began."""

    use: Literal["adjust_prompt"]
    method: str = "grips"
    """how new prompts are made from old ones: see `compress-tui list adjusters`"""
    rows: int = Field(default=64, ge=1)
    """development rows that every new prompt meets, at most half of them; the choice is made on the others"""
    finalists: int = Field(default=6, ge=1)
    """how many of the best meet more rows at the end"""
    final: float = Field(default=0.4, gt=0.0, lt=1.0)
    """share of the budget that is kept for them"""
    objective: Literal["auto", "accuracy", "length"] = "auto"
    """what wins: accuracy, or the shortest prompt that is sure to lose next to nothing; auto: what the method is for"""
    max_loss: float = Field(default=0.02, ge=0.0)
    """objective length: what the shortest prompt may lose against the start, in the metric's units (0.02: two points of
    accuracy); it wins when the one-sided 95% interval of the paired difference on development rows leaves out a larger loss"""
    max_demonstrations: int = Field(default=5, ge=0)
    """capo, rewrite: labelled examples that a prompt may show"""
    length_penalty: float = Field(default=0.02, ge=0.0)
    """capo: accuracy that a prompt as long as the longest of the first population must make good"""
    readability: float = Field(default=0.01, ge=0.0)
    """gcg: weight of the instruction's own surprisal, in nats a token, beside the loss of the right answer"""
    words_only: bool = True
    """gcg: put in only whole words; otherwise any tokens that read back as themselves"""

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return ADJUSTERS.check(name)


class EmbedPromptOptions(StartedPromptOptions):
    """Train virtual tokens ahead of the best text prompt; they are kept only if better than the text by itself."""

    use: Literal["embed_prompt"]
    form: Form = "soft"
    """soft: embeddings of virtual tokens; prefix: keys and values of virtual tokens in every layer"""
    tokens: int = Field(default=20, ge=1)
    """how many virtual tokens; they begin as the text prompt's own, cut or repeated"""
    behind: Literal["prompt", "template"] = "prompt"
    """what stands behind the virtual tokens: the whole prompt that they are to beat, or the task's template alone, without
    instruction and demonstrations, which is faster to train and to ask"""
    epochs: int = Field(default=10, ge=1)
    """passes over the training rows, at most"""
    patience: int = Field(default=3, ge=1)
    """passes without a better check until the training stops"""
    train_rows: int | None = Field(default=None, ge=1)
    """rows of the training split to train on, drawn from those that the prompt does not show; all by default"""
    rows: int = Field(default=64, ge=1)
    """development rows that every pass is checked on, at most half of them; the choice is made on the others"""
    batch: int = Field(default=16, ge=1)
    """training rows an optimizer step"""
    learning_rate: float = Field(default=3e-3, gt=0.0)
    """AdamW's largest step, reached after the warm-up, then falling as a cosine"""
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    """share of the optimizer steps in which the learning rate rises"""
    clip: float = Field(default=1.0, gt=0.0)
    """largest norm of a step's gradient"""
    alpha: float | None = Field(default=None, ge=0.0, le=1.0)
    """weight of the divergence from the dense model's answers, the rest is for the right answers: by default a half, but
    nothing where free answers are learned and the teacher reads the text alone, which says little of the task; while the model
    is the dense one itself and reads what its teacher does, the right answers are all that counts"""
    taught: Literal["text", "prompt"] = "text"
    """what the dense model reads when it answers: the text behind the virtual tokens, or the whole prompt that they are to
    beat, calibrated as the step is; the two differ with behind = "template\""""
    temperature: float = Field(default=1.0, gt=0.0)
    """softens both models' answers where they are compared"""

    @model_validator(mode="after")
    def _teacher_is_asked(self) -> Self:
        if self.taught == "prompt" and self.alpha == 0:
            raise ValueError('taught = "prompt" asks a teacher, and alpha = 0 learns nothing from one')
        return self

    def weight(self, free: bool) -> float:
        """The teacher's, of free answers or of choices."""
        if self.alpha is not None:
            return self.alpha
        return 0.0 if free and self.taught == "text" else ALPHA
