"""What vLLM's source says it refuses in a compressed-tensors folder; vLLM itself is not run.

Its layers for codes beside unrounded inputs (`CompressedTensorsWNA16`) take 4 or 8 bits. Projections that it computes as one
layer (`packed_modules_mapping` of its Llama-like models) have one scheme: that of the first is taken for all, unsaid.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.quantization.grid import Format

WIDTHS = (4, 8)
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def doubts(formats: Mapping[str, Format]) -> list[str]:
    """The rules that {weight's name: its format} breaks, as warnings; none where vLLM should take the folder."""
    out = []
    odd = sorted({form.bits for form in formats.values()} - set(WIDTHS))
    if odd:
        out.append(f"vLLM loads codes of 4 or 8 bits, and some here have {odd[0]}: bits = 4 in the quantize step")
    apart = [layer for layer, found in together(formats).items() if len(set(found)) > 1]
    if apart:
        more = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
        out.append(f"vLLM computes {apart[0]}{more} as one layer, and their codes differ: bits in place of size_ratio")
    return out


def together(formats: Mapping[str, Format]) -> dict[str, list[Format | None]]:
    """The formats of weights that become one layer, None for one without codes; by the layer's place and all their names."""
    found: dict[str, list[Format | None]] = {}
    for name in formats:
        place, _, layer = name.removesuffix(".weight").rpartition(".")
        for names in FUSED:
            if layer in names:
                found[f"{place}.{'/'.join(names)}"] = [formats.get(f"{place}.{one}.weight") for one in names]
    return found
