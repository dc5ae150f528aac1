# SPDX-License-Identifier: Apache-2.0
"""Shapes of well-known compact models, written down from their public config.json, and what is published of them.

`published_bytes` is `total_size` of the repository's own model.safetensors.index.json where one could be found,
else the published number of parameters in 16 bits. `kv_kibibytes`: key and value cache of one token in 16 bits,
windows not considered, from the shape alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""A dtype and a shape by each tensor's name."""
_DTYPE: Final = "BF16"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One model: its config.json as far as it matters, its tensors, and the published figures."""

    name: str
    config: Mapping[str, object]
    tensors: Tensors
    published_bytes: int
    source: str
    kv_kibibytes: int
    context: int


@dataclass(frozen=True, kw_only=True)
class _Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied: bool = False
    biases: bool = False
    head_norms: bool = False
    norms: int = 2
    fused: bool = False
    experts: int = 0


def _layer(shape: _Shape) -> Tensors:
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    kv, up = shape.kv_heads * shape.head_dim, shape.feed_forward
    found: dict[str, tuple[int, ...]] = {"self_attn.o_proj.weight": (hidden, wide)}
    if shape.fused:
        found |= {
            "self_attn.qkv_proj.weight": (wide + 2 * kv, hidden),
            "mlp.gate_up_proj.weight": (2 * up, hidden),
        }
    else:
        found |= {f"self_attn.{name}_proj.weight": (size, hidden) for name, size in _qkv(wide, kv)}
    if shape.biases:
        found |= {f"self_attn.{name}_proj.bias": (size,) for name, size in _qkv(wide, kv)}
    if shape.head_norms:
        found |= {f"self_attn.{name}_norm.weight": (shape.head_dim,) for name in "qk"}
    found |= {f"norm{number}.weight": (hidden,) for number in range(shape.norms)}
    if shape.experts:
        found["block_sparse_moe.gate.weight"] = (shape.experts, hidden)
        for expert in range(shape.experts):
            found |= {f"block_sparse_moe.experts.{expert}.w{n}.weight": (up, hidden) for n in (1, 2, 3)}
    else:
        found["mlp.down_proj.weight"] = (hidden, up)
        if not shape.fused:
            found |= {f"mlp.{name}_proj.weight": (up, hidden) for name in ("gate", "up")}
    return {name: (_DTYPE, dimensions) for name, dimensions in found.items()}


def _qkv(wide: int, kv: int) -> tuple[tuple[str, int], ...]:
    return ("q", wide), ("k", kv), ("v", kv)


def _decoder(shape: _Shape, prefix: str = "") -> Tensors:
    table = (_DTYPE, (shape.vocabulary, shape.hidden))
    found: Tensors = {
        f"{prefix}model.embed_tokens.weight": table,
        f"{prefix}model.norm.weight": (_DTYPE, (shape.hidden,)),
    }
    if not shape.tied:
        found[f"{prefix}lm_head.weight"] = table
    for index in range(shape.layers):
        found |= {f"{prefix}model.layers.{index}.{name}": told for name, told in _layer(shape).items()}
    return found


def _falcon(*, hidden: int, layers: int, vocabulary: int) -> Tensors:
    """Falcon's first generation: one head of keys and values in the fused projection, no gate, no tied head."""
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.word_embeddings.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "transformer.ln_f.weight": (hidden,),
        "transformer.ln_f.bias": (hidden,),
    }
    for index in range(layers):
        shapes |= {
            f"transformer.h.{index}.self_attention.query_key_value.weight": (hidden + 2 * 64, hidden),
            f"transformer.h.{index}.self_attention.dense.weight": (hidden, hidden),
            f"transformer.h.{index}.mlp.dense_h_to_4h.weight": (4 * hidden, hidden),
            f"transformer.h.{index}.mlp.dense_4h_to_h.weight": (hidden, 4 * hidden),
            f"transformer.h.{index}.input_layernorm.weight": (hidden,),
            f"transformer.h.{index}.input_layernorm.bias": (hidden,),
        }
    return {name: (_DTYPE, shape) for name, shape in shapes.items()}


