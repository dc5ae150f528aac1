# SPDX-License-Identifier: Apache-2.0
"""Models split into several GGUF files: what a part's name says, and what its header does. Pure.

llama.cpp is given the first part and makes the names of the others out of it, so that names must be exactly as its
own tool writes them: `<prefix>-%05d-of-%05d.gguf`. Source: llama.cpp b11434, src/llama.cpp (llama_split_path) and
src/llama-model-loader.cpp (split.no counts from 0, split.count, split.tensors.count).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.gguf import GGUFHeader

_NAME: Final = re.compile(r"^(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
_RAW: Final = re.compile(r"\.gguf[.-](part|split)[-.\da-z]*$", re.IGNORECASE)
NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


@dataclass(frozen=True)
class Part:
    """What a name says: part `number` of `count` of the model `prefix`, which may hold folders."""

    prefix: str
    number: int
    count: int

    @property
    def whole(self) -> str:
        """Name all parts at once, as a glob does."""
        return f"{self.prefix}-*-of-{self.count:05}.gguf"


def part_of(path: str) -> Part | None:
    """Return what a path says of being a part; None where it names a whole file."""
    found = _NAME.match(path)
    return Part(found["prefix"], int(found["number"]), int(found["count"])) if found else None


def is_raw_piece(path: str) -> bool:
    """Tell whether a file is a GGUF file cut up as mere bytes, which nothing loads before they are joined."""
    return _RAW.search(path) is not None


def check_parts(paths: Sequence[str], headers: Sequence[GGUFHeader]) -> None:
    """Raise SourceError unless the headers of a model's files, in order, agree with their names and each other.

    A part alone, or one under another name, would be loaded in part or not at all.
    """
    found = 0
    for at, (path, header) in enumerate(zip(paths, headers, strict=True)):
        named = part_of(path)
        number, count = _integer(header, NUMBER), _integer(header, COUNT)
        if named is None or named.count == 1:
            _check_whole(path, count)
        elif (number, count) != (named.number - 1, named.count) or named.number != at + 1:
            told = f"part {number + 1} of {count}" if number is not None and count else "none"
            raise SourceError(
                Reason.HeaderInvalid,
                f"Expected {quoted(path)} to be the part that its name says; its header says {told}. Use the "
                "files as they were split.",
            )
        found += len(header.tensors)
    wanted = _integer(headers[0], TENSORS)
    if len(headers) > 1 and wanted != found:
        raise SourceError(
            Reason.HeaderInvalid,
            f"Expected {wanted} tensors in the {len(headers)} parts of {quoted(paths[0])}; they hold {found}. "
            "Use parts of one splitting.",
        )


def _check_whole(path: str, count: int | None) -> None:
    if count is not None and count > 1:
        raise SourceError(
            Reason.PartMissing,
            f"Expected a whole model; {quoted(path)} is one of {count} parts by its header. Use a source that "
            "holds all of them, under the names that they were split with.",
        )


def _integer(header: GGUFHeader, key: str) -> int | None:
    value = header.metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
