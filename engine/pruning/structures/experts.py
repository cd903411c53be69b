"""Experts of a mixture: in every layer those whose gated outputs are smallest on the calibration data leave (REAP).

Saliency of expert j: the mean over the tokens routed to it of gate_j(x) * ||f_j(x)||, in the model as it is before the step
(Lasby et al. 2025). `score = "random"` is the control. The router loses the rows of the removed experts and chooses among
the others; shared experts stay. Which tensors hold an entry an expert is read off an empty model with fewer of them.
"""

from __future__ import annotations

from typing import Any

import torch

from engine import events as ev
from engine.calibration import Walk
from engine.errors import UsageError
from engine.pruning.configs import Changes, Shapes, changed, empty, fitting, shapes_of
from engine.pruning.routing import Activity, Layer, Watch, find
from engine.pruning.structured import Job, Smaller
from engine.subject import Origin, Subject


def shrink(job: Job) -> Smaller:
    """The model without the least active experts, the same number in every layer."""
    workspace, subject = job.workspace, job.workspace.subject
    layers = expert_layers(job)
    groups = groups_of(subject)
    kept = remaining(job, layers, groups)
    settings = configuration(job, layers, kept)
    watch = Watch(Walk.over(workspace), layers)
    stays: dict[str, list[int]] = {}
    for block in watch.run():
        for layer in (one for one in layers if one.block == block):
            stays[layer.name] = survivors(ranking(job, layer, watch.activity[layer.name]), kept, groups)
            tell(job, layer, stays, watch.activity[layer.name].seconds, len(layers))
        workspace.progress("watching experts", block + 1, watch.walk.blocks(), "blocks")
    after = stored(empty(changed(subject.module.config, settings)))
    shorter = shortened(stored(subject.module), after, layers[0].experts, kept)
    weights = cut(subject, shorter, stays)
    summary = {"experts": kept, "of": layers[0].experts, "layers": len(layers), **losses(watch.activity, stays)}
    return Smaller(settings, weights, Origin(), summary)


def check(job: Job) -> Changes:
    """The keys that will change. Raises UsageError when the model, as it is, cannot lose these experts."""
    layers = expert_layers(job)
    return configuration(job, layers, remaining(job, layers, groups_of(job.workspace.subject)))


def expert_layers(job: Job) -> list[Layer]:
    """All expert layers. Raises UsageError where there are none, or a score was named that cannot rank experts."""
    workspace = job.workspace
    place = f"step.{workspace.step}"
    if job.options.score not in ("auto", "random"):
        raise UsageError(f"experts are ranked by their own score, not by {job.options.score!r}",
                         where=f"{place}.score", hint='leave the score out, or take the control, "random"')  # fmt: skip
    subject = workspace.subject
    layers = find(subject, torch.zeros(1, 8, dtype=torch.long)) if subject.is_language_model else []
    if not layers:
        raise UsageError(f"{subject.source} has no experts that could be removed", where=f"{place}.pattern",
                         hint="experts are 3-D parameters of a module called with a token's experts and gates")  # fmt: skip
    counts = sorted({layer.experts for layer in layers})
    if len(counts) > 1:
        raise UsageError(f"the layers have different numbers of experts: {counts}", where=f"{place}.pattern")
    return layers


def groups_of(subject: Subject) -> int:
    """Groups of neighbouring experts that some routers choose among first; 1 where there are none."""
    config: Any = subject.module.config
    return int(getattr(config, "n_group", None) or 1)


