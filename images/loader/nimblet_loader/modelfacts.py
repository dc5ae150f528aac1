# SPDX-License-Identifier: Apache-2.0
"""Turns the headers of a safetensors repository and its JSON files into the facts that sizing needs. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from nimblet_loader.contract import HeaderFacts, Quantization
from nimblet_loader.facts import LABEL_BYTES
from nimblet_loader.modelconfig import (
    ModelConfig,
    PoolingConfig,
    QuantizationConfig,
    TokenizerConfig,
    invalid,
    parse_config,
    parse_json,
)
from nimblet_loader.repository import CONFIG, POOLING, TEMPLATES, TOKENIZER_CONFIG
from nimblet_loader.safetensors import SafetensorsHeader, Tensor
from nimblet_loader.shape import shape_of

_PACKED_WORDS: Final = ("qweight", "weight_packed")
"""Names of tensors whose 32-bit words hold several weights each: of AWQ and GPTQ, and of compressed-tensors."""
_NO_WEIGHTS: Final = (
    "qzeros",
    "scales",
    "g_idx",
    "weight_scale",
    "weight_scale_2",
    "weight_scale_inv",
    "weight_zero_point",
    "weight_shape",
    "weight_g_idx",
    "input_scale",
    "absmax",
    "quant_map",
    "nested_absmax",
    "nested_quant_map",
    "bitsandbytes__nf4",
    "bitsandbytes__fp4",
    "_scales",
)
"""Ends of the names of what belongs to a quantization: bytes, but no parameters."""
_WORD_BITS: Final = 32
_EMBEDDINGS: Final = (
    "embed_tokens.weight",
    "word_embeddings.weight",
    "wte.weight",
    "tok_embeddings.weight",
    "embeddings.weight",
)
_HEADS: Final = ("lm_head.weight", "embed_out.weight", "lm_head.qweight")
_KNOWN_BITS: Final[Mapping[str, int]] = {
    "fp8": 8,
    "fbgemm_fp8": 8,
    "mxfp4": 4,
    "awq": 4,
    "bitnet": 2,
    "nvfp4": 4,
}
_MEAN, _CLS, _LAST = 1, 2, 3
"""The pooling types of GGUF (llama.h's llama_pooling_type), which plans know."""
_MOST_LABELS: Final = 16


@dataclass(frozen=True)
class Repository:
    """A repository as far as it was read: folder, headers of all parts, and the JSON files by their names."""

    folder: str
    headers: Sequence[SafetensorsHeader]
    texts: Mapping[str, bytes]
    names: frozenset[str]


def repository_facts(repository: Repository) -> HeaderFacts:
    """Return the facts of a model; SourceError HeaderInvalid or UnsafeFormat names what is wrong with it."""
    path = repository.folder + CONFIG
    config = parse_config(path, repository.texts[CONFIG])
    shape, tensors = shape_of(path, config), _Tensors(config.quantization_config)
    for header in repository.headers:
        for tensor in header.tensors:
            tensors.add(tensor)
    architecture = _architecture(path, config)
    labels = _labels(config) if _classifies(architecture) else None
    return HeaderFacts(
        architecture=architecture,
        model_type=config.text.model_type or config.model_type or None,
        dtype=config.dtype or config.text.dtype,
        quantization=tensors.quantization,
        parameters=tensors.parameters,
        tensor_bytes=sum(tensors.by_type.values()),
        tensor_types=dict(sorted(tensors.by_type.items())),
        token_embedding_bytes=tensors.embedding_bytes,
        output_tied=not tensors.head,
        context_length=shape.context_length,
        embedding_length=shape.embedding_length,
        feed_forward_length=shape.feed_forward_length,
        block_count=shape.block_count,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
        key_length=shape.key_length,
        value_length=shape.key_length,
        sliding_window=shape.sliding_window,
        sliding_window_pattern=shape.sliding_window_pattern,
        vocab_size=config.text.vocab_size or config.text.default("vocab_size"),
        expert_count=config.text.experts,
        expert_used_count=config.text.experts_used,
        pooling_type=_pooling(repository, architecture),
        causal_attention=False if _encodes(architecture) else None,
        classifier=True if _classifies(architecture) else None,
        classifier_outputs=len(labels) if labels else None,
        classifier_labels=_short(labels),
        chat_template=_has_template(repository),
        other=shape.other,
    )


class _Tensors:
    """All tensors of a model added up."""

    def __init__(self, config: QuantizationConfig | None) -> None:
        self.quantization = quantization_of(config) if config is not None else None
        self.parameters = 0
        self.by_type: Counter[str] = Counter()
        self.embedding_bytes: int | None = None
        self.head = False

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's bytes, and its weights where it holds any."""
        length = tensor.stop - tensor.start
        self.by_type[tensor.dtype] += length
        self.parameters += self._weights(tensor)
        if tensor.name.endswith(_EMBEDDINGS):
            self.embedding_bytes = max(length, self.embedding_bytes or 0)
        self.head = self.head or tensor.name.endswith(_HEADS)

    def _weights(self, tensor: Tensor) -> int:
        elements, bits = prod(tensor.shape), self.quantization.bits if self.quantization is not None else None
        if self.quantization is None:
            return elements
        if tensor.name.endswith(_NO_WEIGHTS):
            return 0
        if tensor.dtype == "I32" and tensor.name.endswith(_PACKED_WORDS) and bits:
            return elements * _WORD_BITS // bits
        if tensor.dtype == "U8" and bits:  # bitsandbytes and MXFP4 put two weights of 4 bits into a byte
            return elements * 8 // bits
        return elements


def quantization_of(config: QuantizationConfig) -> Quantization | None:
    """Return the method, bits and group of the weights; None where the method has no name."""
    method = (config.quant_method or "").lower() or (
        "bitsandbytes" if config.load_in_4bit or config.load_in_8bit else ""
    )
    if not method:
        return None
    first = next((group.weights for group in (config.config_groups or {}).values() if group.weights), None)
    algorithm = (config.quant_algo or "").lower()
    bits = config.bits or (first.num_bits if first is not None else None)
    if bits is None and method == "bitsandbytes":
        bits = 4 if config.load_in_4bit else 8
    if bits is None:
        bits = _KNOWN_BITS.get(algorithm) or _KNOWN_BITS.get(method)
    group = (
        config.group_size if config.group_size is not None else (first.group_size if first is not None else None)
    )
    return Quantization(
        method=_plain(method),
        bits=bits if bits is not None and 1 <= bits <= _WORD_BITS else None,
        group_size=group if group is not None and group > 0 else None,
    )


def _plain(method: str) -> str:
    """Return a method's name as plain text: it goes into messages and arguments."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in method).lstrip("_-")
    return kept[:32] or "unknown"


def _architecture(path: str, config: ModelConfig) -> str:
    name = config.architectures[0] if config.architectures else ""
    if not name.isascii() or not name.isidentifier():
        raise invalid(path, "no plain name of a class in architectures")
    return name


def _encodes(architecture: str) -> bool:
    """Tell whether a class only reads: BERT's family and its like, by the names that transformers gives them."""
    encoders = ("Bert", "BERT", "Roberta", "MPNet", "Electra")
    return any(name in architecture for name in encoders) and not architecture.endswith("LMHeadModel")


def _classifies(architecture: str) -> bool:
    return architecture.endswith("ForSequenceClassification")


def _pooling(repository: Repository, architecture: str) -> int | None:
    """Return the pooling as GGUF counts them; encoders without a word on it take the first token's state."""
    raw = repository.texts.get(POOLING)
    if raw is None:
        return _CLS if _encodes(architecture) and not _classifies(architecture) else None
    modes = parse_json(PoolingConfig, repository.folder + POOLING, raw)
    if modes.pooling_mode_lasttoken:
        return _LAST
    return _CLS if modes.pooling_mode_cls_token else _MEAN


def _labels(config: ModelConfig) -> list[str]:
    named = config.id2label or {}
    return [named[key] for key in sorted(named, key=lambda key: (len(key), key))]


def _short(labels: list[str] | None) -> tuple[str, ...] | None:
    """Return the labels where they are few and each is a short line."""
    fit = labels is not None and 0 < len(labels) <= _MOST_LABELS
    if labels is None or not fit:
        return None
    plain = all(label.isprintable() and 0 < len(label.encode()) <= LABEL_BYTES for label in labels)
    return tuple(labels) if plain else None


def _has_template(repository: Repository) -> bool:
    if repository.names & TEMPLATES:
        return True
    raw = repository.texts.get(TOKENIZER_CONFIG)
    if raw is None:
        return False
    return bool(parse_json(TokenizerConfig, repository.folder + TOKENIZER_CONFIG, raw).chat_template)
