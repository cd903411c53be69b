"""Matrices' names: which block one is of, and what is left without what differs between a checkpoint and the loaded model."""

from __future__ import annotations

import re
from functools import lru_cache

BLOCK = re.compile(r"^(?:blk|.*?\b(?:layers|h|blocks))\.(?=(\d+)\.)")
GGUF = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output": "lm_head"}


def block_of(name: str) -> int | None:
    """The block that a matrix is in, None for one outside all blocks."""
    found = BLOCK.match(name)
    return int(found[1]) if found else None


@lru_cache(maxsize=65536)
def short(name: str) -> str:
    """A matrix's name as every format has it: 3.self_attn.q_proj."""
    bare = BLOCK.sub("", name.removesuffix(".weight"))
    block, dot, rest = bare.partition(".")
    return f"{block}{dot}{GGUF.get(rest, rest)}" if dot else OUTSIDE.get(bare, bare)
