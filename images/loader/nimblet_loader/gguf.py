# SPDX-License-Identifier: Apache-2.0
"""Reads the header of a GGUF file from a stream of chunks, with own limits on everything it counts.

The input is hostile: each length is checked before anything is allocated for it, long arrays and strings are
passed over without being held, and every flaw ends in GGUFError. It must not read tensor data or do I/O.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MAGIC = b"GGUF"
TOKENS = "tokenizer.ggml.tokens"
DIGESTED_FROM, DIGESTED_TOKENS = 5, 4096
"""Of the first 4,096 tokens those behind are digested: there llama.cpp begins to compare (speculative.cpp)."""
LABELS = ".classifier.output_labels"
"""End of the one key whose texts are kept: the names of a classifier's classes."""
VERSIONS = (2, 3)


@dataclass(frozen=True)
class Limits:
    """Bounds far above any real model of this project's size, far below what harms the loader."""

    header_bytes: int = 128 * 2**20
    pairs: int = 4096
    tensors: int = 65_536
    key_bytes: int = 1024
    string_bytes: int = 4 * 2**20
    kept_string_bytes: int = 512
    array_items: int = 2**23
    kept_array_items: int = 1024
    kept_items_in_all: int = 16_384
    kept_labels: int = 16
    array_depth: int = 2
    dimensions: int = 4
    tensor_name_bytes: int = 256


class GGUFError(Exception):
    """The bytes are not a GGUF header that may be trusted; the message says where and why."""


class BadMagicError(GGUFError):
    """The bytes do not begin as a GGUF file."""


class UnsupportedVersionError(GGUFError):
    """A GGUF file of a version or byte order that is not read here."""


class TextDigest(NamedTuple):
    """A string too long to keep: its length in bytes and its sha256."""

    length: int
    sha256: str


class ArrayLength(NamedTuple):
    """An array that was passed over: its number of items."""

    length: int


Scalar = int | float | bool | str
Value = Scalar | TextDigest | ArrayLength | tuple[int, ...] | tuple[str, ...]


@dataclass(frozen=True)
class Tensor:
    """One tensor's place: elements, bytes (None for an unknown type) and offset in the data section."""

    name: str
    elements: int
    type_id: int
    size: int | None
    offset: int
    shape: tuple[int, ...] = ()
    """Numbers of a row first."""


@dataclass(frozen=True)
class GGUFHeader:
    """A parsed header. `data_start` is the offset of the data section, `metadata` keeps small values only."""

    version: int
    metadata: dict[str, Value]
    text_digests: dict[str, str]
    tensors: tuple[Tensor, ...]
    data_start: int


# Type id → name, elements and bytes of a block: ggml's table of quantization sizes (QK_K = 256).
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}

_BOOL, _STRING, _ARRAY = 7, 8, 9
_INTEGERS = frozenset({0, 1, 2, 3, 4, 5, 10, 11})
_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 2**16
_MAX_DATA_BYTES = 2**50


def parse_header(chunks: Iterator[bytes], *, limits: Limits | None = None) -> GGUFHeader:
    """Parse the header at the start of `chunks`, taking no more of them than needed, or raise GGUFError."""
    return _Parser(_Cursor(chunks, limits or Limits())).header()


