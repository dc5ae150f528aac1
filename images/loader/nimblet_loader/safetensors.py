# SPDX-License-Identifier: Apache-2.0
"""Reads the header of a safetensors file from a stream of chunks, with own limits on everything it counts.

The input is hostile: the header's length is checked before it is read, and its JSON is read by its one possible
shape, so that nothing is built that is not a tensor. Every flaw ends in SafetensorsError. No I/O, no tensor data.

Format: https://huggingface.co/docs/safetensors (8 bytes of length, JSON, data without holes).
"""

import json
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Final

from nimblet_egress.errors import Reason, SourceError, quoted

METADATA: Final = "__metadata__"
BITS: Final = (
    {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 64)
)
"""Bits of one number by dtype; another dtype is refused, since its tensors' sizes could not be checked."""
_LENGTH: Final = struct.Struct("<Q")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrtu])*"')
_INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LARGEST: Final = 2**62


@dataclass(frozen=True)
class Limits:
    """Bounds far above any real model of this project's size, far below what harms the loader."""

    header_bytes: int = 8 * 2**20
    tensors: int = 65_536
    name_characters: int = 512
    dimensions: int = 8
    pairs: int = 1024
    value_characters: int = 2**20


class SafetensorsError(Exception):
    """The bytes are not a safetensors header that may be trusted; the message says where and why."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: where its bytes lie in the data, and what they are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """What the header tells. `data_start`: where the data begins in the file, `data_bytes`: how long it is."""

    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]
    data_start: int
    data_bytes: int

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Return the data's bytes by dtype."""
        total: Counter[str] = Counter()
        for tensor in self.tensors:
            total[tensor.dtype] += tensor.stop - tensor.start
        return dict(total)


def parse_header(chunks: Iterator[bytes], limits: Limits | None = None) -> SafetensorsHeader:
    """Return the header at the beginning of a file, or raise SafetensorsError."""
    bounds = limits or Limits()
    buffer = bytearray()
    _fill(buffer, chunks, _LENGTH.size)
    (length,) = _LENGTH.unpack_from(buffer)
    if not 2 <= length <= bounds.header_bytes:  # noqa: PLR2004 - an empty object has two bytes
        raise SafetensorsError(f"its header has {length} bytes, and at most {bounds.header_bytes} are read")
    _fill(buffer, chunks, _LENGTH.size + length)
    try:
        text = bytes(buffer[_LENGTH.size : _LENGTH.size + length]).decode()
    except UnicodeDecodeError as error:
        raise SafetensorsError("its header is not UTF-8") from error
    if not text.startswith("{"):
        raise SafetensorsError("its header does not begin as a JSON object")
    reader = _Reader(text, bounds)
    tensors, metadata = reader.header()
    return SafetensorsHeader(tensors, metadata, _LENGTH.size + length, _contiguous(tensors))


def check_extent(header: SafetensorsHeader, size: int) -> None:
    """Raise SafetensorsError unless the tensors fill a file of this size exactly."""
    wanted = header.data_start + header.data_bytes
    if wanted != size:
        raise SafetensorsError(f"its tensors end at byte {wanted}, and the file has {size}")


def tensors_error(path: str, error: SafetensorsError) -> SourceError:
    """Translate a parser's error about the file `path`."""
    return SourceError(
        Reason.HeaderInvalid,
        f"Expected {quoted(path)} to be a sound safetensors file; {error}. Use another source.",
    )


def _fill(buffer: bytearray, chunks: Iterator[bytes], wanted: int) -> None:
    while len(buffer) < wanted:
        chunk = next(chunks, b"")
        if not chunk:
            raise SafetensorsError(f"it ends after {len(buffer)} bytes, within its header")
        buffer += chunk


def _contiguous(tensors: tuple[Tensor, ...]) -> int:
    """Return the length of the data; holes could hide what no tensor shows, and overlaps are no model."""
    end = 0
    for tensor in sorted(tensors, key=lambda item: (item.start, item.stop)):
        if tensor.start != end:
            raise SafetensorsError(f"tensor {tensor.name[:80]!r} begins at {tensor.start} instead of {end}")
        end = tensor.stop
    return end


