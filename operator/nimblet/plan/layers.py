# SPDX-License-Identifier: Apache-2.0
"""What each layer of a model keeps between tokens: keys and values, of all or of a window, or a state. Pure.

One reading of the header for every server: llama.cpp's allocation and the paged caches of vLLM and TGI differ in
rounding and in the size of a number, and in nothing else.
"""

from dataclasses import dataclass
from typing import Final

from nimblet.plan.artifact import Header, per_layer

SWA_PERIODS: Final = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2}
"""Of `period` layers the last is full, the others windowed, where the header names a window but no pattern
(set per architecture in llama.cpp's model loader)."""
KEEPING_LAYERS: Final = {"gemma3n": 20}
"""Layers from the start that keep keys and values of their own, where no key tells (llama.cpp, gemma3n.cpp)."""
SHIFTED_TOKENS: Final = 2
"""Last inputs that a layer of RWKV keeps, where no key tells (llama_hparams::token_shift_count)."""
BOTH: Final = frozenset({"falcon-h1"})
"""Architectures whose layers attend and recur side by side."""


@dataclass(frozen=True)
class Layer:
    """Numbers that a layer keeps: `heads` x `width` a token (of a window only, if windowed), `state` a slot."""

    heads: int
    width: int
    windowed: bool
    state: int
    latent: bool = False
    """One vector for all heads, which every device of a tensor-parallel server holds whole."""


def layers_of(header: Header) -> tuple[Layer, ...]:
    """Return the layers in order. Encoders see their whole input at once: ask `causal_attention` beside this."""
    count, windowed = header.block_count, windowed_layers(header)
    heads = per_layer(header.head_count_kv, layers=count, default=most_heads(header))
    keeps, recurs = _keeping(header, heads), _recurring(header, heads)
    width, window_width, state = _width(header), _window_width(header), state_of(header)
    latent = is_latent(header, heads)
    return tuple(
        Layer(
            heads=heads[index] if keeps[index] else 0,
            width=window_width if windowed[index] else width,
            windowed=windowed[index],
            state=state if recurs[index] else 0,
            latent=latent,
        )
        for index in range(count)
    )


def windowed_layers(header: Header) -> tuple[bool, ...]:
    """Return for each layer whether it attends to a sliding window only."""
    layers = header.block_count
    if not header.sliding_window:
        return (False,) * layers
    pattern = header.sliding_window_pattern
    if pattern is not None and not isinstance(pattern, int):
        return tuple(flag == 1 for flag in per_layer(pattern, layers=layers, default=0))
    period = pattern or SWA_PERIODS.get(header.architecture, 0)
    if period <= 1:
        return (False,) * layers
    return tuple(index % period < period - 1 for index in range(layers))


def most_heads(header: Header) -> int:
    """Return the attention heads of the layer that has most."""
    return max(per_layer(header.head_count, layers=max(header.block_count, 1), default=1))


def lengths(header: Header) -> tuple[int, int]:
    """Return the length of one head's key and of its value."""
    head_dim = header.embedding_length // max(most_heads(header), 1)
    return header.key_length or head_dim, header.value_length or head_dim


def is_latent(header: Header, heads: tuple[int, ...]) -> bool:
    """Tell whether attention is latent and stored so: older GGUF files of such models hold it unfolded."""
    return bool(header.other.get("attention.kv_lora_rank")) and set(heads) <= {0, 1}


def _width(header: Header) -> int:
    heads = per_layer(header.head_count_kv, layers=header.block_count, default=most_heads(header))
    if is_latent(header, heads):  # llama.cpp and vLLM keep the compressed vector and the rotated key, no values
        return header.other["attention.kv_lora_rank"] + header.other.get("rope.dimension_count", 0)
    return sum(lengths(header))


def _window_width(header: Header) -> int:
    key, value = lengths(header)
    own = header.other.get("attention.key_length_swa"), header.other.get("attention.value_length_swa")
    return (own[0] or key) + (own[1] or value) if any(own) else _width(header)


def _keeping(header: Header, heads: tuple[int, ...]) -> tuple[bool, ...]:
    """Return for each layer whether it has keys and values of its own."""
    count = header.block_count
    # RWKV attends nowhere, also where it names the heads of what it was made of
    if "wkv.head_size" in header.other:
        return (False,) * count
    shared = header.other.get("attention.shared_kv_layers", 0)
    until = count - shared if shared else KEEPING_LAYERS.get(header.architecture, count)
    interval = header.other.get("full_attention_interval", 0)
    return tuple(
        heads[index] > 0 and index < until and (interval <= 1 or (index + 1) % interval == 0)
        for index in range(count)
    )


def _recurring(header: Header, heads: tuple[int, ...]) -> tuple[bool, ...]:
    """Return for each layer whether it keeps a state: where it does not attend, and is no mere feed-forward."""
    count = header.block_count
    if not state_of(header):
        return (False,) * count
    if header.architecture in BOTH or "ssm.every_layer" in header.other:
        return (True,) * count
    widths = per_layer(header.feed_forward_length, layers=count, default=0)
    mixed = 0 in widths and max(widths, default=0) > 0  # Nemotron-H: a layer is one of the three kinds
    keeps = _keeping(header, heads)
    return tuple(not keeps[index] and not (mixed and widths[index]) for index in range(count))


def state_of(header: Header) -> int:
    """Return the numbers of one recurrent layer's state: past inputs of its convolution, and its memory.

    Source: llama.cpp b11434, llama_hparams::n_embd_r and n_embd_s; the sizes of RWKV, Mamba, Mamba 2, gated delta
    nets and short convolutions all follow.
    """
    other = header.other
    if wkv := other.get("wkv.head_size", 0):
        return header.embedding_length * (other.get("token_shift_count", SHIFTED_TOKENS) + wkv)
    if short := other.get("shortconv.l_cache", 0):
        return header.embedding_length * (short - 1)
    inner, size = other.get("ssm.inner_size", 0), other.get("ssm.state_size", 0)
    past = max(other.get("ssm.conv_kernel", 0) - 1, 0)
    return past * (inner + 2 * other.get("ssm.group_count", 0) * size) + size * inner
