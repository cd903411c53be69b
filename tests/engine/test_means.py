"""Means over matrices: by definition, each value as often as its weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import means


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.floats(0, 1), st.integers(1, 9)), max_size=20))
def test_means_are_those_of_the_definition(entries: list[tuple[int, float | None, int]]) -> None:
    found = means.by_block(entries)
    for block in range(4):
        known = [(value, size) for at, value, size in entries if at == block and value is not None]
        weights = [value for value, size in known for _ in range(size)]
        assert (block in found) == bool(known)
        if known:
            assert found[block] == pytest.approx(sum(weights) / len(weights))
    assert list(found) == sorted(found)
    assert means.mean([]) is None
