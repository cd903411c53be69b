"""The app in a real pseudo-terminal whose other end goes away: it ends, and does not spin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pseudo import ended, open_app


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_the_app_ends_when_its_terminal_goes(tmp_path: Path, ignore_hangup: bool) -> None:
    pid, terminal, _ = open_app(tmp_path, ignore_hangup=ignore_hangup)
    os.close(terminal)
    assert ended(pid)
