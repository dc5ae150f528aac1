# SPDX-License-Identifier: Apache-2.0
"""The header that a GGUF file of a model has: the tensors as llama.cpp quantizes them, and the metadata. Pure.

The mixtures are those of llama-quantize (src/llama-quant.cpp): Q4_K_M keeps the head in Q6_K, fused projections in
Q5_K, and of values and of the way down every other layer in Q6_K; rows that are no multiple of 256 fall back.
"""

import re
from math import prod
from typing import Final

from nimblet_loader.contract import HeaderFacts
from nimblet_loader.facts import header_facts
from nimblet_loader.gguf import TENSOR_TYPES, ArrayLength, GGUFHeader, Tensor, TextDigest, Value
from tests.catalog.record import GGUF, Entry
from tests.catalog.shapes import Tensors

TYPE_IDS: Final = {name: type_id for type_id, (name, _, _) in TENSOR_TYPES.items()}
TOKEN_BYTES: Final = 40
"""Of a vocabulary's metadata a token: text, score, kind and its merge, no more than that (published sizes)."""
_SIGHT: Final = ("vision_tower.", "pooler.")
"""Not in the file: what sees images is one of its own, and an encoder's pooler is left out."""
_EMBEDDING: Final = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight")
_HEAD: Final = ("lm_head.weight", "output_layer.weight")
_DOWN: Final = ("down_proj.weight", "fc2.weight", "dense_4h_to_h.weight", ".w2.weight", "output_linear.weight")
_FUSED: Final = ("qkv_proj.weight", "query_key_value.weight", "Wqkv.weight")
_WHOLE: Final = (
    "position_embeddings.weight",
    "token_type_embeddings.weight",
    "gate.weight",
    "router.layer.weight",
)
_FALLBACK: Final = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_BLOCK: Final = 256
_NUMBER: Final = re.compile(r"\.(\d+)\.")


def gguf_facts(entry: Entry, gguf: GGUF, plain: HeaderFacts) -> HeaderFacts:
    """Return what the loader tells of the file; `plain` is what it tells of the model's config.json."""
    stored = tuple(_stored(entry, gguf))
    texts = {_TEMPLATE: "0" * 64} if entry.task == "Chat" else {}
    header = GGUFHeader(3, _metadata(entry, gguf, plain), texts, stored, 0)
    facts = header_facts("model.gguf", [(header, sum(tensor.size or 0 for tensor in stored))])
    if gguf.size is None or not is_lump(entry.tensors):
        return facts
    # only the sum is published: in bytes, and in numbers
    size = gguf.size.value - TOKEN_BYTES * (plain.vocab_size or 0)
    return facts.model_copy(
        update={"tensor_bytes": size, "parameters": plain.parameters, "tensor_types": {gguf.quantization: size}}
    )


_TEMPLATE: Final = "tokenizer.chat_template"


def is_lump(tensors: Tensors) -> bool:
    """Tell whether only the sum of the tensors is recorded."""
    return "model.rest" in tensors


def _stored(entry: Entry, gguf: GGUF) -> list[Tensor]:
    tensors = {name: sizes for name, (_, sizes) in entry.tensors.items() if not name.startswith(_SIGHT)}
    if gguf.repeats_embedding:
        tensors["lm_head.weight"] = next(sizes for name, sizes in tensors.items() if name.endswith(_EMBEDDING))
    tied, at, found = not any(name.endswith(_HEAD) for name in tensors), 0, []
    layers = len({number[1] for name in tensors if (number := _NUMBER.search(name))})
    for name, sizes in tensors.items():
        kind = _kind(name, sizes, gguf, tied=tied, layers=layers)
        _, elements, length = TENSOR_TYPES[TYPE_IDS[kind]]
        size = prod(sizes) * length // elements
        told = "token_embd.weight" if name.endswith(_EMBEDDING) else name
        told = "output.weight" if name.endswith(_HEAD) else told
        told = "cls.weight" if name == "classifier.dense.weight" else told
        found.append(Tensor(told, prod(sizes), TYPE_IDS[kind], size, at))
        at += size
    if gguf.labels:
        found.append(
            Tensor(
                "cls.output.weight",
                len(gguf.labels) * sizes[-1],
                TYPE_IDS["F32"],
                4 * len(gguf.labels) * sizes[-1],
                at,
            )
        )
    return found


def _kind(name: str, sizes: tuple[int, ...], gguf: GGUF, *, tied: bool, layers: int) -> str:
    """Return the type that a tensor is stored in."""
    if len(sizes) < 2 or name.endswith(_WHOLE):
        return "F32"
    if gguf.quantization in ("F16", "Q8_0"):
        return gguf.quantization
    head = name.endswith(_HEAD) or (tied and name.endswith(_EMBEDDING))
    if head:
        wanted = "Q8_0" if gguf.architecture == "falcon" else "Q6_K"
    elif gguf.quantization == "Q4_0":
        return "Q4_0"
    else:
        wanted = _mixed(name, gguf, layers=layers)
    return _FALLBACK.get(wanted, wanted) if sizes[-1] % _BLOCK else wanted


def _mixed(name: str, gguf: GGUF, *, layers: int) -> str:
    """Return the type that Q4_K_M gives a matrix."""
    number = _NUMBER.search(name)
    index = int(number[1]) if number is not None else 0
    if name.endswith(_FUSED):
        return "Q5_K"
    more = index < layers // 8 or index >= 7 * layers // 8 or (index - layers // 8) % 3 == 2
    if name.endswith(_DOWN) and gguf.architecture == "falcon":
        return "Q6_K" if index < layers // 16 else "Q5_K" if more else "Q4_K"
    if name.endswith((*_DOWN, "v_proj.weight")):
        return "Q6_K" if more else "Q4_K"
    return "Q4_K"


def _metadata(entry: Entry, gguf: GGUF, plain: HeaderFacts) -> dict[str, Value]:
    heads, kv_heads = plain.head_count, plain.head_count_kv
    keys: dict[str, object] = {
        "context_length": plain.context_length or entry.context,
        "embedding_length": plain.embedding_length,
        "block_count": plain.block_count,
        "feed_forward_length": _flat(plain.feed_forward_length),
        "attention.head_count": _flat(heads),
        "attention.head_count_kv": _flat(kv_heads),
        "attention.key_length": plain.key_length,
        "attention.value_length": plain.value_length,
        "attention.sliding_window": plain.sliding_window,
        "attention.sliding_window_pattern": _flat(plain.sliding_window_pattern),
        "expert_count": plain.expert_count,
        "expert_used_count": plain.expert_used_count,
        "pooling_type": gguf.pooling,
        "attention.causal": plain.causal_attention,
        **plain.other,
        **gguf.other,
    }
    found: dict[str, Value] = {"general.architecture": gguf.architecture}
    found |= {f"{gguf.architecture}.{key}": value for key, value in keys.items() if value is not None}  # type: ignore[misc]
    if gguf.labels:
        found[f"{gguf.architecture}.classifier.output_labels"] = gguf.labels
    if entry.task == "Chat":
        found[_TEMPLATE] = TextDigest(1024, "0" * 64)
    return {**found, "tokenizer.ggml.tokens": ArrayLength(plain.vocab_size or 0)}


def _flat(values: object) -> object:
    """Return one number, or one for each layer."""
    if not isinstance(values, tuple):
        return values
    return tuple(value for value, count in values for _ in range(count))
