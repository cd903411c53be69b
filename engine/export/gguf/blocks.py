"""Weights as the blocks of 32 that GGUF stores: Q8_0, Q4_0 and Q4_1 (ggml's block_q8_0, block_q4_0, block_q4_1).

Codes of a quantize step go in as they are. Plain weights are rounded by the gguf library, and where they lie on a Q4_1 grid
already, as those of a model that came from such a file do, this grid is found again.

Shapes: N blocks of 32 weights.
"""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np

from engine.quantization.grid import Codes, Format

BLOCK = 32
TOP = 15  # the largest code of four bits
MATCHING = {"Q8_0": Format(8, BLOCK, True), "Q4_0": Format(4, BLOCK, True), "Q4_1": Format(4, BLOCK, False)}
"""the formats of codes that the types hold"""
HALVES = {"Q8_0": 1, "Q4_0": 1, "Q4_1": 2}
"""numbers in float16 that a block begins with: its scale, and the least weight"""
SPAN = {"Q8_0": 127, "Q4_0": 8, "Q4_1": TOP + 1}
"""scales that a weight's magnitude can be at most; of Q4_1 also the least weight"""
Array = Any
"""a numpy array; gguf works on these"""
QUIET = np.errstate(over="ignore", invalid="ignore")
"""what float16 does not hold is found by `finite`"""


def largest(kind: str) -> float:
    """A weight of a greater magnitude has no block of this type."""
    return SPAN[kind] * float(np.finfo(np.float16).max)


def finite(rows: Array, kind: str) -> bool:
    """Whether the scales, and least weights, of these rows of blocks are numbers."""
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    halves = np.ascontiguousarray(rows.reshape(-1, size)[:, : 2 * HALVES[kind]]).view(np.float16)
    return bool(np.isfinite(halves).all())


@QUIET
def rounded(weight: Array, kind: str) -> Array:
    """Weights [O, I] in float32 as rows of blocks of bytes; see `finite`."""
    kinds = gguf.GGMLQuantizationType
    if kind == "Q4_1":
        return _q4_1(weight)
    return gguf.quants.quantize(weight, kinds[kind])


@QUIET
def coded(codes: Codes, kind: str) -> Array:
    """Codes in the format that the type holds, as rows of blocks of bytes; see `finite`."""
    rows = len(codes.codes_OI)
    scale = codes.grid.scale_OG.numpy().reshape(-1, 1)
    values = codes.codes_OI.numpy().reshape(-1, BLOCK)
    if kind == "Q8_0":
        return np.concatenate([_half(scale), (values ^ 0x80)], axis=1).reshape(rows, -1)
    if kind == "Q4_0":
        return np.concatenate([_half(scale), _nibbles(values)], axis=1).reshape(rows, -1)
    least = -codes.grid.zero_OG.numpy().reshape(-1, 1) * scale
    return np.concatenate([_half(scale), _half(least), _nibbles(values)], axis=1).reshape(rows, -1)


def _q4_1(weight: Array) -> Array:
    kind = gguf.GGMLQuantizationType.Q4_1
    found = gguf.quants.quantize(weight, kind)
    blocks = weight.reshape(-1, BLOCK)
    off = (gguf.quants.dequantize(found, kind).reshape(-1, BLOCK) != blocks).any(axis=1)
    if off.any():
        known, exact = on_a_grid(blocks[off])
        of_blocks = found.reshape(len(blocks), -1)
        of_blocks[np.flatnonzero(off)[exact]] = known[exact]
    return found


def on_a_grid(blocks: Array) -> tuple[Array, Array]:
    """Q4_1 blocks that mean exactly these weights [N, 32], and for which of them there are any [N].

    Weights on such a grid are d q + m: of every count of steps between the least and the largest, and every code of the least,
    the d and m that these would have are tried.
    """
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    known = np.zeros((len(blocks), 20), dtype=np.uint8)
    exact = np.zeros(len(blocks), dtype=bool)
    for steps in range(TOP, 0, -1):
        d = ((high - low) / steps).astype(np.float16)
        for first in range(TOP - steps + 1):
            m = (low - first * d.astype(np.float32)).astype(np.float16)
            wide_d, wide_m = d.astype(np.float32), m.astype(np.float32)
            with np.errstate(divide="ignore", invalid="ignore"):
                codes = np.nan_to_num(np.rint((blocks - wide_m) / wide_d)).clip(0, TOP)
            new = (wide_d * codes + wide_m == blocks).all(axis=1) & ~exact
            made = np.concatenate([_half(d), _half(m), _nibbles(codes.astype(np.uint8))], axis=1)
            known[new] = made[new]
            exact |= new
        if exact.all():
            break
    return known, exact


def _half(values: Array) -> Array:
    """Numbers [N, 1] as the bytes [N, 2] of float16."""
    return np.ascontiguousarray(values.astype(np.float16)).view(np.uint8)


def _nibbles(codes: Array) -> Array:
    """Codes [N, 32] of four bits: the first half of a block in the lower bits of 16 bytes, the second in the upper."""
    return codes[:, :16] | (codes[:, 16:] << np.uint8(4))
