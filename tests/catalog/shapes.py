# SPDX-License-Identifier: Apache-2.0
"""Tensors of model families by their shapes: names and sizes as their checkpoints have them, and no data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""A dtype and a shape by each tensor's name."""
_DTYPE: Final = "BF16"


@dataclass(frozen=True, kw_only=True)
class Shape:
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


def _layer(shape: Shape) -> Tensors:
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


def decoder(shape: Shape, prefix: str = "") -> Tensors:
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


def falcon(*, hidden: int, layers: int, vocabulary: int) -> Tensors:
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


def siglip(hidden: int) -> Tensors:
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


def shape(sizes: tuple[int, int, int, int, int, int, int], **more: bool | int) -> Shape:
    """Return a shape: hidden, layers, heads, heads of keys and values, head's length, feed-forward, vocabulary."""
    hidden, layers, heads, kv_heads, head_dim, feed_forward, vocabulary = sizes
    return Shape(
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


def _typed(shapes: Mapping[str, tuple[int, ...]], dtype: str = _DTYPE) -> Tensors:
    return {name: (dtype, dimensions) for name, dimensions in shapes.items()}


def _linear(name: str, out: int, into: int, *, bias: bool = True) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {f"{name}.weight": (out, into)}
    return found | {f"{name}.bias": (out,)} if bias else found


def mpt(*, hidden: int, layers: int, vocabulary: int) -> Tensors:
    """MPT: fused projections, no gate, no bias, ALiBi instead of positions, a tied head."""
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (vocabulary, hidden),
        "transformer.norm_f.weight": (hidden,),
    }
    for index in range(layers):
        block = f"transformer.blocks.{index}"
        shapes |= _linear(f"{block}.attn.Wqkv", 3 * hidden, hidden, bias=False)
        shapes |= _linear(f"{block}.attn.out_proj", hidden, hidden, bias=False)
        shapes |= _linear(f"{block}.ffn.up_proj", 4 * hidden, hidden, bias=False)
        shapes |= _linear(f"{block}.ffn.down_proj", hidden, 4 * hidden, bias=False)
        shapes |= {f"{block}.norm_{number}.weight": (hidden,) for number in (1, 2)}
    return _typed(shapes)


def phi(*, hidden: int, layers: int, vocabulary: int) -> Tensors:
    """Phi 1 to 2: attention and feed-forward side by side behind one norm, biases everywhere."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    shapes |= _linear("lm_head", vocabulary, hidden)
    shapes |= {f"model.final_layernorm.{kind}": (hidden,) for kind in ("weight", "bias")}
    for index in range(layers):
        layer = f"model.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "dense"):
            shapes |= _linear(f"{layer}.self_attn.{name}", hidden, hidden)
        shapes |= _linear(f"{layer}.mlp.fc1", 4 * hidden, hidden) | _linear(f"{layer}.mlp.fc2", hidden, 4 * hidden)
        shapes |= {f"{layer}.input_layernorm.{kind}": (hidden,) for kind in ("weight", "bias")}
    return _typed(shapes)


def chatglm(*, hidden: int, layers: int, kv: int, feed_forward: int, vocabulary: int) -> Tensors:
    """ChatGLM 2 and 3: `kv` numbers of keys, and of values, a token; a gated feed-forward in one tensor."""
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (vocabulary, hidden),
        "transformer.output_layer.weight": (vocabulary, hidden),
        "transformer.encoder.final_layernorm.weight": (hidden,),
    }
    for index in range(layers):
        layer = f"transformer.encoder.layers.{index}"
        shapes |= _linear(f"{layer}.self_attention.query_key_value", hidden + 2 * kv, hidden)
        shapes |= _linear(f"{layer}.self_attention.dense", hidden, hidden, bias=False)
        shapes |= _linear(f"{layer}.mlp.dense_h_to_4h", 2 * feed_forward, hidden, bias=False)
        shapes |= _linear(f"{layer}.mlp.dense_4h_to_h", hidden, feed_forward, bias=False)
        shapes |= {f"{layer}.{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
    return _typed(shapes)


def bert(
    *, sizes: tuple[int, int, int], vocabulary: int, positions: int, types: int, head: bool = False
) -> Tensors:
    """BERT's and RoBERTa's encoders; `sizes`: hidden, layers, feed-forward; a pooler, or a head of one score."""
    hidden, layers, feed_forward = sizes
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (types, hidden),
    }
    shapes |= {f"embeddings.LayerNorm.{kind}": (hidden,) for kind in ("weight", "bias")}
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes |= _linear(f"{layer}.{name}", hidden, hidden)
        shapes |= _linear(f"{layer}.intermediate.dense", feed_forward, hidden)
        shapes |= _linear(f"{layer}.output.dense", hidden, feed_forward)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.{kind}": (hidden,) for kind in ("weight", "bias")}
    if head:
        shapes |= _linear("classifier.dense", hidden, hidden) | _linear("classifier.out_proj", 1, hidden)
    else:
        shapes |= _linear("pooler.dense", hidden, hidden)
    return _typed(shapes, "F32")


def nomic(*, hidden: int, layers: int, feed_forward: int, vocabulary: int) -> Tensors:
    """Nomic's BERT: rotated positions, a gated feed-forward, no bias but the norms'."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
    }
    shapes |= {f"emb_ln.{kind}": (hidden,) for kind in ("weight", "bias")}
    for index in range(layers):
        layer = f"encoder.layers.{index}"
        shapes |= _linear(f"{layer}.attn.Wqkv", 3 * hidden, hidden, bias=False)
        shapes |= _linear(f"{layer}.attn.out_proj", hidden, hidden, bias=False)
        for name in ("fc11", "fc12"):
            shapes |= _linear(f"{layer}.mlp.{name}", feed_forward, hidden, bias=False)
        shapes |= _linear(f"{layer}.mlp.fc2", hidden, feed_forward, bias=False)
        shapes |= {f"{layer}.norm{n}.{kind}": (hidden,) for n in (1, 2) for kind in ("weight", "bias")}
    return _typed(shapes, "F32")


