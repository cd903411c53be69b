"""The wheel carries what the program needs at run time: profiles, style sheet, type markers; it works elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, built from a copy so that the working tree stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = ["engine", "tui", "profiles", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(_made(source))], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_everything_is_in_it(installed: Path) -> None:
    for pattern in (
        "profiles/*.toml",
        "tui/*.tcss",
        "engine/py.typed",
        "tui/py.typed",
        "engine/**/*.py",
        "tui/**/*.py",
    ):
        expected = {file.relative_to(ROOT) for file in ROOT.glob(pattern)}
        assert expected
        assert expected <= {file.relative_to(installed) for file in installed.rglob("*")}


def test_nothing_else_is_in_it(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"engine", "tui", "profiles"}


def test_it_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    code = "import engine, sys; from tui.cli import main; print(engine.__file__); sys.exit(main(sys.argv[1:]))"
    listed = _run([code, "profile", "list"], tmp_path, environment)
    assert listed[0] == str(installed / "engine" / "__init__.py")
    assert {"demo", "edge", "prompt-only", "quality", "worked-example"} <= {line.split()[0] for line in listed[1:]}
    assert _run([code, "profile", "check", "demo"], tmp_path, environment)[1].startswith("demo: ok")
    assert "wanda" in "\n".join(_run([code, "list", "criteria"], tmp_path, environment))


def _run(arguments: list[str], folder: Path, environment: dict[str, str]) -> list[str]:
    command = [sys.executable, "-c", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
