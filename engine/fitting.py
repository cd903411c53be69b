"""What is measured once, at a run's start, and then written into its profile: how many samples go through the model together,
where the others wait, and in which number format it computes.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.memory import free_memory
from engine.subject import Subject


def fitting_chunk(walk_subject: Subject, samples: int, length: int) -> int:
    """Samples that can go through a block together within half of the free memory, at least 1.

    An activation of the widest matrix is counted four times and the hidden states twelve, in float32.
    """
    blocks = walk_subject.blocks()
    widths = [size for p in blocks[0].parameters() if p.ndim >= 2 for size in p.shape[-2:]]
    sample_bytes = length * 4 * (12 * min(widths) + 4 * max(widths))
    return int(max(1, min(samples, free_memory(walk_subject.device) // 2 // sample_bytes)))


def states_place(subject: Subject, samples: int, length: int) -> str:
    """Where all samples wait between two blocks: on disk when they take a quarter of the free memory, in float32."""
    model: Any = subject.module
    states = samples * length * 4 * model.get_input_embeddings().weight.shape[-1]
    return "disk" if states > free_memory(subject.device) // 4 else "memory"


def fast_compute(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    capability = torch.backends.cpu.get_cpu_capability()
    return torch.bfloat16 if has and capability.startswith("AVX512") else torch.float32
