"""The strip of bars: heights, scale, cursor and numbers, for any number of blocks in any width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.widgets.states import EIGHTHS
from tui.widgets.strip import AXIS, Bar, draw, scale

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=130)


def test_a_small_strip_looks_like_this() -> None:
    bars = [Bar(0.5), Bar(0.6, done=False), Bar(0.45), Bar(None)]
    assert draw(bars, 1, range(4), AXIS + 4, 5).plain == (
        " 70%     \n"
        "      ▒  \n"
        "     █▒▄ \n"
        " 30% █▒█·\n"
        "     0▲ 3"
    )  # fmt: skip


@given(SHARES, st.integers(AXIS + 1, 160), st.integers(2, 12))
def test_every_line_fits_and_there_are_as_many_as_asked(shares: list[float], width: int, height: int) -> None:
    for cursor in (None, 0, len(shares) - 1):
        lines = draw([Bar(share) for share in shares], cursor, range(len(shares)), width, height).plain.split("\n")
        assert len(lines) == height
        assert all(len(line) <= width for line in lines[:-1])
        assert (cursor is None) == ("▲" not in lines[-1])


@given(SHARES)
def test_a_sparser_block_is_never_lower(shares: list[float]) -> None:
    lines = draw([Bar(share) for share in shares], None, range(len(shares)), AXIS + len(shares), 7).plain.split("\n")
    heights = [sum(EIGHTHS.index(line[AXIS + i]) for line in lines[:-1]) for i in range(len(shares))]
    assert all(height > 0 for height in heights)
    ranked = sorted(range(len(shares)), key=shares.__getitem__)
    assert [heights[i] for i in ranked] == sorted(heights)


@given(SHARES)
def test_the_scale_holds_every_share(shares: list[float]) -> None:
    low, high = scale(shares)
    assert 0 <= low < high <= 1
    assert low <= min(shares) + 1e-9
    assert high >= max(shares) - 1e-9


@given(st.integers(0, 79))
def test_the_cursor_is_in_sight_where_not_all_fit(cursor: int) -> None:
    text = draw([Bar(0.5)] * 80, cursor, range(80), AXIS + 20, 4)
    mark = text.plain.split("\n")[-1].index("▲")
    assert AXIS <= mark < AXIS + 20
    assert any("yellow" in str(span.style) for span in text.spans)
