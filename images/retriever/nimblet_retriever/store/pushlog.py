# SPDX-License-Identifier: Apache-2.0
"""The embedded overlay's log: batches of changes in one file, each whole or not there. Knows no searches.

A batch is a frame with its length and checksum, written and synced before anybody is told that it is durable.
A frame that was cut off at the end was told to nobody and is removed; one that is damaged before another is an
error.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from nimblet_retriever.store.chunk import Chunk, StoreError, StoreFull
from nimblet_retriever.store.frames import Point, point_of, unpack_vector
from nimblet_retriever.store.generation import StoredModel
from nimblet_retriever.store.layout import sync_folder
from nimblet_retriever.store.payload import chunk_of
from nimblet_retriever.store.pushed import Entry, Space

MAGIC: Final = b"NPL1"
HEADER: Final = struct.Struct(">4sII")
"""Magic, length of the body in bytes, and its CRC-32."""


class SpaceRecord(StoredModel):
    """A space that later records name."""

    do: Literal["space"] = "space"
    space: Space


class EntryRecord(StoredModel):
    """A document is now so; its passages, if it lives, are these."""

    do: Literal["entry"] = "entry"
    entry: Entry
    points: tuple[Point, ...] = ()


class NumberRecord(StoredModel):
    """The last push's number, where the changes up to it were drawn together."""

    do: Literal["number"] = "number"
    sequence: int


Record = SpaceRecord | EntryRecord | NumberRecord


class Batch(StoredModel):
    """What is written at once."""

    records: tuple[Annotated[Record, Field(discriminator="do")], ...]


class PushLog:
    """One log file, opened by one process: the layout's lock sees to that."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / "log"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        sync_folder(folder)
        self._broken = ""
        self.size = os.fstat(self._file).st_size

    def read(self) -> Iterator[Batch]:
        """Yield what is durable, and cut off what was not finished. StoreError where the file is damaged."""
        with self._path.open("rb") as file:
            content = file.read()
        start = 0
        while start < len(content):
            body = _framed(content, start)
            if body is None:
                self._cut(content, start)
                return
            try:
                yield Batch.model_validate_json(body)
            except ValidationError as error:
                raise StoreError(
                    f"{self._path} holds a record of another kind at byte {start}; {_ADVICE}"
                ) from error
            start += HEADER.size + len(body)

    def append(self, batch: Batch) -> None:
        """Write a batch; it is durable when this returns. StoreFull leaves the log as it was."""
        if self._broken:
            raise StoreError(f"the log could not be synced ({self._broken}); restart the retriever")
        frame = _frame(batch)
        try:
            _write_all(self._file, frame, self.size)
        except OSError as error:
            os.ftruncate(self._file, self.size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull("the volume is full; enlarge it or make space") from error
            raise StoreError(f"the log can't be written ({error.strerror}); look at the volume") from error
        self._sync()
        self.size += len(frame)

    def rewrite(self, batches: Iterable[Batch]) -> None:
        """Put other batches in the place of all; the old log holds until the new one is whole."""
        fresh = self._path.with_name("log.new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        size = 0
        try:
            for batch in batches:
                frame = _frame(batch)
                _write_all(file, frame, size)
                size += len(frame)
            os.fsync(file)
            fresh.replace(self._path)
        except OSError as error:
            os.close(file)
            fresh.unlink(missing_ok=True)
            raise StoreFull(f"the log can't be rewritten ({error.strerror}); make space") from error
        os.close(self._file)
        self._file, self.size = file, size
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            # what the kernel kept of these pages is unknown from here on: nothing more is promised
            self._broken = error.strerror or str(error)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = StoreFull if full else StoreError
            raise kind(
                f"the log can't be synced ({self._broken}); make space and restart the retriever"
            ) from error

    def _cut(self, content: bytes, start: int) -> None:
        """Remove an unfinished end; anything whole after it means damage instead."""
        after = content.find(MAGIC, start + 1)
        while after >= 0:
            if _framed(content, after) is not None:
                raise StoreError(f"{self._path} is damaged at byte {start}; {_ADVICE}")
            after = content.find(MAGIC, after + 1)
        os.ftruncate(self._file, start)
        os.fsync(self._file)
        self.size = start


_ADVICE: Final = "restore the volume from a copy, or remove the file and push its documents again"


def entry_record(entry: Entry, chunks: Iterable[Chunk]) -> EntryRecord:
    """Return the record of a document."""
    return EntryRecord(entry=entry, points=tuple(point_of(chunk) for chunk in chunks))


def chunks_of(record: EntryRecord) -> tuple[Chunk, ...]:
    """Return the passages of a record."""
    return tuple(chunk_of(point.payload, unpack_vector(point.vector)) for point in record.points)


def _frame(batch: Batch) -> bytes:
    body = batch.model_dump_json(by_alias=True).encode()
    return HEADER.pack(MAGIC, len(body), zlib.crc32(body)) + body


def _framed(content: bytes, start: int) -> bytes | None:
    """Return the body of a whole frame at `start`."""
    if start + HEADER.size > len(content):
        return None
    magic, length, checksum = HEADER.unpack_from(content, start)
    body = content[start + HEADER.size : start + HEADER.size + length]
    return body if magic == MAGIC and len(body) == length and zlib.crc32(body) == checksum else None


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
