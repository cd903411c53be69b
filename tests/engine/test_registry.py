"""The registry: listing imports nothing, a broken file harms only itself, unknown names get near ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.errors import EngineError, UsageError
from engine.registry import FAMILIES, STEPS, Family


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A package with a good, a broken, an unimportable and a private module."""
    package = tmp_path / "pieces"
    package.mkdir()
    files = {
        "__init__": "",
        "good": '"""Does good,\nand more\nof it.\n\nMore."""\nvalue = 1\n',
        "broken": "def (:\n",
        "absent": "import a_module_that_is_not_there\n",
        "_private": "",
    }
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield Family("piece", "pieces")
    for name in [name for name in sys.modules if name.startswith("pieces")]:
        del sys.modules[name]


def test_listing_imports_no_piece(family: Family) -> None:
    assert family.names() == ["absent", "broken", "good"]
    assert family.summary("good") == "Does good, and more of it."
    assert family.summary("broken").startswith("(broken: ")
    assert "pieces.good" not in sys.modules


def test_loading_imports_only_that_piece(family: Family) -> None:
    assert family.load("good").value == 1
    assert "pieces.absent" not in sys.modules


@pytest.mark.parametrize("name", ["broken", "absent"])
def test_a_piece_that_does_not_import_says_which(family: Family, name: str) -> None:
    with pytest.raises(EngineError, match=f"piece '{name}' does not import"):
        family.load(name)


def test_an_unknown_name_is_answered_with_near_ones(family: Family) -> None:
    with pytest.raises(UsageError, match="unknown piece 'goood'") as caught:
        family.load("goood")
    assert caught.value.hint == "did you mean 'good'? known: absent, broken, good"


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_has_pieces_and_each_a_description(kind: str) -> None:
    family = FAMILIES[kind]
    assert family.names()
    assert [name for name in family.names() if not family.summary(name).endswith(".")] == [], (
        "cut off within a sentence"
    )


@pytest.mark.parametrize("name", STEPS)
def test_every_step_has_options_that_carry_its_name(name: str) -> None:
    model = STEPS[name].options_model()
    assert model.model_fields["use"].annotation.__args__ == (name,)
    assert STEPS[name].summary().endswith("."), "cut off within a sentence"


@pytest.mark.parametrize("name", STEPS)
def test_every_step_can_be_run(name: str) -> None:
    assert callable(STEPS[name].run())
