"""Few threads, no network and a known random state for everything that computes."""

from __future__ import annotations

import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def reproducible() -> None:
    """Two threads at most; every test starts from the same random state."""
    torch.set_num_threads(min(2, torch.get_num_threads()))
    torch.manual_seed(0)
