# SPDX-License-Identifier: Apache-2.0
"""Turns parsed GGUF headers into the facts that sizing needs. Pure; it must not read files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.contract import HeaderFacts, LayerValues
from nimblet_loader.gguf import (
    LABELS,
    TENSOR_TYPES,
    TOKENS,
    ArrayLength,
    BadMagicError,
    GGUFError,
    GGUFHeader,
    TextDigest,
    UnsupportedVersionError,
    Value,
)

_CHAT_TEMPLATE = "tokenizer.chat_template"
_TOKEN_EMBEDDING = "token_embd.weight"  # noqa: S105
_HEAD_TENSORS = frozenset({"cls.weight", "cls.output.weight"})
"""Of a classification head (llama.cpp's LLM_TENSOR_CLS and LLM_TENSOR_CLS_OUT)."""
LABEL_BYTES = 32
"""Longest label told: sixteen of them must leave room in the message."""
_LARGEST = 2**62
_OTHER_KEYS = (
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.shared_kv_layers",
    "attention.kv_lora_rank",
    "attention.q_lora_rank",
    "full_attention_interval",
    "expert_feed_forward_length",
    "rope.dimension_count",
    "ssm.conv_kernel",
    "ssm.state_size",
    "ssm.inner_size",
    "ssm.group_count",
    "ssm.time_step_rank",
    "shortconv.l_cache",
    "wkv.head_size",
    "token_shift_count",
)
"""Integers of unusual architectures (windowed head sizes, latent attention, recurrent layers) kept as they are."""


@dataclass(frozen=True)
class TensorSum:
    """All tensors of a model: elements, bytes, bytes by type name, and what is told by names."""

    parameters: int
    tensor_bytes: int
    by_type: dict[str, int]
    token_embedding_bytes: int | None
    output_tied: bool
    classifier: bool


def header_error(path: str, error: GGUFError) -> SourceError:
    """Translate a parser's error about the file `path`."""
    if isinstance(error, BadMagicError):
        return SourceError(
            Reason.NotGGUF,
            f"Expected {quoted(path)} to be a GGUF file; {error}. Name a GGUF file, or convert the model first.",
        )
    if isinstance(error, UnsupportedVersionError):
        return SourceError(
            Reason.UnsupportedFormat, f"{quoted(path)} can't be read: {error}. Convert it with a current tool."
        )
    return SourceError(
        Reason.HeaderInvalid,
        f"Expected a sound GGUF header in {quoted(path)}; {error}. The file is damaged or hostile: "
        "use another one.",
    )


def check_extent(path: str, header: GGUFHeader, size: int) -> None:
    """Raise SourceError HeaderInvalid unless all tensors lie inside a file of `size` bytes."""
    end = max((t.offset + (t.size or 0) for t in header.tensors), default=0)
    if header.data_start + end > size and header.tensors:
        raise header_error(
            path, GGUFError(f"its tensors end at byte {header.data_start + end} but the file has {size} bytes")
        )


def header_facts(path: str, headers: Sequence[tuple[GGUFHeader, int]], *, vocabulary: bool = False) -> HeaderFacts:
    """Return the facts of a model from its parts in order, each a header with its file's size.

    SourceError HeaderInvalid or UnsupportedFormat names what is missing.
    """
    reader = _Metadata(path, headers[0][0])
    reader.require_model()
    tensors = sum_tensors(headers)
    heads = reader.layers("attention.head_count")
    embedding = reader.required("embedding_length")
    head_length = embedding // _most(heads) if heads is not None and _most(heads) else None
    template = reader.header.text_digests.get(_CHAT_TEMPLATE)
    return HeaderFacts(
        architecture=reader.architecture,
        name=reader.name(),
        parameters=tensors.parameters,
        tensor_bytes=tensors.tensor_bytes,
        tensor_types=tensors.by_type,
        token_embedding_bytes=tensors.token_embedding_bytes,
        output_tied=tensors.output_tied,
        file_type=reader.count("general.file_type"),
        context_length=reader.required("context_length"),
        embedding_length=embedding,
        feed_forward_length=reader.layers("feed_forward_length"),
        block_count=reader.required("block_count"),
        head_count=heads,
        head_count_kv=reader.layers("attention.head_count_kv", default=heads),
        key_length=reader.own("attention.key_length", default=head_length),
        value_length=reader.own("attention.value_length", default=head_length),
        sliding_window=reader.own("attention.sliding_window"),
        sliding_window_pattern=reader.layers("attention.sliding_window_pattern"),
        vocab_size=reader.vocabulary(),
        vocabulary=reader.header.text_digests.get(TOKENS, "")[:16] or None if vocabulary else None,
        merge_count=reader.length("tokenizer.ggml.merges"),
        expert_count=reader.own("expert_count"),
        expert_used_count=reader.own("expert_used_count"),
        pooling_type=reader.own("pooling_type"),
        causal_attention=reader.flag("attention.causal"),
        classifier=True if tensors.classifier else None,
        classifier_outputs=reader.label_count(),
        classifier_labels=reader.labels(),
        chat_template=template is not None,
        chat_template_sha256=template,
        other={key: value for key in _OTHER_KEYS if (value := reader.own(key)) is not None},
    )


def sum_tensors(headers: Sequence[tuple[GGUFHeader, int]]) -> TensorSum:
    """Add up the tensors of all parts; a type unknown here counts the bytes up to the next tensor."""
    parameters = total = 0
    by_type: dict[str, int] = {}
    embedding: int | None = None
    tied, head = True, False
    for header, size in headers:
        ordered = sorted(header.tensors, key=lambda tensor: tensor.offset)
        ends = [tensor.offset for tensor in ordered[1:]] + [max(size - header.data_start, 0)]
        # not strict: the first part of a split file may hold no tensor at all
        for tensor, end in zip(ordered, ends, strict=False):
            length = tensor.size if tensor.size is not None else max(end - tensor.offset, 0)
            name = TENSOR_TYPES[tensor.type_id][0] if tensor.type_id in TENSOR_TYPES else f"type{tensor.type_id}"
            parameters += tensor.elements
            total += length
            by_type[name] = by_type.get(name, 0) + length
            if tensor.name == _TOKEN_EMBEDDING:
                embedding = length
            tied = tied and tensor.name != "output.weight"
            head = head or tensor.name in _HEAD_TENSORS
    return TensorSum(parameters, total, dict(sorted(by_type.items())), embedding, tied, head)


def runs(values: Sequence[int]) -> LayerValues:
    """Compact one value per layer: a plain number if all are equal, else runs of (value, layers)."""
    grouped = tuple((value, len(list(group))) for value, group in groupby(values))
    return grouped[0][0] if len(grouped) == 1 else grouped


def _most(values: LayerValues) -> int:
    return values if isinstance(values, int) else max((value for value, _ in values), default=0)


class _Metadata:
    """Reads typed values of one header; a value of the wrong kind is HeaderInvalid."""

    def __init__(self, path: str, header: GGUFHeader) -> None:
        self.path = path
        self.header = header
        architecture = header.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture.isprintable() or not 0 < len(architecture) <= 64:  # noqa: PLR2004
            raise self._flaw("general.architecture is missing or not a short name")
        self.architecture = architecture

    def require_model(self) -> None:
        kind = self.header.metadata.get("general.type", "model")
        if kind != "model":
            raise SourceError(
                Reason.UnsupportedFormat,
                f"Expected {quoted(self.path)} to be a model; its general.type is {quoted(str(kind))}. "
                "Name the model's own GGUF file.",
            )

    def name(self) -> str | None:
        value = self.header.metadata.get("general.name")
        if not isinstance(value, str):
            return None
        return "".join(c for c in value if c.isprintable())[:128] or None

    def count(self, key: str) -> int | None:
        value = self.header.metadata.get(key)
        return None if value is None else self._integer(key, value)

    def own(self, key: str, *, default: int | None = None) -> int | None:
        value = self.header.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple) and value:
            return max(self._integer(key, item) for item in value)
        return default if value is None else self._integer(key, value)

    def required(self, key: str) -> int:
        value = self.own(key)
        if value is None:
            raise self._flaw(f"{self.architecture}.{key} is missing")
        return value

    def layers(self, key: str, *, default: LayerValues | None = None) -> LayerValues | None:
        value = self.header.metadata.get(f"{self.architecture}.{key}")
        if value is None or value == ():
            return default
        if isinstance(value, tuple):
            return runs([self._integer(key, item) for item in value])
        return self._integer(key, value)

    def flag(self, key: str) -> bool | None:
        value = self.header.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, bool) else None

    def vocabulary(self) -> int | None:
        tokens = self.header.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, ArrayLength):
            return tokens.length
        return self.own("vocab_size")

    def label_count(self) -> int | None:
        value = self._label_value()
        if isinstance(value, ArrayLength):
            return value.length
        return len(value) if isinstance(value, tuple) else None

    def labels(self) -> tuple[str, ...] | None:
        """Return the labels, or None unless each is a short line."""
        value = self._label_value()
        if isinstance(value, ArrayLength) or not isinstance(value, tuple):
            return None
        texts = tuple(str(item) for item in value)
        fit = all(text.isprintable() and 0 < len(text.encode()) <= LABEL_BYTES for text in texts)
        return texts if fit and texts else None

    def _label_value(self) -> Value | None:
        return self.header.metadata.get(f"{self.architecture}{LABELS}")

    def length(self, key: str) -> int:
        value = self.header.metadata.get(key)
        return value.length if isinstance(value, ArrayLength) else 0

    def _integer(self, key: str, value: Value) -> int:
        if isinstance(value, (str, float, TextDigest, ArrayLength, tuple)) or not 0 <= value <= _LARGEST:
            raise self._flaw(f"{quoted(key)} is {quoted(str(value), limit=40)}, not a natural number")
        return int(value)

    def _flaw(self, text: str) -> SourceError:
        return header_error(self.path, GGUFError(text))