def lump(parameters: int, *, vocabulary: int, hidden: int, dtype: str = _DTYPE) -> Tensors:
    """A model of whose tensors only the embedding is told apart: the rest is what its published total leaves."""
    rest = parameters - vocabulary * hidden
    return {"model.embed_tokens.weight": (dtype, (vocabulary, hidden)), "model.rest": (dtype, (rest,))}


def in_eight_bits(tensors: Tensors) -> Tensors:
    """Return the tensors with the matrices of the language model's layers in 8 bits, as in FP8."""
    layers = {name for name, (_, sizes) in tensors.items() if "model.layers." in name and len(sizes) > 1}
    return {name: ("F8_E4M3" if name in layers else dtype, sizes) for name, (dtype, sizes) in tensors.items()}


def delta(form: Shape, *, interval: int, heads: tuple[int, int], length: int, prefix: str = "") -> Tensors:
    """Qwen 3.5: of `interval` layers the last attends behind a gate, the others are gated delta nets.

    `heads` of keys and of values of the latter, each of a `length`; their convolution is four tokens long.
    """
    found = decoder(form, prefix)
    keys, values = heads
    mixed, wide = (2 * keys + values) * length, values * length
    for index in range(form.layers):
        layer = f"{prefix}model.layers.{index}"
        if (index + 1) % interval == 0:
            found[f"{layer}.self_attn.q_proj.weight"] = (_DTYPE, (2 * form.heads * form.head_dim, form.hidden))
            continue
        found = {name: told for name, told in found.items() if not name.startswith(f"{layer}.self_attn.")}
        shapes: dict[str, tuple[int, ...]] = {
            "in_proj_qkv.weight": (mixed, form.hidden),
            "in_proj_z.weight": (wide, form.hidden),
            "in_proj_a.weight": (values, form.hidden),
            "in_proj_b.weight": (values, form.hidden),
            "out_proj.weight": (form.hidden, wide),
            "conv1d.taps": (4 * mixed,),
            "dt_bias": (values,),
            "A_log": (values,),
            "norm.weight": (length,),
        }
        found |= _typed({f"{layer}.linear_attn.{name}": sizes for name, sizes in shapes.items()})
    return found


def hybrid(form: Shape, *, full: Sequence[int], experts: int, shared: int, mamba: Mapping[str, int]) -> Tensors:
    """Granite 4.0 H: a few layers attend, the others are Mamba 2, and each has experts beside a shared one.

    `mamba` holds what config.json says of the latter.
    """
    inner = mamba["mamba_n_heads"] * mamba["mamba_d_head"]
    mixed = inner + 2 * mamba["mamba_n_groups"] * mamba["mamba_d_state"]
    found = decoder(form)
    for index in range(form.layers):
        layer, length = f"model.layers.{index}", form.feed_forward
        found = {name: told for name, told in found.items() if not name.startswith(f"{layer}.mlp.")}
        shapes: dict[str, tuple[int, ...]] = {
            "block_sparse_moe.input_linear.weight": (experts, 2 * length, form.hidden),
            "block_sparse_moe.output_linear.weight": (experts, form.hidden, length),
            "block_sparse_moe.router.layer.weight": (experts, form.hidden),
            "shared_mlp.input_linear.weight": (2 * shared, form.hidden),
            "shared_mlp.output_linear.weight": (form.hidden, shared),
        }
        if index not in full:
            found = {name: told for name, told in found.items() if not name.startswith(f"{layer}.self_attn.")}
            shapes |= {
                "mamba.in_proj.weight": (inner + mixed + mamba["mamba_n_heads"], form.hidden),
                "mamba.out_proj.weight": (form.hidden, inner),
                "mamba.conv1d.weight": (mixed, 1, mamba["mamba_d_conv"]),
                "mamba.conv1d.bias": (mixed,),
                "mamba.norm.weight": (inner,),
            }
            shapes |= {f"mamba.{name}": (mamba["mamba_n_heads"],) for name in ("A_log", "D", "dt_bias")}
        found |= _typed({f"{layer}.{name}": sizes for name, sizes in shapes.items()})
    return found
