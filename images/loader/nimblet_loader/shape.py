# SPDX-License-Identifier: Apache-2.0
"""Translates a config.json into the facts that a GGUF header tells: heads by layer, windows, states. Pure.

Layers that keep no keys and values have 0 heads; those of a window are told by runs of 1. Recurrent layers' sizes
go by GGUF's keys, so that one formula sizes both (llama.cpp's llama_hparams::n_embd_r and n_embd_s).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from nimblet_loader.contract import Count, LayerValues
from nimblet_loader.modelconfig import ModelConfig, TextConfig, invalid

_WINDOWED: Final = frozenset({"sliding_attention", "chunked_attention"})
_ATTENDING: Final = frozenset({"full_attention", "attention", "hybrid"}) | _WINDOWED
_SCALED_ALREADY: Final = frozenset({"su", "longrope", "llama3", "mrope", "default", "dynamic_ntk"})
"""Types of scaling whose configurations name the scaled length (as vLLM's _get_and_verify_max_len has them)."""
_LARGEST_CONTEXT: Final = 2**40
_EVERY_LAYER_BOTH: Final = frozenset({"falcon_h1"})
"""Types whose layers attend and recur side by side."""


@dataclass(frozen=True)
class Shape:
    """The facts, by HeaderFacts' names."""

    context_length: int
    embedding_length: int
    block_count: int
    feed_forward_length: LayerValues | None
    head_count: int | None
    head_count_kv: LayerValues | None
    key_length: int | None
    sliding_window: int | None
    sliding_window_pattern: LayerValues | None
    other: dict[str, Count]


def shape_of(path: str, config: ModelConfig) -> Shape:
    """Return the shape of the language model; SourceError HeaderInvalid names what is missing."""
    text = config.text
    if not text.hidden_size or not text.layers:
        raise invalid(path, "no hidden_size or no num_hidden_layers")
    heads = text.heads if text.heads is not None else text.default("num_attention_heads")
    kinds = layer_kinds(text, text.layers)
    key_length, kv_heads = _head_length(text, heads), _kv_heads(text, heads)
    window, windowed = _window(text, kinds)
    return Shape(
        context_length=context_of(text),
        embedding_length=text.hidden_size,
        block_count=text.layers,
        feed_forward_length=_feed_forward(text),
        head_count=heads,
        head_count_kv=_compact([_kept(text, kv_heads, kind) for kind in kinds]) if kv_heads else kv_heads,
        key_length=key_length,
        sliding_window=window,
        sliding_window_pattern=windowed,
        other=_others(text),
    )


def layer_kinds(text: TextConfig, layers: int) -> list[tuple[bool, bool]]:
    """Return for each layer whether it keeps keys and values, and whether of a window only."""
    if text.layer_types is not None:
        named = [*text.layer_types, *["full_attention"] * layers][:layers]
        return [(kind in _ATTENDING, kind in _WINDOWED) for kind in named]
    if text.hybrid_override_pattern is not None:  # Nemotron-H: M mamba, * attention, - feed-forward
        marks = text.hybrid_override_pattern.ljust(layers, "*")[:layers]
        return [(mark == "*", False) for mark in marks]
    if text.attention_layers is not None:
        return [(index in set(text.attention_layers), False) for index in range(layers)]
    if text.attention_period is not None:  # Jamba
        period, offset = text.attention_period, text.attention_offset
        return [(index % period == offset % period, False) for index in range(layers)]
    interval = text.full_attention_interval or text.default("full_attention_interval")
    if interval is not None:
        return [((index + 1) % interval == 0, False) for index in range(layers)]
    return [(True, windowed) for windowed in _windowed(text, layers)]


def _windowed(text: TextConfig, layers: int) -> list[bool]:
    """Return for each layer whether it sees a window only: by the type's period, else all if a window is set."""
    window = text.sliding_window if text.sliding_window is not None else text.default("sliding_window")
    if not window or text.use_sliding_window is False:
        return [False] * layers
    period = text.sliding_window_pattern or text.default("sliding_window_pattern")
    return [period is None or (index + 1) % period != 0 for index in range(layers)]


def _window(text: TextConfig, kinds: Sequence[tuple[bool, bool]]) -> tuple[int | None, LayerValues | None]:
    if not any(windowed for _, windowed in kinds):
        return None, None
    window = text.sliding_window if text.sliding_window is not None else text.default("sliding_window")
    return window, _runs([int(windowed) for _, windowed in kinds])


def _kept(text: TextConfig, kv_heads: int, kind: tuple[bool, bool]) -> int:
    """Return a layer's heads of keys and values; Gemma 4 has others where a layer sees the whole context."""
    attends, windowed = kind
    return ((not windowed and text.global_kv_heads) or kv_heads) if attends else 0


def _head_length(text: TextConfig, heads: int | None) -> int | None:
    """Return a head's length, of layers that see the whole context where others have their own."""
    named = text.global_head_dim or text.head_dim or text.default("head_dim")
    return named or ((text.hidden_size or 0) // heads if heads else None)


def _kv_heads(text: TextConfig, heads: int | None) -> int | None:
    """Return the heads of keys and values; Falcon's first generation has one where it says multi_query."""
    if text.model_type in ("falcon", "gpt_bigcode") and not text.new_decoder_architecture:
        return 1 if text.multi_query is not False else heads
    if text.kv_lora_rank:
        return 1  # latent attention keeps one vector a token, whatever the heads
    return text.kv_heads or text.default("num_key_value_heads") or heads


def _feed_forward(text: TextConfig) -> LayerValues | None:
    """Return the width of a feed-forward tensor: an expert's where the model has experts."""
    pattern, width = text.hybrid_override_pattern, text.feed_forward
    if pattern is not None and isinstance(width, int):  # Nemotron-H: only layers of their own are feed-forward
        return _compact([width if mark == "-" else 0 for mark in pattern.ljust(text.layers or 0)[: text.layers]])
    if text.experts and text.expert_feed_forward:
        return text.expert_feed_forward
    if isinstance(text.feed_forward, list):
        return _compact(text.feed_forward)
    return text.feed_forward


def context_of(text: TextConfig) -> int:
    """Return the tokens that the model was made for, with the scaling of positions that it declares.

    Source: vLLM's _get_and_verify_max_len: the length times the factor, from the original length where the type is
    yarn; types that name the scaled length already are passed over.
    """
    length = text.positions or text.default("max_position_embeddings") or 0
    rope = text.rope_scaling
    if rope is None or rope.factor is None or rope.rope_type is None or rope.rope_type in _SCALED_ALREADY:
        return length
    if text.model_type == "gemma3_text":
        return length  # its factor is part of the length that it names
    if rope.rope_type == "yarn" and rope.original_max_position_embeddings:
        length = rope.original_max_position_embeddings
    return min(int(length * rope.factor), _LARGEST_CONTEXT)


def _others(text: TextConfig) -> dict[str, Count]:
    """Return sizes of latent attention and recurrent layers by GGUF's keys."""
    found: dict[str, int | None] = {}
    if text.kv_lora_rank:
        found |= {"attention.kv_lora_rank": text.kv_lora_rank, "rope.dimension_count": text.qk_rope_head_dim}
    if text.conv_kernel and text.state_size and text.model_type not in ("lfm2", "lfm2_moe"):
        inner = text.state_inner
        if inner is None and text.state_heads and text.state_head_dim:
            inner = text.state_heads * text.state_head_dim
        found |= {
            "ssm.conv_kernel": text.conv_kernel,
            "ssm.state_size": text.state_size,
            "ssm.inner_size": inner or (text.state_expand or 2) * (text.hidden_size or 0),
            "ssm.group_count": text.state_groups,
        }
        if text.model_type in _EVERY_LAYER_BOTH:
            found["ssm.every_layer"] = 1
    if text.global_head_dim and text.head_dim:
        found |= {"attention.key_length_swa": text.head_dim, "attention.value_length_swa": text.head_dim}
    if text.shared_layers:
        found["attention.shared_kv_layers"] = text.shared_layers
    if text.short_conv:
        found["shortconv.l_cache"] = text.short_conv
    return {key: value for key, value in found.items() if value is not None}


def _runs(values: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((value, len(list(group))) for value, group in groupby(values))


def _compact(values: Sequence[int]) -> LayerValues:
    """Return one number where all layers have the same, else runs."""
    runs = _runs(values)
    return runs[0][0] if len(runs) == 1 else runs
