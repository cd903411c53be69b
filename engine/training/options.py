"""Options of the training steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from engine.options import StepOptions
from engine.pruning.options import PruneOptions

EVERY_SECOND = "every-second-block"
TASK = "task:"
"""begins data that are a task's rows"""


class TrainingOptions(StepOptions):
    """What every training of a whole model has: its data, how long it goes on, and what it may hold in memory."""

    data: str = "calibration"
    """"calibration", a text ("demo", "stdlib", "file:PATH", "hub:ORG/NAME") or "task:NAME"; other modules have features"""
    steps: int = Field(default=100, ge=1)
    """optimizer steps"""
    length: int = Field(default=512, ge=2)
    """tokens a window of a text"""
    learning_rate: float = Field(default=1e-4, gt=0.0)
    """AdamW's largest step, reached after the warm-up, then falling as a cosine"""
    batch: int = Field(default=4, ge=1)
    """windows or rows an optimizer step, of each process"""
    warmup: float = Field(default=0.1, ge=0.0, lt=1.0)
    """share of the optimizer steps in which the learning rate rises"""
    clip: float = Field(default=1.0, gt=0.0)
    """largest norm of a step's gradient"""
    micro_batch: int | None = Field(default=None, ge=1)
    """windows or rows that go through the model at a time; the whole batch when not given"""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """share of a weight that AdamW takes off, times the learning rate, at every step"""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """number format of the products; auto is bfloat16 where the machine has it in hardware. Weights are float32"""
    gradient_checkpointing: bool = False
    """less memory for a third more time: blocks are computed again in the backward pass"""
    held_out: int = Field(default=16, ge=1)
    """windows or rows that are never trained on and judge the training; a quarter of all at most"""
    check_every: int = Field(default=25, ge=1)
    """optimizer steps between two looks at the held-out loss"""
    patience: int = Field(default=3, ge=1)
    """looks without a better one after which the training ends; the best weights stay"""
    save_every: int = Field(default=50, ge=1)
    """optimizer steps between two states that a killed run goes on from"""


