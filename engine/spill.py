"""Tensors in files instead of memory: mapped, so that the system writes them out and drops them when memory is short."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch


def on_disk(tensor: torch.Tensor, folder: Path) -> torch.Tensor:
    """A copy of the tensor on the CPU whose memory is a file in `folder`; the file goes when the tensor does.

    It has no name any more when this returns, so a process that is killed leaves nothing behind. Raises OSError when the
    disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".states")
    size = max(1, tensor.numel() * tensor.element_size())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(
                handle, 0, size
            )  # a full disk is an error here, and would be a signal at the first write
        mapped = torch.from_file(name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
    finally:
        os.close(handle)
        os.unlink(name)
    return mapped.view(tensor.shape).copy_(tensor.detach())