def _siglip(hidden: int) -> Tensors:
    """Gemma 3's eyes: 27 layers of 1152, and the projection into the language model."""
    wide, up = 1152, 4304
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (wide, 3, 14, 14),
        "embeddings.patch_embedding.bias": (wide,),
        "embeddings.position_embedding.weight": (4096, wide),
        "post_layernorm.weight": (wide,),
        "post_layernorm.bias": (wide,),
        "projector.weight": (wide, hidden),
        "projector.norm.weight": (wide,),
    }
    for index in range(27):
        for name in ("q", "k", "v", "out"):
            shapes |= {f"{index}.{name}.weight": (wide, wide), f"{index}.{name}.bias": (wide,)}
        shapes |= {f"{index}.fc1.weight": (up, wide), f"{index}.fc1.bias": (up,)}
        shapes |= {f"{index}.fc2.weight": (wide, up), f"{index}.fc2.bias": (wide,)}
        shapes |= {f"{index}.norm{n}.{kind}": (wide,) for n in (1, 2) for kind in ("weight", "bias")}
    return {f"vision_tower.{name}": (_DTYPE, shape) for name, shape in shapes.items()}


def _config(architecture: str, type_: str, shape: _Shape, **more: object) -> dict[str, object]:
    return {
        "architectures": [architecture],
        "model_type": type_,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.feed_forward,
        "vocab_size": shape.vocabulary,
        "torch_dtype": "bfloat16",
        **more,
    }


def _shape(sizes: tuple[int, int, int, int, int, int, int], **more: bool | int) -> _Shape:
    hidden, layers, heads, kv_heads, head_dim, feed_forward, vocabulary = sizes
    return _Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        tied=bool(more.get("tied")),
        biases=bool(more.get("biases")),
        head_norms=bool(more.get("head_norms")),
        norms=int(more.get("norms", 2)),
        fused=bool(more.get("fused")),
        experts=int(more.get("experts", 0)),
    )


