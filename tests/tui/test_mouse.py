"""The mouse: a click does what the key does; with --no-mouse the terminal keeps it and sends the app no click."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pseudo import ended, open_app, read_until

ASKS = b"\x1b[?1000h"
"""how an app asks a terminal to send it clicks"""
ON_INSPECT = b"\x1b[<0;4;1M\x1b[<0;4;1m"
"""the button down and up on the fourth column of the first line: the word Inspect"""


def test_a_click_does_something(tmp_path: Path) -> None:
    pid, terminal, written = open_app(tmp_path)
    assert ASKS in written
    os.write(terminal, ON_INSPECT)
    read_until(terminal, b"No model is open")
    os.write(terminal, b"q")
    assert ended(pid)


@pytest.mark.parametrize("how", ["--no-mouse", "config.toml"])
def test_without_the_mouse_the_terminal_keeps_its_clicks(how: str, tmp_path: Path) -> None:
    if how == "config.toml":
        (tmp_path / "config.toml").write_text("mouse = false")
    pid, terminal, written = open_app(tmp_path, *([how] if how.startswith("--") else []))
    os.write(terminal, b"2")
    assert ASKS not in written + read_until(terminal, b"No run is open")
    os.write(terminal, b"q")
    assert ended(pid)
