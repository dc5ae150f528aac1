# SPDX-License-Identifier: Apache-2.0
"""Finds the regular files below one folder of a container image's layer, while the layer streams by.

It must not unpack anything: what it gives is where a file's bytes lie. Formats: POSIX ustar and pax, and the long
names of GNU tar (https://www.gnu.org/software/tar/manual/html_node/Standard.html). Everything is bounded, since an
archive may be hostile.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.paths import unsafe_path

_BLOCK = 512
_PIECE = 2**20
_MAX_EXTENSION_BYTES = 64 * 2**10
"""Longest pax or long-name record: real ones have a few hundred bytes."""
_MAX_MEMBERS = 100_000
_REGULAR = frozenset({b"0", b"\0", b"7"})
_FOLDER, _PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"5", b"x", b"g", b"L", b"K"
_WHITEOUT = ".wh."
"""Prefix of the names by which an image layer deletes what is below (OCI image-spec, layer.md)."""
_BASE_256 = 0x80


@dataclass(frozen=True)
class Member:
    """A regular file: its path below the folder, where its bytes begin in the tar stream, and their digest."""

    path: str
    offset: int
    size: int
    sha256: str


def inflated(chunks: Iterable[bytes], shown: str) -> Iterator[bytes]:
    """Yield the bytes of a gzip stream, which may have several members, in bounded pieces."""
    engine = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        rest = chunk
        while rest:
            if engine.eof:
                engine = zlib.decompressobj(wbits=31)
            try:
                piece = engine.decompress(rest, _PIECE)
            except zlib.error as error:
                raise SourceError(
                    Reason.UnexpectedResponse,
                    f"Expected a layer of {shown} to be gzip as its manifest says; it is not ({error}). "
                    "Push the image again.",
                ) from error
            if piece:
                yield piece
            rest = engine.unused_data if engine.eof else engine.unconsumed_tail
    if not engine.eof:
        raise SourceError(
            Reason.DownloadTruncated,
            f"Expected a whole layer of {shown}; its gzip stream breaks off. It is tried again.",
        )


def sliced(chunks: Iterable[bytes], *, skip: int, count: int) -> Iterator[bytes]:
    """Yield `count` bytes after the first `skip`, or fewer where the stream ends."""
    for chunk in chunks:
        start = min(skip, len(chunk))
        skip -= start
        piece = chunk[start : start + count]
        count -= len(piece)
        if piece:
            yield piece
        if count == 0:
            return


def members(chunks: Iterator[bytes], *, folder: str, shown: str, limit: int) -> list[Member]:
    """Return the regular files below `folder`; a link or device there is refused, elsewhere it is passed over.

    SourceError names what is wrong; `limit` bounds the bytes of the uncompressed archive.
    """
    tape = _Tape(chunks, shown, limit)
    found: dict[str, Member] = {}
    for _ in range(_MAX_MEMBERS):
        header = _next(tape)
        if header is None:
            return list(found.values())
        path = _wanted(header, folder, shown)
        if path is None:
            tape.skip(header.padded)
            continue
        offset, digest = tape.position, hashlib.sha256()
        for piece in tape.pour(header.size):
            digest.update(piece)
        tape.skip(header.padded - header.size)
        found[path] = Member(path, offset, header.size, digest.hexdigest())
    raise SourceError(
        Reason.TooManyFiles,
        f"Expected at most {_MAX_MEMBERS} files in a layer of {shown}; there are more. Use a smaller image.",
    )


@dataclass(frozen=True)
class _Header:
    name: str
    kind: bytes
    size: int
    sparse: bool

    @property
    def padded(self) -> int:
        return -(-self.size // _BLOCK) * _BLOCK


class _Tape:
    """The archive's bytes in order, and how far they have been read."""

    def __init__(self, chunks: Iterator[bytes], shown: str, limit: int) -> None:
        self._chunks = chunks
        self._rest = b""
        self._shown = shown
        self._limit = limit
        self.position = 0

    def pour(self, count: int) -> Iterator[bytes]:
        """Yield exactly `count` bytes."""
        if self.position + count > self._limit:
            raise SourceError(
                Reason.FileTooLarge,
                f"Expected a layer of {self._shown} to unpack to at most {self._limit} bytes; it is larger. "
                "Use a smaller image, or ask for a higher limit.",
            )
        while count:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    raise self.flaw("it breaks off")
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            self.position += len(piece)
            yield piece

    def take(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        return b"".join(self.pour(count))

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        for _ in self.pour(count):
            pass

    def ended(self) -> bool:
        """Tell whether no byte is left."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._rest = chunk
        return False

    def flaw(self, what: str) -> SourceError:
        """Return the error for an archive that is none."""
        return SourceError(
            Reason.UnexpectedResponse,
            f"Expected a layer of {self._shown} to be a tar archive; {what}. Push the image again.",
        )


def _next(tape: _Tape) -> _Header | None:
    """Return the next member's header with its extensions applied; None at the archive's end."""
    extended: dict[str, str] = {}
    while True:
        if tape.ended():
            return None
        block = tape.take(_BLOCK)
        if not any(block):
            return None
        header = _parse(block, tape)
        if header.kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
            if header.size > _MAX_EXTENSION_BYTES:
                raise tape.flaw(f"an extended header has {header.size} bytes")
            raw = tape.take(header.padded)[: header.size]
            if header.kind == _PAX:
                extended.update(_records(raw, tape))
            elif header.kind == _LONG_NAME:
                extended["path"] = _text(raw)
            continue
        size = extended.get("size", str(header.size))
        if not size.isdecimal() or len(size) > 18:  # noqa: PLR2004 - an int of 64 bits
            raise tape.flaw(f"it tells the size {quoted(size, limit=40)}")
        sparse = header.sparse or any(key.startswith("GNU.sparse") for key in extended)
        return _Header(extended.get("path", header.name), header.kind, int(size), sparse)


def _parse(block: bytes, tape: _Tape) -> _Header:
    checksum = sum(block[:148]) + sum(block[156:]) + 8 * 0x20
    if _number(block[148:156], tape) != checksum:
        raise tape.flaw("a header's checksum is wrong")
    name, kind = _text(block[:100]), block[156:157]
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    path = f"{prefix}/{name}" if prefix else name
    return _Header(path, kind, _number(block[124:136], tape), sparse=kind == b"S")


def _number(field: bytes, tape: _Tape) -> int:
    if field[0] & _BASE_256:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.strip(b"\0 ")
    if not all(0x30 <= digit <= 0x37 for digit in text):  # noqa: PLR2004 - the octal digits
        raise tape.flaw("a header holds no number where one must be")
    return int(text or b"0", 8)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def _records(raw: bytes, tape: _Tape) -> Mapping[str, str]:
    """Parse pax records: `length key=value` and a line feed each, where the length counts itself."""
    found: dict[str, str] = {}
    while raw:
        digits, blank, _ = raw.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 10 else 0  # noqa: PLR2004
        key, equals, value = raw[len(digits) + 1 : max(length - 1, 0)].partition(b"=")
        if not blank or not equals or length > len(raw) or raw[length - 1 : length] != b"\n":
            raise tape.flaw("an extended header is malformed")
        found[_text(key)] = _text(value)
        raw = raw[length:]
    return found


def _wanted(header: _Header, folder: str, shown: str) -> str | None:
    """Return the path below the folder of a file that counts, None for what is elsewhere; or raise UnsafePath."""
    name = header.name
    while name.startswith("./"):
        name = name[2:]
    top, _, path = name.lstrip("/").partition("/")
    if top == f"{_WHITEOUT}{folder}" or (top == folder and path.rpartition("/")[2].startswith(_WHITEOUT)):
        raise SourceError(
            Reason.UnsupportedFormat,
            f"Expected the layers of {shown} only to add files below {folder}/; one deletes {quoted(name)}. "
            "Build the image without deleting, or squash it.",
        )
    if top != folder or (header.kind == _FOLDER and not name.startswith("/")):
        return None
    if header.kind not in _REGULAR or header.sparse:
        raise _unsafe(name, shown, "it is a link, a device or sparse, no plain file")
    flaw = "it is absolute" if name.startswith("/") else unsafe_path(path)
    if flaw is not None:
        raise _unsafe(name, shown, flaw)
    return path


def _unsafe(name: str, shown: str, flaw: str) -> SourceError:
    return SourceError(
        Reason.UnsafePath,
        f"Expected plain files below the model folder of {shown}; {quoted(name)} is none: {flaw}. "
        "Build the image with plain files.",
    )
