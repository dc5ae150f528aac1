# SPDX-License-Identifier: Apache-2.0
"""Writes small GGUF files for tests, sound or flawed on purpose."""

import struct
from dataclasses import dataclass, field

U32, STRING, ARRAY = 4, 8, 9
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


def _bytes(shape: tuple[int, ...]) -> int:
    size = 4
    for dimension in shape:
        size *= dimension
    return size


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