@dataclass
class _Reader:
    """The header's JSON, read by the one shape that it may have."""

    text: str
    limits: Limits
    at: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    metadata: dict[str, str] | None = None

    def header(self) -> tuple[tuple[Tensor, ...], dict[str, str]]:
        for name in self._keys(self.limits.tensors + 1, self.limits.name_characters):
            if name == METADATA:
                if self.metadata is not None:
                    raise self._flaw(f"a second {METADATA}")
                self.metadata = self._metadata()
            elif name in self.tensors:
                raise self._flaw(f"a second tensor {name[:80]!r}")
            else:
                self.tensors[name] = self._tensor(name)
        self._space()
        if self.at != len(self.text):
            raise self._flaw("something after the object")
        return tuple(self.tensors.values()), self.metadata or {}

    def _metadata(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for key in self._keys(self.limits.pairs, self.limits.name_characters):
            found[key] = self._string(self.limits.value_characters)
        return found

    def _tensor(self, name: str) -> Tensor:
        dtype: str | None = None
        numbers: dict[str, tuple[int, ...]] = {}
        for key in self._keys(3, self.limits.name_characters):
            if key == "dtype" and dtype is None:
                dtype = self._string(self.limits.name_characters)
            elif key in ("shape", "data_offsets") and key not in numbers:
                numbers[key] = self._integers()
            else:
                raise self._flaw(f"a tensor's key {key[:80]!r}")
        if dtype is None or len(numbers) != 2:  # noqa: PLR2004 - shape and data_offsets
            raise self._flaw("a tensor without dtype, shape and data_offsets")
        return self._sound(name, dtype, numbers["shape"], numbers["data_offsets"])

    def _sound(self, name: str, dtype: str, shape: tuple[int, ...], offsets: tuple[int, ...]) -> Tensor:
        if dtype not in BITS:
            raise self._flaw(f"the dtype {dtype[:20]!r}")
        if len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004 - from and to
            raise self._flaw(f"data_offsets of {name[:80]!r} that are not from and to")
        bits = prod(shape) * BITS[dtype]
        if bits > _LARGEST or bits != (offsets[1] - offsets[0]) * 8:
            raise self._flaw(
                f"{offsets[1] - offsets[0]} bytes for {name[:80]!r}, where its shape needs {bits} bits"
            )
        return Tensor(name, dtype, shape, *offsets)

    def _keys(self, most: int, longest: int) -> Iterator[str]:
        """Yield the keys of an object; what is after each colon is read by the caller."""
        self._take("{")
        if self._next("}"):
            return
        for _ in range(most):
            key = self._string(longest)
            self._take(":")
            yield key
            if self._next("}"):
                return
            self._take(",")
        raise self._flaw(f"more than {most} keys in an object")

    def _integers(self) -> tuple[int, ...]:
        self._take("[")
        found: list[int] = []
        if self._next("]"):
            return ()
        for _ in range(self.limits.dimensions):
            self._space()
            match = _INTEGER.match(self.text, self.at)
            if match is None:
                raise self._flaw("something that is no natural number")
            self.at = match.end()
            found.append(int(match[0]))
            if self._next("]"):
                return tuple(found)
            self._take(",")
        raise self._flaw(f"more than {self.limits.dimensions} numbers in a list")

    def _string(self, longest: int) -> str:
        self._space()
        match = _STRING.match(self.text, self.at, self.at + longest + 2)
        if match is None:
            raise self._flaw(f"no string of at most {longest} characters")
        self.at = match.end()
        try:
            return str(json.loads(match[0]))
        except json.JSONDecodeError as error:
            raise self._flaw("a string with a broken escape") from error

    def _take(self, mark: str) -> None:
        if not self._next(mark):
            raise self._flaw(f"no {mark!r}")

    def _next(self, mark: str) -> bool:
        self._space()
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) if found else 0
        return found

    def _space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match is not None else self.at

    def _flaw(self, what: str) -> SafetensorsError:
        return SafetensorsError(f"its header has {what} at character {self.at}")
