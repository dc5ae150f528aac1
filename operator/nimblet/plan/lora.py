# SPDX-License-Identifier: Apache-2.0
"""The memory that servers set aside for LoRA adapters, whatever an adapter really fills of it. Pure arithmetic."""

from collections.abc import Sequence
from typing import Final

from nimblet.plan.artifact import Header, per_layer

LORA_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be (vllm/config/lora.py, MaxLoRARanks)."""
NUMBER_BYTES: Final = 2
"""Of f16 and bf16, in which vLLM and TGI keep adapters (--lora-dtype auto: the model's)."""


def lora_rank(ranks: Sequence[int]) -> int | None:
    """Return the least rank that vLLM knows and that holds all of them; None where none does."""
    return next((rank for rank in LORA_RANKS if rank >= max(ranks)), None)


def lora_place_bytes(header: Header, ranks: Sequence[int]) -> int:
    """Return adapters x rank x layers x (inputs + outputs) x bytes, over the seven matrices of each layer.

    vLLM allocates both matrices of every module that could be adapted, for each of --max-loras, at --max-lora-rank
    (vllm/lora/layers, create_lora_weights). Experts are counted as one feed-forward layer of all of them together.
    """
    if not ranks:
        return 0
    layers = max(header.block_count, 1)
    width = header.embedding_length
    heads = per_layer(header.head_count, layers=layers, default=1)
    kv_heads = per_layer(header.head_count_kv, layers=layers, default=max(heads))
    wide = per_layer(header.feed_forward_length, layers=layers, default=4 * width)
    key = header.key_length or width // max(*heads, 1)
    value = header.value_length or key
    experts = max(header.expert_count or 1, 1)
    ends = 0
    for own, kept, inner in zip(heads, kv_heads, wide, strict=True):
        attention = (width + own * key) + (width + kept * key) + (width + kept * value) + (own * value + width)
        ends += attention + 3 * (width + inner) * experts
    rank = lora_rank(ranks) or max(ranks)
    return len(ranks) * rank * ends * NUMBER_BYTES
