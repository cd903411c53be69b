"""Takes the same number of parts out of every block, in one walk: each block sees what the narrowed ones before it give.

During the walk the removed columns of each consumer are zero in the full-size model; what fed them is cut away at the end.

Shapes: P parts, C columns a part, O out, I in.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch

from engine import events as ev
from engine.blockcall import BlockCall
from engine.calibration import Walk
from engine.checkpoints import BlockCheckpoints
from engine.errors import UsageError
from engine.pruning.configs import Changes, Shapes, fitting, shapes_of
from engine.pruning.evidence import Evidence, best, counts
from engine.pruning.parts import Link, of_kind
from engine.pruning.refit import Inputs, observed, refit
from engine.pruning.structured import Job, Smaller
from engine.subject import Origin, Subject
from engine.workspace import Workspace

TRIES = 6  # numbers of parts, nearest first, that a configuration is looked for


@dataclass(frozen=True)
class Plan:
    """The links of all blocks, how many parts stay in each and were wanted, and the configuration of that model."""

    links: list[Link]
    count: int
    wanted: int
    config: Changes


@dataclass
class Narrowing:
    """The walk at work: what stays, per block."""

    job: Job
    walk: Walk
    plan: Plan
    part: str
    stays: list[torch.Tensor] = field(default_factory=list)

    @property
    def workspace(self) -> Workspace:
        return self.job.workspace

    def run(self) -> None:
        kept = BlockCheckpoints(self.workspace)
        with self.walk.context():
            hidden, calls = self.walk.enter()
            for index in range(self.walk.blocks()):
                stay = torch.zeros(self.plan.count, dtype=torch.long)
                weights = {**dict(self.walk.block(index).named_parameters()), "parts that stay": stay}
                if not kept.load(index, weights):
                    stay.copy_(self.block(index, hidden, calls[index]))
                    kept.save(index, weights)
                self.stays.append(stay)
                hidden = self.walk.forward(index, calls[index], hidden, discard=True)
                self.workspace.progress("pruning", index + 1, self.walk.blocks(), "blocks")

    def block(self, index: int, hidden: list[torch.Tensor], calls: list[BlockCall]) -> torch.Tensor:
        """Chooses the parts that stay [count] and zeroes the others where they are read."""
        began, link, options = time.perf_counter(), self.plan.links[index], self.job.options
        parameters = dict(self.walk.block(index).named_parameters())
        weight_OI = view(parameters[link.consumer].data, link)
        with observed(self.walk, {"x": weight_OI}, want_gram=True) as found:
            self.walk.pass_through(index, calls, hidden)
        generator = self.job.generator(f"{self.part} {index}")
        with torch.autocast(weight_OI.device.type, enabled=False):
            known = evidence(link, parameters, found["x"], generator)
            scores = self.job.score()(replace(known, count=self.plan.count, damping=options.damping))
            stay = best(scores, self.plan.count)
            bias = parameters.get(bias_of(link.consumer))
            old_bias = None if bias is None else bias.float()
            done = refit(
                weight_OI.float(), old_bias, found["x"], link.columns(stay), options.damping, options.compensate
            )
        weight_OI.copy_(done.weight)
        if bias is not None and done.bias is not None:
            bias.copy_(done.bias)
        self._tell(index, stay, done.error, time.perf_counter() - began)
        return stay

    def _tell(self, index: int, stay: torch.Tensor, error: float, seconds: float) -> None:
        parts, blocks = self.plan.links[index].parts, self.walk.blocks()
        event = ev.PartsRemoved(
            step=self.workspace.step, part=self.part, block=index, removed=others(stay, parts), of=parts, error=error,
            seconds=round(seconds, 3), done=index + 1, total=blocks,
        )  # fmt: skip
        self.workspace.emit(event)


def narrow(job: Job, part: str, *, wide: bool) -> Smaller:
    """The model with fewer parts of a kind in every block; `wide` parts fill several columns each (attention heads)."""
    workspace, plan_ = job.workspace, plan(job, wide)
    count, parts = plan_.count, plan_.links[0].parts
    if count != plan_.wanted:
        workspace.log(f"{count} of {parts} stay: no model of this kind has {plan_.wanted}", "warning")
    work = Narrowing(job, Walk.over(workspace), plan_, part)
    work.run()
    summary = {"parts": part, "kept": count, "of": parts, "mean_error": mean_error(workspace)}
    return Smaller(plan_.config, sliced(workspace.subject, work), Origin(), summary, masked=True)


def mean_error(workspace: Workspace) -> float | None:
    """Over all blocks of this step, those of an earlier process too; None where nothing was told."""
    removals = (removal for removal in workspace.state.removals if removal.step == workspace.step)
    errors = [removal.error for removal in removals if removal.error is not None]
    return sum(errors) / len(errors) if errors else None


def plan(job: Job, wide: bool) -> Plan:
    """Finds the parts and the number of them nearest to the sparsity that a configuration of this model can have."""
    subject, options = job.workspace.subject, job.options
    links = of_kind(subject, options.pattern, wide)
    link = links[0]
    possible = counts(link.parts, options.amount, 1 if wide else options.multiple)
    for count in possible[:TRIES]:
        config = configuration(subject, links, count)
        if config is not None:
            return Plan(links, count, possible[0], config)
    message = (
        f"no configuration of this model has {possible[0]} of its {link.parts} {options.pattern}, all else the same"
    )
    raise UsageError(message, where="step.pattern", hint="try another pattern: compress-tui list structures")


def configuration(subject: Subject, links: list[Link], count: int) -> Changes | None:
    """The keys that change when `count` parts stay. Keys may count groups of parts' columns (heads) instead of parts."""
    link, model = links[0], subject.module
    sizes = [size for size in range(1, link.width) if link.width % size == 0] or [1]
    numbers = {link.parts * size: count * size for size in sizes}
    known = {value for value in vars(model.config).values() if isinstance(value, int)}
    fixed: list[Changes] = [{}]
    if link.width > 1:  # fewer heads, not narrower ones
        fixed = [{"head_dim": link.parts * link.width // n} for n in numbers if n in known]
    expected = expected_shapes(subject, links, count)
    return fitting(model.config, numbers, lambda shapes: shapes == expected, fixed)


def expected_shapes(subject: Subject, links: list[Link], count: int) -> Shapes:
    """The shapes of all parameters when `count` parts stay."""
    shapes = shapes_of(subject.module)
    for prefix, link in zip(prefixes(subject), links, strict=True):
        for local, rows in link.indices.items():
            shape = list(shapes[f"{prefix}.{local}"])
            shape[link.axes[local]] = count * rows.shape[1]
            shapes[f"{prefix}.{local}"] = tuple(shape)
    return shapes


def sliced(subject: Subject, work: Narrowing) -> dict[str, torch.Tensor]:
    """All weights, the removed parts' cut away."""
    weights = dict(subject.module.state_dict())
    for prefix, link, stay in zip(prefixes(subject), work.plan.links, work.stays, strict=True):
        for local in link.indices:
            name = f"{prefix}.{local}"
            weights[name] = link.cut(local, weights[name], stay)
    return weights


def evidence(
    link: Link, parameters: dict[str, torch.nn.Parameter], inputs: Inputs, generator: torch.Generator
) -> Evidence:
    """What a score of the link's parts may look at."""
    shape = (link.parts, link.width)
    reader = view(parameters[link.consumer], link).float()
    total = torch.zeros(link.parts, device=reader.device)
    for name, rows in link.indices.items():
        squares = parameters[name].float().square().movedim(link.axes[name], 0)
        total += squares.reshape(len(squares), -1).sum(1)[rows.to(total.device)].sum(1)
    return Evidence(
        total, generator, inputs.variance.reshape(shape), inputs.magnitude.reshape(shape),
        reader.square().sum(0).reshape(shape), gram=inputs.centred(bias_of(link.consumer) in parameters), reader=reader,
    )  # fmt: skip


def view(weight: torch.Tensor, link: Link) -> torch.Tensor:
    """The consumer as [O, I]."""
    return weight if link.axes[link.consumer] == 1 else weight.t()


def bias_of(name: str) -> str:
    """The name of the bias beside a weight."""
    return f"{name.rpartition('.')[0]}.bias".lstrip(".")


def prefixes(subject: Subject) -> list[str]:
    """The blocks' names."""
    names = {id(module): name for name, module in subject.module.named_modules()}
    return [names[id(block)] for block in subject.blocks()]


def others(stay: torch.Tensor, parts: int) -> list[int]:
    """What goes."""
    return sorted(set(range(parts)) - set(stay.tolist()))
