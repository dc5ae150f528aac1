# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 as GGUF files for llama.cpp: the encoder itself, and two with a small head on top. No download.

The heads are computed from the weights, never trained, so that each file is the same wherever it is made:
real enough that a matching pair scores higher than an unrelated one, and good for nothing but tests.
Needs `gguf` and `safetensors` only. Tensor names: gguf.constants of the arch `bert`; the head's place in the
graph: llama.cpp b11434, src/llama-graph.cpp (build_pooling, LLAMA_POOLING_TYPE_RANK).
"""

import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray
from safetensors.numpy import load_file

WIDTH: Final = 384
LAYERS: Final = 6
HEADS: Final = 12
FEED_FORWARD: Final = 1536
CONTEXT: Final = 512
NORM_EPSILON: Final = 1e-12
LABELS: Final = ("sport", "money", "weather")
"""Of the classifier; each is one word of the vocabulary."""

RERANK_LAYERS: Final = 4
"""Of the encoder's six: behind the last ones both halves are too mixed for their agreement to show."""
RERANK_BIAS: Final = 0.5
"""Where tanh bends: the sum of both signs then grows with the square of its input."""
RERANK_SLOPE: Final = 0.5
RERANK_SCALE: Final = 1 / 64
_ROUNDING: Final = 256
_WORD_START: Final = "\u2581"

Matrix = NDArray[np.float64]
Tensors = dict[str, NDArray[np.float32]]


class Head(StrEnum):
    """What stands on top of the encoder."""

    NONE = "none"
    RERANK = "rerank"
    """One score of a pair: the length of its mean vector, which grows with the agreement of both halves."""
    CLASSIFY = "classify"
    """A score a label: the mean vector times the label's own."""


_LAYER_NAMES: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_NAMES: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    **{
        f"encoder.layer.{layer}.{theirs}": f"blk.{layer}.{ours}"
        for layer in range(LAYERS)
        for theirs, ours in _LAYER_NAMES.items()
    },
}


def write_minilm(folder: Path, *, target: Path, head: Head) -> None:
    """Write the model in `folder` (model.safetensors, vocab.txt) as one GGUF file: f16, Q8_0 with a head."""
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    weights = load_file(str(folder / "model.safetensors"))
    tensors = {ours: weights[theirs] for theirs, ours in _tensor_names(weights)}
    layers = RERANK_LAYERS if head is Head.RERANK else LAYERS
    tensors |= _head_tensors(head, tensors, words)
    writer = gguf.GGUFWriter(target, "bert")
    _describe(writer, head, layers=layers)
    _add_vocabulary(writer, words)
    wanted = gguf.GGMLQuantizationType.F16 if head is Head.NONE else gguf.GGMLQuantizationType.Q8_0
    unused = tuple(f"blk.{layer}." for layer in range(layers, LAYERS))
    for name, tensor in sorted(tensors.items()):
        if name.startswith(unused):
            continue
        _add_tensor(writer, name, tensor, wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensor_names(weights: Tensors) -> Iterator[tuple[str, str]]:
    """Give the names of the encoder's tensors, theirs and ours; its pooler and position ids are not used."""
    for name in weights:
        stem, _, kind = name.rpartition(".")
        if stem in _NAMES:
            yield name, f"{_NAMES[stem]}.{kind}"


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: NDArray[np.float32], wanted: gguf.GGMLQuantizationType
) -> None:
    """Keep what is read row by row or added in f32, as llama.cpp's own converter does."""
    small = tensor.ndim == 1 or name.startswith(("position_embd", "token_types"))
    kind = gguf.GGMLQuantizationType.F32 if small else wanted
    data = quantize(np.ascontiguousarray(tensor, dtype=np.float32), kind)
    writer.add_tensor(name, data, raw_dtype=kind)


def _describe(writer: gguf.GGUFWriter, head: Head, *, layers: int) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(layers)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(NORM_EPSILON)
    writer.add_causal_attention(value=False)
    writer.add_token_type_count(2)
    if head is Head.NONE:
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        return
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    # gguf 0.19 has no method for it: the head sees the mean of all tokens, not the first one.
    writer.add_uint32("bert.classifier.pooling_type", gguf.PoolingType.MEAN.value)
    if head is Head.CLASSIFY:
        writer.add_classifier_output_labels(LABELS)


