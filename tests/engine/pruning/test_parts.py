"""The parts of a block, the configuration's keys and the numbers of parts are found without a name."""

from __future__ import annotations

import pytest
import torch
from fixtures.models import subject

from engine.errors import UsageError
from engine.pruning.configs import fitting, shapes_of
from engine.pruning.evidence import counts
from engine.pruning.parts import links


@pytest.mark.parametrize(
    ("name", "consumers"),
    [("llama", {"self_attn.o_proj.weight": (2, 16), "mlp.down_proj.weight": (64, 1)}),
     ("gemma3_text", {"self_attn.o_proj.weight": (2, 32), "mlp.down_proj.weight": (64, 1)}),
     ("opt", {"self_attn.out_proj.weight": (4, 8), "fc2.weight": (64, 1)}),
     ("gpt2", {"attn.c_proj.weight": (4, 8), "mlp.c_proj.weight": (128, 1)}),
     ("mixtral", {"self_attn.o_proj.weight": (2, 16)})],
)  # fmt: skip
def test_parts_and_their_widths(name: str, consumers: dict[str, tuple[int, int]]) -> None:
    for found in links(subject(name)):
        assert {link.consumer: (link.parts, link.width) for link in found} == consumers


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt_neox", "opt", "gpt2"])
def test_every_row_belongs_to_one_part(name: str) -> None:
    mine = subject(name)
    for block, found in zip(mine.blocks(), links(mine), strict=True):
        for link in found:
            for parameter, rows in link.indices.items():
                size = block.get_parameter(parameter).shape[link.axes[parameter]]
                assert rows.flatten().sort().values.tolist() == list(range(size))
                everything = link.cut(parameter, block.get_parameter(parameter), torch.arange(link.parts))
                assert torch.equal(everything, block.get_parameter(parameter)), "in the order that it was"


def test_dead_weights_hide_nothing() -> None:
    mine, whole = subject("opt"), links(subject("opt"))
    for parameter in mine.module.parameters():
        parameter.data.zero_()
    for a, b in zip(links(mine), whole, strict=True):
        assert [(x.consumer, x.parts, sorted(x.indices)) for x in a] == [
            (x.consumer, x.parts, sorted(x.indices)) for x in b
        ]


def test_stacked_query_key_value_and_gate_up_matrices_are_taken_apart() -> None:
    found = {link.width > 1: link for link in links(subject("gpt2"))[0]}
    rows = found[True].indices["attn.c_attn.weight"]
    assert rows[1].tolist() == [*range(8, 16), *range(40, 48), *range(72, 80)]
    neox = {link.width > 1: link for link in links(subject("gpt_neox"))[0]}
    assert neox[True].indices["attention.query_key_value.bias"][1].tolist() == list(range(24, 48))
    assert all(link.parts == 4 for link in (found[True], neox[True]))


def test_keys_are_found_by_value_and_by_what_they_do() -> None:
    """The sliding window is as wide as the MLP, and changes no shape; layers are as many as key-value heads."""
    mine = subject("gemma2")
    expected = {
        name: tuple(48 if size == 64 else size for size in shape) for name, shape in shapes_of(mine.module).items()
    }
    heads = {64}
    assert heads == {mine.module.config.sliding_window, mine.module.config.intermediate_size}
    narrow = {n: s for n, s in expected.items() if "mlp" in n}
    found = fitting(mine.module.config, {64: 48}, lambda shapes: narrow.items() <= shapes.items())
    assert found == {"intermediate_size": 48}
    assert fitting(mine.module.config, {64: 48}, lambda shapes: False) is None


@pytest.mark.parametrize(
    ("parts", "sparsity", "multiple", "first"),
    [(1536, 1 / 3, 8, 1024), (64, 0.3, 8, 48), (64, 0.3, 1, 45), (3, 0.3, 1, 2), (9, 0.99, 8, 8), (64, 0.999, 8, 8)],
)
def test_what_stays_is_the_nearest_multiple(parts: int, sparsity: float, multiple: int, first: int) -> None:
    found = counts(parts, sparsity, multiple)
    assert found[0] == first
    assert all(0 < count < parts and count % multiple == 0 for count in found)


@pytest.mark.parametrize(("parts", "sparsity", "multiple"), [(64, 0.01, 8), (3, 0.1, 1), (8, 0.3, 8), (6, 0.5, 8)])
def test_removing_nothing_is_refused_with_the_least_that_can_go(parts: int, sparsity: float, multiple: int) -> None:
    with pytest.raises(UsageError, match="removes nothing") as refused:
        counts(parts, sparsity, multiple)
    assert refused.value.hint