class _Cursor:
    """Takes exact numbers of bytes out of chunks and counts them; holds one chunk at a time."""

    def __init__(self, chunks: Iterator[bytes], limits: Limits) -> None:
        self.limits = limits
        self.position = 0
        self._chunks = chunks
        self._chunk = memoryview(b"")

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes, which the caller has bounded."""
        if len(self._chunk) >= length:
            piece = bytes(self._chunk[:length])
            self._chunk = self._chunk[length:]
            self._count(length)
            return piece
        return b"".join(bytes(piece) for piece in self._pieces(length))

    def skip(self, length: int) -> None:
        """Pass over `length` bytes without holding them."""
        if len(self._chunk) >= length:  # the common case of short tokens, hundreds of thousands of them
            self._chunk = self._chunk[length:]
            self._count(length)
            return
        for _ in self._pieces(length):
            pass

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings with their lengths: a quarter of a million tokens in little time."""
        limit, unpack = self.limits.string_bytes, _U64.unpack_from
        while count:
            chunk, at, end = self._chunk, 0, len(self._chunk)
            last = end - _U64.size
            while count and at <= last:
                (length,) = unpack(chunk, at)
                after = at + 8 + length
                if after > end or length > limit:
                    break
                at = after
                count -= 1
            self._chunk = chunk[at:]
            self._count(at)
            if count:  # one string across a chunk's border, or too long a one
                length = self.number(_U64)
                if length > limit:
                    raise GGUFError(f"a string is {length} bytes long, more than {limit}")
                self.skip(length)
                count -= 1

    def digest(self, length: int) -> str:
        """Pass over `length` bytes and return their sha256 in hex."""
        digest = hashlib.sha256()
        for piece in self._pieces(length):
            digest.update(piece)
        return digest.hexdigest()

    def number(self, form: struct.Struct) -> int:
        """Return the next integer of the given form."""
        return int(form.unpack(self.take(form.size))[0])

    def _pieces(self, length: int) -> Iterator[memoryview]:
        self._count(length)
        while length > 0:
            if not self._chunk:
                self._chunk = memoryview(next(self._chunks, b""))
                if not self._chunk:
                    raise GGUFError(f"it ends inside its header, {length} bytes before position {self.position}")
            piece = self._chunk[:length]
            self._chunk = self._chunk[length:]
            length -= len(piece)
            yield piece

    def _count(self, length: int) -> None:
        self.position += length
        if self.position > self.limits.header_bytes:
            raise GGUFError(f"its header is longer than {self.limits.header_bytes} bytes")


