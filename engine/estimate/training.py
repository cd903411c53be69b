"""What training a whole model needs: gradients, moments and activations in memory, its states on disk, and its products."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.estimate import parts
from engine.estimate.needs import Needs, Work
from engine.estimate.parts import FLOAT
from engine.estimate.scene import Scene
from engine.estimate.sizes import Sizes
from engine.prompts.bounds import BACKWARD_HIDDEN, BACKWARD_WIDE
from engine.training.losses import PIECE
from engine.training.options import TASK, DistillOptions, TrainingOptions

ADAM_PASSES = 8  # float32 numbers read or written for each weight: gradient, mask, norm, and AdamW in one pass
TRAINED = 3  # float32 numbers for each weight beside itself: its gradient and two moments
STATES = 4  # float32 numbers for each weight on disk: the last state with its moments, and the best
KEPT_LOGITS = 3  # of an item's places: as the model gives them, their gradient, and a sum of it
LOGITS = 3  # of the teacher: as it gives them, in float32, as log-probabilities
LIKELY = 6  # bytes of one of the teacher's likely tokens on disk
PIECES = 3 * FLOAT  # bytes of a logit of the piece that is compared


def training(scene: Scene, options: TrainingOptions) -> Needs:
    """What every process needs that trains on the device, and the other ones' models."""
    one, others = alone(scene, options), sharing(scene) - 1
    work = one.work + (one.work + parts.loading(scene.sizes).work) * others
    return replace(one, memory=one.memory + (one.memory + scene.sizes.loaded) * others, work=work)


def sharing(scene: Scene) -> int:
    """How many processes of a training share the model's device."""
    count, device = scene.workspace.profile.processes, scene.workspace.subject.device
    return -(-count // torch.cuda.device_count()) if device.type == "cuda" else count


def alone(scene: Scene, options: TrainingOptions) -> Needs:
    """Steps of forward and backward, checks, the best weights written once a check, the last weights in the run's format."""
    sizes, length = scene.sizes, tokens(scene, options)
    together = min(options.batch, options.micro_batch or options.batch)
    number, kind = number_of(sizes, options), kind_of(sizes, options)
    checks = (1 + options.steps // options.check_every) * options.held_out
    once = parts.forward(
        sizes, options.steps * options.batch * length, length, kind, options.steps * options.batch * length
    )
    looked = parts.forward(sizes, checks * length, length, kind, checks * length)
    calls = parts.calls(sizes, 3 * options.steps * -(-options.batch // together) + checks)
    saves = options.steps // options.save_every
    written = sizes.parameters * FLOAT * (STATES * saves + 1)
    optimizer = Work(traffic=FLOAT * ADAM_PASSES * sizes.parameters * options.steps + written)
    work = once * 3 + looked + calls + optimizer
    if options.gradient_checkpointing:
        work += parts.forward(sizes, options.steps * options.batch * length, length, kind, 0)
    copied = FLOAT if sizes.number != FLOAT else 0
    weights = sizes.parameters * (TRAINED * FLOAT + copied + (number if number != FLOAT else 0) + 1)
    memory = weights + activations(sizes, options, together * length, number)
    scratch = sizes.parameters * FLOAT * (STATES if saves else 1)
    return Needs(memory, disk=sizes.parameters * sizes.number, scratch=scratch, work=work)


def distill(scene: Scene, options: DistillOptions) -> Needs:
    """The teacher asked about every item once before the training, or loaded beside it and asked about every batch."""
    sizes, length = scene.sizes, tokens(scene, options)
    trained, places = training(scene, options), options.steps * options.batch * length
    once = parts.forward(sizes, places, length, kind_of(sizes, options), places)
    count, alike = scene.workspace.profile.processes, sharing(scene)
    asked = Needs(LOGITS * FLOAT * length * sizes.vocabulary, work=once * count).beside(sizes.loaded)
    asked = asked.then(parts.loading(sizes))
    if options.cache and sizes.language:
        return replace(asked, cache=count * places * LIKELY * options.top).then(trained)
    together = min(options.batch, options.micro_batch or options.batch) * length
    beside = sizes.loaded + LOGITS * FLOAT * together * sizes.vocabulary
    return trained.during(Needs(beside * alike, work=once * alike))


def activations(sizes: Sizes, options: TrainingOptions, places: float, number: int) -> float:
    """What a backward pass keeps for so many tokens; of checkpointed blocks their inputs, and all of one."""
    block = places * (BACKWARD_HIDDEN * sizes.hidden * FLOAT + BACKWARD_WIDE * sizes.widest * number)
    blocks = len(sizes.blocks) * block
    if options.gradient_checkpointing:
        blocks = len(sizes.blocks) * places * sizes.hidden * FLOAT + block
    return blocks + sizes.vocabulary * (KEPT_LOGITS * places * number + PIECES * min(PIECE, places))


def tokens(scene: Scene, options: TrainingOptions) -> float:
    """Of an item of the data: a window, a row of a task, or one row of features."""
    if not scene.sizes.language:
        return 1
    if options.data.startswith(TASK):
        task = scene.workspace.task(options.data.removeprefix(TASK))
        return scene.asked(task.train, task.template).mean
    return scene.sizes.length if options.data == "calibration" else options.length


def kind_of(sizes: Sizes, options: TrainingOptions) -> str:
    """The number format of the products; what is decided for calibration holds for training too."""
    if options.compute != "auto":
        return options.compute
    return sizes.compute if sizes.language else "float32"


def number_of(sizes: Sizes, options: TrainingOptions) -> int:
    """Bytes of a number in the products."""
    return 2 if kind_of(sizes, options) == "bfloat16" else FLOAT
