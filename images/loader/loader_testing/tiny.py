# SPDX-License-Identifier: Apache-2.0
"""Writes small GGUF files for tests, sound or flawed on purpose."""

import struct
from dataclasses import dataclass, field

U16, U32, I32, STRING, ARRAY = 2, 4, 5, 8, 9
F32 = 0
ALIGNMENT = 32

Pair = tuple[str, bytes]


def text(value: str) -> bytes:
    """Encode a string with its length."""
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def u32(key: str, value: int) -> Pair:
    """Return a metadata pair with an unsigned integer."""
    return key, struct.pack("<II", U32, value)


def split_pairs(number: int, count: int, *, tensors: int) -> tuple[Pair, ...]:
    """Return what a split model's part says of itself; its number counts from 1, as in its name."""
    return (
        ("split.no", struct.pack("<IH", U16, number - 1)),
        ("split.count", struct.pack("<IH", U16, count)),
        ("split.tensors.count", struct.pack("<Ii", I32, tensors)),
    )


def string(key: str, value: str) -> Pair:
    """Return a metadata pair with a string."""
    return key, struct.pack("<I", STRING) + text(value)


def strings(key: str, values: list[str]) -> Pair:
    """Return a metadata pair with an array of strings."""
    return key, struct.pack("<IIQ", ARRAY, STRING, len(values)) + b"".join(text(value) for value in values)


def integers(key: str, values: list[int]) -> Pair:
    """Return a metadata pair with an array of integers."""
    return key, struct.pack("<IIQ", ARRAY, U32, len(values)) + struct.pack(f"<{len(values)}I", *values)


def model_pairs(*, vocabulary: int = 40) -> tuple[Pair, ...]:
    """Return the metadata of a small Llama-like model."""
    return (
        string("general.architecture", "llama"),
        string("general.name", "tiny"),
        u32("general.file_type", 0),
        u32("llama.context_length", 2048),
        u32("llama.embedding_length", 64),
        u32("llama.feed_forward_length", 128),
        u32("llama.block_count", 2),
        u32("llama.attention.head_count", 4),
        u32("llama.attention.head_count_kv", 2),
        strings("tokenizer.ggml.tokens", [f"token-{number}" for number in range(vocabulary)]),
        string("tokenizer.chat_template", "{{ messages }}"),
    )


@dataclass(frozen=True)
class TinyModel:
    """A GGUF file in the making: metadata pairs, tensors by name with their shape (all F32), data."""

    pairs: tuple[Pair, ...] = field(default_factory=model_pairs)
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("token_embd.weight", (64, 40)),
        ("blk.0.ffn_up.weight", (64, 128)),
    )
    magic: bytes = b"GGUF"
    version: int = 3

    def header(self) -> bytes:
        """Return the header without padding."""
        parts = [self.magic, struct.pack("<IQQ", self.version, len(self.tensors), len(self.pairs))]
        parts += [text(key) + value for key, value in self.pairs]
        offset = 0
        for name, shape in self.tensors:
            parts.append(text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
            parts.append(struct.pack("<IQ", F32, offset))
            offset += _padded(_bytes(shape))
        return b"".join(parts)

    def file(self) -> bytes:
        """Return the whole file; its data is a counting pattern, so that a shifted byte shows."""
        header = self.header()
        size = sum(_padded(_bytes(shape)) for _, shape in self.tensors)
        data = b"".join(struct.pack("<I", number) for number in range(size // 4))
        return header.ljust(_padded(len(header)), b"\0") + data


def split_parts(prefix: str, count: int) -> dict[str, bytes]:
    """Return the parts of a split model by their names, each with two tensors."""
    parts = {}
    for number in range(1, count + 1):
        tensors = ((f"blk.{number}.a", (64, 40)), (f"blk.{number}.b", (64, 128)))
        pairs = (*model_pairs(), *split_pairs(number, count, tensors=2 * count))
        parts[f"{prefix}-{number:05}-of-{count:05}.gguf"] = TinyModel(pairs=pairs, tensors=tensors).file()
    return parts


def _bytes(shape: tuple[int, ...]) -> int:
    size = 4
    for dimension in shape:
        size *= dimension
    return size


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
