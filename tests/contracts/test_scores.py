"""Laws of every registered score of parts; a new file in engine/pruning/scores is tested here without further edits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures.models import DEVICES

from engine.pruning.evidence import Evidence, best
from engine.registry import SCORES, STRUCTURES

NAMES = SCORES.names()
PARTS, COLUMNS = 10, 3


def evidence(device: str = "cpu", useless: int | None = None) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    fields = {
        name: torch.rand(PARTS, COLUMNS, generator=generator) + 0.1 for name in ("variance", "magnitude", "norms")
    }
    fields |= {name: torch.rand(PARTS, generator=generator) + 0.1 for name in ("weights", "influence")}
    if useless is not None:
        for values in fields.values():
            values[useless] = 0
    fields["reader"] = torch.randn(5, PARTS * COLUMNS, generator=generator)
    x = torch.randn(200, PARTS * COLUMNS, generator=generator)
    if useless is not None:
        fields["reader"][:, useless * COLUMNS : (useless + 1) * COLUMNS] = 0
    fields["gram"] = x.T @ x / 200
    moved = {name: values.to(device) for name, values in fields.items()}
    return Evidence(generator=torch.Generator().manual_seed(1), count=4, **moved)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_one_finite_number_a_part(name: str, device: str) -> None:
    scores = SCORES.load(name).score(evidence(device))
    assert scores.shape == (PARTS,)
    assert scores.device.type == device
    assert torch.isfinite(scores).all()
    assert torch.equal(scores, SCORES.load(name).score(evidence(device))), "the same every time"


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random"}))
def test_parts_are_judged_each_by_itself(name: str) -> None:
    order = torch.randperm(PARTS, generator=torch.Generator().manual_seed(2))
    given = evidence()
    fields = {
        field: getattr(given, field)[order] for field in ("variance", "magnitude", "norms", "weights", "influence")
    }
    assert given.gram is not None
    assert given.reader is not None
    columns = torch.arange(PARTS * COLUMNS).reshape(PARTS, COLUMNS)[order].flatten()
    fields |= {"gram": given.gram[columns][:, columns], "reader": given.reader[:, columns]}
    permuted, straight = SCORES.load(name).score(replace(given, **fields)), SCORES.load(name).score(given)[order]
    torch.testing.assert_close(permuted, straight, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"random"}))
def test_a_useless_part_goes_first(name: str) -> None:
    scores = SCORES.load(name).score(evidence(useless=4))
    assert 4 not in best(scores, PARTS - 1).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_score_names_patterns_that_exist(name: str) -> None:
    assert SCORES.load(name).PATTERNS
    assert set(STRUCTURES.names()) >= SCORES.load(name).PATTERNS


def test_the_best_are_in_order_and_ties_go_to_the_first() -> None:
    assert best(torch.tensor([1.0, 3.0, 2.0, 3.0]), 3).tolist() == [1, 2, 3]
    assert best(torch.zeros(4), 2).tolist() == [0, 1]