class RecoverOptions(TrainingOptions):
    """Win back what compression lost: train the weights that stay, block by block towards the dense model's outputs, or all
    together.
    """

    use: Literal["recover"]
    method: Literal["blockwise", "finetune", "lora"] = "blockwise"
    """blockwise: each block by itself, on the calibration data, no labels needed; finetune: the whole model on right answers,
    zeros kept; lora: low-rank weights B A within the mask, M * (W + B A), merged in the end"""
    epochs: int = Field(default=3, ge=1)
    """blockwise: passes over the calibration data for each block; the other methods count steps"""
    rank: int = Field(default=16, ge=1)
    """lora: rank of B A"""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """AdamW's largest step, reached after the warm-up, then falling as a cosine; 1e-4 where finetune is given none"""
    batch: int = Field(default=2, ge=1)
    """windows or rows an optimizer step"""

    @model_validator(mode="before")
    @classmethod
    def _method_s_own_rate(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("method") == "finetune":
            return {"learning_rate": 1e-4, **given}
        return given

    @model_validator(mode="after")
    def _blockwise_goes_its_own_way(self) -> Self:
        own = {"epochs", "learning_rate", "batch", "warmup", "clip"}
        for name, info in TrainingOptions.model_fields.items():
            changed = name not in own | set(StepOptions.model_fields) and getattr(self, name) != info.default
            if self.method == "blockwise" and changed:
                raise ValueError(
                    f'blockwise has no {name}, it trains on the calibration data: method = "finetune" or "lora"'
                )
        return self


class DistillOptions(TrainingOptions):
    """Train the model, or a smaller one, to answer as a teacher does: a CE + b T² D(teacher, student) + c hidden states."""

    use: Literal["distill"]
    teacher: str = "dense"
    """"dense" (the model before compression) or any other model's source with the same tokenizer"""
    student: str | list[Annotated[int, Field(ge=0)]] = "model"
    """"model" (as it is now, its zeros kept), "every-second-block", a list of the blocks to keep, or another model's source"""
    divergence: Literal["forward", "reverse", "jsd"] = "forward"
    """KL(teacher || student), KL(student || teacher), or the Jensen-Shannon divergence between them"""
    imitation: float = Field(default=1.0, ge=0.0)
    """b, the weight of the divergence"""
    answers: float = Field(default=1.0, ge=0.0)
    """a, the weight of the right answers' cross-entropy"""
    hidden: float = Field(default=0.0, ge=0.0)
    """c, the weight of the states behind every block; needs the teacher in memory (cache = false)"""
    temperature: float = Field(default=1.0, gt=0.0)
    """T: soft labels are softmax(logits / T), of teacher and student alike"""
    cache: bool = True
    """ask the teacher once and keep its likely tokens on disk, so that it is not in memory while the student is trained"""
    top: int = Field(default=64, ge=1)
    """likely tokens kept of each of the teacher's answers; the rest counts as one"""
    fuse: list[Annotated[float, Field(gt=0.0, le=1.0)]] = []
    """shares of the teacher's weights to try in the student's in the end; the best on held-out data, none if none helps"""

    @property
    def models(self) -> list[str]:
        """Sources of other models than the run's own."""
        student = self.student if isinstance(self.student, str) else "model"
        own = ("dense", "model", EVERY_SECOND)
        return [source for source in (self.teacher, student) if source not in own]

    @property
    def other_student(self) -> bool:
        """Whether the student is another model and no part of the run's own."""
        return self.student not in ("model", EVERY_SECOND) and isinstance(self.student, str)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.hidden and self.cache:
            raise ValueError("hidden states are not kept on disk: cache = false, or hidden = 0")
        if not (self.answers or self.imitation or self.hidden):
            raise ValueError("nothing to learn: answers, imitation and hidden are all 0")
        if self.fuse and self.student != "model":
            raise ValueError('only the model as it is has weights like its teacher\'s: student = "model", or fuse = []')
        return self


class SparseTrainOptions(TrainingOptions):
    """Find the weights that stay while they are trained, from a pretrained model or from scratch."""

    use: Literal["sparse_train"]
    method: Literal["gradual", "rigl", "straight_through", "threshold"] = "gradual"
    """gradual: the smallest go, ever more of them, as a cubic; rigl: small ones go, others grow where the gradient is large;
    straight_through: the model sees the largest, all are trained; threshold: those with |w| / sum|w| below it go. rigl and
    straight_through choose anew what stays, also among what steps before have removed"""
    sparsity: float | None = Field(default=None, ge=0.0, lt=1.0)
    """share of every matrix that is zero in the end; 0.5 when neither this nor a threshold is given"""
    threshold: float | None = Field(default=None, gt=0.0)
    """method "threshold" only: the importance |w| / sum|w| below which a weight goes"""
    pattern: str = "unstructured"
    """"unstructured", or N:M as in "2:4" (N of every M neighbours stay)"""
    start: Literal["pretrained", "scratch"] = "pretrained"
    """the weights to begin with: the model's own, or random ones (modules that are no language models)"""
    update_every: int = Field(default=10, ge=1)
    """optimizer steps between two moves of the masks"""
    update_until: float = Field(default=0.75, gt=0.0, le=1.0)
    """share of the steps after which the masks stay; weights found before do not count as the best"""
    drop: float = Field(default=0.3, gt=0.0, lt=1.0)
    """rigl: share of the weights that move at first, falling as a cosine"""

    @property
    def pruning(self) -> PruneOptions:
        """A pruning that leaves the same zeros."""
        asked = {"sparsity": self.sparsity, "threshold": self.threshold, "pattern": self.pattern}
        return PruneOptions.model_validate({"use": "prune", "criterion": "importance", **asked})

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.pruning.structure:
            raise ValueError('must be "unstructured" or N:M: parts are removed by a prune step')
        if (self.threshold is not None) != (self.method == "threshold"):
            raise ValueError('threshold and method "threshold" go together')
        if self.method == "rigl" and self.pruning.n_of_m:
            raise ValueError('rigl moves weights over a whole matrix: pattern = "unstructured", or another method')
        return self


class FinetuneOptions(TrainingOptions):
    """Train the whole model on a text, a task's right answers or its features; what pruning removed stays away."""

    use: Literal["finetune"]
