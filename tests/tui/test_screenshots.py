"""The README's pictures: all that it shows are drawn by the script, which draws the same bytes again."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "docs")
    import screenshots

    return screenshots


def test_the_pictures_of_the_readme_are_those_that_are_drawn(script: Any) -> None:
    shown = re.findall(r"!\[[^]]+\]\(docs/(\w+)\.svg\)", (ROOT / "README.md").read_text())
    assert shown == list(script.PICTURES)
    assert sorted(path.stem for path in (ROOT / "docs").glob("*.svg")) == sorted(shown)


async def test_a_picture_is_drawn_the_same_again(script: Any, tmp_path: Path) -> None:
    first, again = [await script.draw(script.PICTURES["run"], tmp_path / name) for name in ("first", "again")]
    assert first == again
    words = html.unescape("".join(re.findall(r"<text[^>]*>([^<]*)", first))).replace("\xa0", " ")
    for text in ("running", "pruning 26/30", "ETA", "block 26"):
        assert text in words