@dataclass
class _Parser:
    cursor: _Cursor
    kept_items: int = 0
    text_digests: dict[str, str] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        return self.cursor.limits

    def header(self) -> GGUFHeader:
        version = self._version()
        tensor_count = self._bounded(_U64, self.limits.tensors, "number of tensors")
        pair_count = self._bounded(_U64, self.limits.pairs, "number of metadata pairs")
        metadata: dict[str, Value] = {}
        for _ in range(pair_count):
            key = self._text(self.limits.key_bytes, "a metadata key")
            if key in metadata:
                raise GGUFError(f"the metadata key {key!r} occurs twice")
            metadata[key] = self._value(key)
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise GGUFError("a tensor name occurs twice")
        alignment = _alignment(metadata)
        start = -(-self.cursor.position // alignment) * alignment
        return GGUFHeader(version, metadata, self.text_digests, tensors, start)

    def _version(self) -> int:
        try:
            magic = self.cursor.take(len(MAGIC))
        except GGUFError as error:
            raise BadMagicError("it is shorter than four bytes") from error
        if magic != MAGIC:
            raise BadMagicError(f"it begins with {magic!r} instead of {MAGIC!r}")
        version = self.cursor.number(_U32)
        if version not in VERSIONS:
            order = " (a big-endian file)" if version & 0xFFFF == 0 else ""
            raise UnsupportedVersionError(f"it is GGUF version {version}{order}; versions 2 and 3 are read")
        return version

    def _bounded(self, form: struct.Struct, limit: int, what: str) -> int:
        number = self.cursor.number(form)
        if number > limit:
            raise GGUFError(f"the {what} is {number}, more than {limit}, before byte {self.cursor.position}")
        return number

    def _text(self, limit: int, what: str) -> str:
        length = self._bounded(_U64, limit, f"length of {what}")
        try:
            return self.cursor.take(length).decode()
        except UnicodeDecodeError as error:
            raise GGUFError(f"{what} before byte {self.cursor.position} is not UTF-8") from error

    def _value(self, key: str) -> Value:
        kind = self.cursor.number(_U32)
        if kind == _ARRAY:
            if key == TOKENS:
                return self._tokens()
            return self._labels() if key.endswith(LABELS) else self._array(depth=1)
        if kind == _STRING:
            return self._string(key)
        return self._scalar(kind)

    def _scalar(self, kind: int) -> int | float | bool:
        form = _SCALARS.get(kind)
        if form is None:
            raise GGUFError(f"unknown value type {kind} before byte {self.cursor.position}")
        value = form.unpack(self.cursor.take(form.size))[0]
        if kind == _BOOL:
            return bool(value)
        return int(value) if kind in _INTEGERS else float(value)

    def _string(self, key: str) -> str | TextDigest:
        length = self._bounded(_U64, self.limits.string_bytes, "length of a string")
        if length > self.limits.kept_string_bytes:
            digest = TextDigest(length, self.cursor.digest(length))
            self.text_digests[key] = digest.sha256
            return digest
        raw = self.cursor.take(length)
        self.text_digests[key] = hashlib.sha256(raw).hexdigest()
        return raw.decode(errors="replace")

    def _labels(self) -> ArrayLength | tuple[str, ...]:
        """Return a short list of short texts as it is, a long one as its length."""
        kind = self.cursor.number(_U32)
        count = self._bounded(_U64, self.limits.array_items, "number of labels")
        if kind != _STRING:
            raise GGUFError(f"its labels before byte {self.cursor.position} are no texts")
        if count > self.limits.kept_labels:
            self.cursor.skip_strings(count)
            return ArrayLength(count)
        return tuple(self._text(self.limits.kept_string_bytes, "a label") for _ in range(count))

    def _tokens(self) -> ArrayLength:
        if self.cursor.number(_U32) != _STRING:
            raise GGUFError(f"its tokens before byte {self.cursor.position} are no texts")
        count = self._bounded(_U64, self.limits.array_items, "number of tokens")
        first, digest = min(count, DIGESTED_TOKENS), hashlib.sha256()
        for number in range(first):
            raw = self.cursor.take(self._bounded(_U64, self.limits.string_bytes, "length of a token"))
            digest.update(_U64.pack(len(raw)) + raw if number >= DIGESTED_FROM else b"")
        self.cursor.skip_strings(count - first)
        self.text_digests[TOKENS] = digest.hexdigest()
        return ArrayLength(count)

    def _array(self, *, depth: int) -> ArrayLength | tuple[int, ...]:
        if depth > self.limits.array_depth:
            raise GGUFError(f"arrays are nested deeper than {self.limits.array_depth}")
        kind = self.cursor.number(_U32)
        count = self._bounded(_U64, self.limits.array_items, "number of array items")
        if kind == _STRING:
            self.cursor.skip_strings(count)
        elif kind == _ARRAY:
            for _ in range(count):
                self._array(depth=depth + 1)
        elif kind in _SCALARS:
            return self._numbers(kind, count, keep=depth == 1)
        else:
            raise GGUFError(f"unknown array type {kind} before byte {self.cursor.position}")
        return ArrayLength(count)

    def _numbers(self, kind: int, count: int, *, keep: bool) -> ArrayLength | tuple[int, ...]:
        form = _SCALARS[kind]
        fits = count <= self.limits.kept_array_items
        fits = fits and self.kept_items + count <= self.limits.kept_items_in_all
        if not (keep and fits and (kind in _INTEGERS or kind == _BOOL)):
            self.cursor.skip(count * form.size)
            return ArrayLength(count)
        self.kept_items += count
        raw = self.cursor.take(count * form.size)
        return tuple(int(item) for (item,) in form.iter_unpack(raw))

    def _tensor(self) -> Tensor:
        name = self._text(self.limits.tensor_name_bytes, "a tensor name")
        dimensions = self._bounded(_U32, self.limits.dimensions, "number of dimensions")
        shape = [self.cursor.number(_U64) for _ in range(dimensions)]
        elements = math.prod(shape)
        type_id = self.cursor.number(_U32)
        offset = self.cursor.number(_U64)
        if elements > _MAX_DATA_BYTES or offset > _MAX_DATA_BYTES:
            raise GGUFError(f"tensor {name!r} has {elements} elements at offset {offset}: beyond any real file")
        return Tensor(name, elements, type_id, _tensor_size(name, shape, type_id), offset, tuple(shape))


def _tensor_size(name: str, shape: list[int], type_id: int) -> int | None:
    known = TENSOR_TYPES.get(type_id)
    if known is None:
        return None
    _, block, size = known
    row = shape[0] if shape else 1
    if row % block:
        raise GGUFError(f"tensor {name!r} has rows of {row}, not a multiple of its type's block of {block}")
    return math.prod(shape) // block * size


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 0 < value <= _MAX_ALIGNMENT or value & (value - 1):
        raise GGUFError(f"general.alignment is {value!r}, not a power of two up to {_MAX_ALIGNMENT}")
    return value