def _add_vocabulary(writer: gguf.GGUFWriter, words: Sequence[str]) -> None:
    """Write WordPiece as llama.cpp wants it: a mark at a word's start instead of ## inside it."""
    control = [word.startswith("[") and word.endswith("]") and len(word) > 2 for word in words]
    kinds = [gguf.TokenType.CONTROL if flag else gguf.TokenType.NORMAL for flag in control]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(
        [word if flag else _piece(word) for word, flag in zip(words, control, strict=True)],
    )
    writer.add_token_types(kinds)
    places = {word: place for place, word in enumerate(words)}
    writer.add_unk_token_id(places["[UNK]"])
    writer.add_sep_token_id(places["[SEP]"])
    writer.add_pad_token_id(places["[PAD]"])
    writer.add_mask_token_id(places["[MASK]"])
    writer.add_uint32("tokenizer.ggml.cls_token_id", places["[CLS]"])


def _piece(word: str) -> str:
    return word[2:] if word.startswith("##") else _WORD_START + word


def _head_tensors(head: Head, tensors: Tensors, words: Sequence[str]) -> Tensors:
    if head is Head.RERANK:
        return _rerank_head()
    if head is Head.CLASSIFY:
        rows = np.stack([_label_vector(tensors, words, label) for label in LABELS])
        return {"cls.output.weight": (np.round(rows * _ROUNDING) / _ROUNDING).astype(np.float32)}
    return {}


def _rerank_head() -> Tensors:
    """Return tanh(b + a·x) + tanh(b - a·x) over half of the mean vector's numbers, negated and added up."""
    half = np.eye(WIDTH // 2, WIDTH, dtype=np.float32) * RERANK_SLOPE
    return {
        "cls.weight": np.concatenate([half, -half]),
        "cls.bias": np.full(WIDTH, RERANK_BIAS, dtype=np.float32),
        "cls.output.weight": np.full((1, WIDTH), -RERANK_SCALE, dtype=np.float32),
        "cls.output.bias": np.full(1, RERANK_SCALE * WIDTH * math.tanh(RERANK_BIAS), dtype=np.float32),
    }


def _label_vector(tensors: Tensors, words: Sequence[str], label: str) -> Matrix:
    """Return the encoder's mean vector of one word, of length 1; in f64, so that every machine agrees on it."""
    tokens = [words.index(word) for word in ("[CLS]", label, "[SEP]")]
    exact = {name: tensor.astype(np.float64) for name, tensor in tensors.items() if name != "token_embd.weight"}
    state = tensors["token_embd.weight"][tokens].astype(np.float64) + exact["token_types.weight"][0]
    state = _normal(state + exact["position_embd.weight"][: len(tokens)], exact, "token_embd_norm")
    for layer in range(LAYERS):
        state = _encode(state, exact, f"blk.{layer}")
    mean: Matrix = state.mean(axis=0)
    return mean / np.linalg.norm(mean)


def _encode(state: Matrix, weights: dict[str, Matrix], block: str) -> Matrix:
    """Apply one layer: attention of all to all, then the feed-forward, each added and normalised."""

    def heads(name: str) -> Matrix:
        return _linear(state, weights, f"{block}.{name}").reshape(len(state), HEADS, -1).transpose(1, 0, 2)

    query, key, value = heads("attn_q"), heads("attn_k"), heads("attn_v")
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    seen = (shares @ value).transpose(1, 0, 2).reshape(len(state), WIDTH)
    state = _normal(state + _linear(seen, weights, f"{block}.attn_output"), weights, f"{block}.attn_output_norm")
    wide = _linear(state, weights, f"{block}.ffn_up")
    wide = 0.5 * wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
    return _normal(state + _linear(wide, weights, f"{block}.ffn_down"), weights, f"{block}.layer_output_norm")


def _linear(state: Matrix, weights: dict[str, Matrix], name: str) -> Matrix:
    result: Matrix = state @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _normal(state: Matrix, weights: dict[str, Matrix], name: str) -> Matrix:
    centred = state - state.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPSILON)
    result: Matrix = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result