INDEX: Final = "total_size of model.safetensors.index.json"
CARD: Final = "parameters on the model's card"
_LLAMA3: Final = {"factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}
_LLAMA_8B: Final = _shape((4096, 32, 32, 8, 128, 14336, 128256))
_MISTRAL_7B: Final = _shape((4096, 32, 32, 8, 128, 14336, 32768))
_NEMO: Final = _shape((5120, 40, 32, 8, 128, 14336, 131072))
_MIXTRAL: Final = _shape((4096, 32, 32, 8, 128, 14336, 32000), experts=8)
_QWEN25_7B: Final = _shape((3584, 28, 28, 4, 128, 18944, 152064), biases=True)
_QWEN3_8B: Final = _shape((4096, 36, 32, 8, 128, 12288, 151936), head_norms=True)
_QWEN3_14B: Final = _shape((5120, 40, 40, 8, 128, 17408, 151936), head_norms=True)
_GEMMA2_9B: Final = _shape((3584, 42, 16, 8, 256, 14336, 256000), tied=True, norms=4)
_GEMMA3_4B: Final = _shape((2560, 34, 8, 4, 256, 10240, 262208), tied=True, head_norms=True, norms=4)
_GEMMA3_12B: Final = _shape((3840, 48, 16, 8, 256, 15360, 262208), tied=True, head_norms=True, norms=4)
_PHI3_MINI: Final = _shape((3072, 32, 32, 32, 96, 8192, 32064), fused=True)
_PHI4: Final = _shape((5120, 40, 40, 10, 128, 17920, 100352), fused=True)
_GRANITE_8B: Final = _shape((4096, 40, 32, 8, 128, 12800, 49155), tied=True)


def _gemma3(shape: _Shape, **text: object) -> dict[str, object]:
    """The published files leave out what is their class's default: heads of the 4B, length, vocabulary."""
    nested = {
        "model_type": "gemma3_text",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.feed_forward,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
        **text,
    }
    named = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "torch_dtype": "bfloat16",
    }
    return {**named, "text_config": nested, "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27}}


MODELS: Final = (
    Published(
        name="Llama-3.1-8B",
        config=_config(
            "LlamaForCausalLM", "llama", _LLAMA_8B, max_position_embeddings=131072, rope_scaling=_LLAMA3
        ),
        tensors=_decoder(_LLAMA_8B),
        published_bytes=16060522496,
        source=INDEX,
        kv_kibibytes=128,
        context=131072,
    ),
    Published(
        name="Mistral-7B-v0.3",
        config=_config(
            "MistralForCausalLM", "mistral", _MISTRAL_7B, max_position_embeddings=32768, sliding_window=None
        ),
        tensors=_decoder(_MISTRAL_7B),
        published_bytes=14496047104,
        source=INDEX,
        kv_kibibytes=128,
        context=32768,
    ),
    Published(
        name="Mistral-Nemo-12B",
        config=_config(
            "MistralForCausalLM",
            "mistral",
            _NEMO,
            head_dim=128,
            max_position_embeddings=131072,
            sliding_window=None,
        ),
        tensors=_decoder(_NEMO),
        published_bytes=2 * 12_250_000_000,
        source=CARD,
        kv_kibibytes=160,
        context=131072,
    ),
    Published(
        name="Mixtral-8x7B",
        config=_config(
            "MixtralForCausalLM",
            "mixtral",
            _MIXTRAL,
            num_local_experts=8,
            num_experts_per_tok=2,
            max_position_embeddings=32768,
        ),
        tensors=_decoder(_MIXTRAL),
        published_bytes=93405585408,
        source=INDEX,
        kv_kibibytes=128,
        context=32768,
    ),
    Published(
        name="Qwen2.5-7B-Instruct",
        config=_config(
            "Qwen2ForCausalLM",
            "qwen2",
            _QWEN25_7B,
            max_position_embeddings=32768,
            sliding_window=131072,
            use_sliding_window=False,
        ),
        tensors=_decoder(_QWEN25_7B),
        published_bytes=15231233024,
        source=INDEX,
        kv_kibibytes=56,
        context=32768,
    ),
    Published(
        name="Qwen3-8B",
        config=_config(
            "Qwen3ForCausalLM", "qwen3", _QWEN3_8B, head_dim=128, max_position_embeddings=40960, rope_scaling=None
        ),
        tensors=_decoder(_QWEN3_8B),
        published_bytes=16381470720,
        source=INDEX,
        kv_kibibytes=144,
        context=40960,
    ),
    Published(
        name="Qwen3-14B",
        config=_config("Qwen3ForCausalLM", "qwen3", _QWEN3_14B, head_dim=128, max_position_embeddings=40960),
        tensors=_decoder(_QWEN3_14B),
        published_bytes=29536614400,
        source=INDEX,
        kv_kibibytes=160,
        context=40960,
    ),
    Published(
        name="Gemma-2-9B",
        config=_config(
            "Gemma2ForCausalLM",
            "gemma2",
            _GEMMA2_9B,
            head_dim=256,
            max_position_embeddings=8192,
            sliding_window=4096,
        ),
        tensors=_decoder(_GEMMA2_9B),
        published_bytes=2 * 9_240_000_000,
        source=CARD,
        kv_kibibytes=336,
        context=8192,
    ),
    Published(
        name="Gemma-3-4B",
        config=_gemma3(_GEMMA3_4B),
        tensors=_decoder(_GEMMA3_4B, "language_model.") | _siglip(2560),
        published_bytes=8600158944,
        source=INDEX,
        kv_kibibytes=136,
        context=131072,
    ),
    Published(
        name="Gemma-3-12B",
        config=_gemma3(_GEMMA3_12B, num_attention_heads=16, num_key_value_heads=8),
        tensors=_decoder(_GEMMA3_12B, "language_model.") | _siglip(3840),
        published_bytes=2 * 12_200_000_000,
        source=CARD,
        kv_kibibytes=384,
        context=131072,
    ),
    Published(
        name="Phi-3-mini-4k",
        config=_config(
            "Phi3ForCausalLM",
            "phi3",
            _PHI3_MINI,
            max_position_embeddings=4096,
            sliding_window=2047,
            auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        ),
        tensors=_decoder(_PHI3_MINI),
        published_bytes=2 * 3_820_000_000,
        source=CARD,
        kv_kibibytes=384,
        context=4096,
    ),
    Published(
        name="Phi-4",
        config=_config("Phi3ForCausalLM", "phi3", _PHI4, max_position_embeddings=16384, sliding_window=None),
        tensors=_decoder(_PHI4),
        published_bytes=29319014400,
        source=INDEX,
        kv_kibibytes=200,
        context=16384,
    ),
    Published(
        name="granite-3.1-8b",
        config=_config("GraniteForCausalLM", "granite", _GRANITE_8B, max_position_embeddings=131072),
        tensors=_decoder(_GRANITE_8B),
        published_bytes=2 * 8_170_000_000,
        source=CARD,
        kv_kibibytes=160,
        context=131072,
    ),
    Published(
        name="Falcon-7B",
        config={
            "architectures": ["FalconForCausalLM"],
            "model_type": "falcon",
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "num_kv_heads": 71,
            "multi_query": True,
            "new_decoder_architecture": False,
            "vocab_size": 65024,
            "torch_dtype": "bfloat16",
            "auto_map": {"AutoModelForCausalLM": "modeling_falcon.FalconForCausalLM"},
        },
        tensors=_falcon(hidden=4544, layers=32, vocabulary=65024),
        published_bytes=2 * 7_217_000_000,
        source="7.22B on the hub's card; modules printed in the model's documentation",
        kv_kibibytes=8,
        context=0,
    ),
)