def fewest(subject: Subject, layers: list[Layer], groups: int) -> int:
    """The experts that must stay in a layer: as many as a token chooses, within the groups it chooses first."""
    chosen = max(layer.chosen for layer in layers)
    if groups == 1:
        return chosen
    config: Any = subject.module.config
    per_group = -(-chosen // int(getattr(config, "topk_group", None) or 1))
    return groups * max(2, per_group)  # a group is ranked by its best two


def remaining(job: Job, layers: list[Layer], groups: int) -> int:
    """How many experts stay in each layer: whole experts, the same number of every group. Raises UsageError."""
    count, share = layers[0].experts, job.options.amount
    where = f"step.{job.workspace.step}.sparsity"
    kept = count - groups * round(share * count / groups)
    least = fewest(job.workspace.subject, layers, groups)
    if kept < least:
        hint = f"the largest sparsity that works is {1 - least / count:.6g}"
        raise UsageError(f"sparsity {share:g} leaves {kept} of {count} experts, but {least} must stay: every token "
                         f"chooses {max(layer.chosen for layer in layers)}", where=where, hint=hint)  # fmt: skip
    if kept == count and share > 0:
        hint = f"the smallest sparsity that removes any is {groups / count:.6g}"
        raise UsageError(f"sparsity {share:g} removes none of {count} experts", where=where, hint=hint)
    return kept


def ranking(job: Job, layer: Layer, activity: Activity) -> list[int]:
    """The layer's experts, those to keep first: by saliency, then by tokens met."""
    if job.options.score == "random":
        return torch.randperm(layer.experts, generator=job.generator(layer.name)).tolist()
    keys = list(zip(activity.saliency.tolist(), activity.tokens.tolist(), strict=True))
    return sorted(range(layer.experts), key=lambda expert: keys[expert], reverse=True)


def survivors(ranked: list[int], kept: int, groups: int) -> list[int]:
    """The first `kept` experts of a ranking, the same number of every group of neighbours; in ascending order."""
    size = len(ranked) // groups
    members = [[expert for expert in ranked if expert // size == group] for group in range(groups)]
    return sorted(expert for group in members for expert in group[: kept // groups])


def tell(job: Job, layer: Layer, stays: dict[str, list[int]], seconds: float, total: int) -> None:
    removed = sorted(set(range(layer.experts)) - set(stays[layer.name]))
    job.workspace.emit(
        ev.PartsRemoved(step=job.workspace.step, part="experts", block=layer.block, removed=removed, of=layer.experts,
                        error=None, seconds=round(seconds, 4), done=len(stays), total=total)
    )  # fmt: skip


def losses(activity: dict[str, Activity], stays: dict[str, list[int]]) -> dict[str, float]:
    """The removed experts' share of all gated activity, and of the tokens' choices: the mean over layers."""
    shares = {"activity_removed": "gated", "choices_removed": "tokens"}
    out = {}
    for name, what in shares.items():
        sums = [(getattr(activity[layer], what), kept) for layer, kept in stays.items()]
        left = [float(per_E[kept].sum() / per_E.sum().clamp_min(1e-30)) for per_E, kept in sums]
        out[name] = 1 - sum(left) / len(left)
    return out


def configuration(job: Job, layers: list[Layer], kept: int) -> Changes:
    """The keys that change in a model of `kept` experts a layer. Raises UsageError without any."""
    subject, count = job.workspace.subject, layers[0].experts
    if kept == count:
        return {}
    before = shapes_of(subject.module)
    stacks = [f"{layer.name}.{name}" for layer in layers for name, p in layer.module.named_parameters(recurse=False)
              if p.ndim == 3]  # fmt: skip

    def accept(shapes: Shapes) -> bool:
        shorter = shortened(before, shapes, count, kept)
        return all(shorter.get(name) == 0 for name in stacks)

    changes = fitting(subject.module.config, {count: kept}, accept)
    if changes is None:
        raise UsageError(f"no configuration of this model has {kept} experts a layer instead of {count}, all else the same",
                         where=f"step.{job.workspace.step}.pattern",
                         hint="try another pattern: compress-tui list structures")  # fmt: skip
    return changes


def stored(module: torch.nn.Module) -> Shapes:
    """The shapes of all that is stored, what routers keep beside their parameters included."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def shortened(before: Shapes, after: Shapes, count: int, kept: int) -> dict[str, int]:
    """The dimension in which each changed tensor has one entry an expert; empty when anything else differs too."""
    if before.keys() != after.keys():
        return {}
    dims = {}
    for name, old in before.items():
        new = after[name]
        differ = [dim for dim, size in enumerate(old) if len(new) == len(old) and new[dim] != size]
        if new == old:
            continue
        if len(differ) != 1 or (old[differ[0]], new[differ[0]]) != (count, kept):
            return {}
        dims[name] = differ[0]
    return dims


def cut(subject: Subject, shorter: dict[str, int], stays: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """All weights; those in `shorter` with the entries of the experts that stay in the nearest expert layer."""
    weights: dict[str, torch.Tensor] = dict(subject.module.state_dict())
    for name, dim in shorter.items():
        layer = max(stays, key=lambda layer: _shared(name.split("."), layer.split(".")))
        index = torch.tensor(stays[layer], device=weights[name].device)
        weights[name] = weights[name].index_select(dim, index)
    return weights


def _shared(a: list[str], b: list[str]) -> int:
    """How many parts two module paths begin with in common."""
    return next((i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))
