# SPDX-License-Identifier: Apache-2.0
"""Brings one encrypted file into its place as plaintext: one stream, bounded memory, named only once proved.

The ciphertext is never stored. A stream that breaks off is resumed; a pod that starts again begins the file anew.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.retry import Pace
from nimblet_loader.age import MAGIC, Identities, decrypt
from nimblet_loader.connector import Connector, Span
from nimblet_loader.contract import ArtifactFile
from nimblet_loader.download import check
from nimblet_loader.folder import Partial, Place, translated
from nimblet_loader.resolve import agreed
from nimblet_loader.sealed import SUFFIX
from nimblet_loader.selection import Entry
from nimblet_loader.trust import not_encrypted

MAX_TRIES: Final = 100
"""A source that gives a little and breaks off again may go on only so long."""
_BATCH_BYTES: Final = 2**20
"""Plaintext comes in pieces of 8 KiB; writing and hashing each alone would cost more than decrypting it."""


@dataclass(frozen=True)
class Unsealing:
    """One encrypted file to bring: from which snapshot, with which keys; `reach` is told its length so far."""

    connector: Connector
    commit: str
    file: ArtifactFile
    pace: Pace
    reach: Callable[[int], None]
    identities: Identities

    @property
    def name(self) -> str:
        """Return the file's name at the source."""
        return f"{self.file.path}{SUFFIX}"


def unseal(job: Unsealing, place: Place) -> tuple[int, str]:
    """Decrypt the file into its place; return the bytes received and the plaintext's sha256.

    Whatever fails leaves no byte of it.
    """
    partial = Partial(place, resume=False, limit=job.file.size)
    with translated(job.file.path), closing(partial):
        ciphertext, plaintext = _Ciphertext(job), _Plaintext(job, partial)
        try:
            _decrypted(job, ciphertext, plaintext)
            check(job.file, partial)
        except BaseException:
            partial.discard()
            raise
        partial.publish()
        return ciphertext.position, partial.digest


def _decrypted(job: Unsealing, ciphertext: "_Ciphertext", plaintext: "_Plaintext") -> None:
    try:
        decrypt(ciphertext, plaintext, job.identities, name=job.name)
    except Exception:
        own = ciphertext.failed or plaintext.failed
        if own is not None:  # the library wraps what comes from us
            raise own from None
        raise
    plaintext.flush()


class _Ciphertext:
    """What the source sends, resumed after each break."""

    def __init__(self, job: Unsealing) -> None:
        self.position = 0
        self.failed: BaseException | None = None
        self._job = job
        self._tag = job.file.tag
        self._chunks = self._received()
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        try:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return b""
                self._rest = memoryview(chunk)
        except BaseException as error:
            self.failed = error
            raise
        stop = len(self._rest) if size < 0 else size
        part, self._rest = self._rest[:stop], self._rest[stop:]
        return bytes(part)

    def _received(self) -> Iterator[bytes]:
        job, failures = self._job, 0
        for tries in range(1, MAX_TRIES + 1):
            before = self.position
            try:
                yield from self._body()
            except SourceError as error:
                failures = 1 if self.position > before else failures + 1
                if not error.reason.retryable or failures >= job.pace.attempts or tries == MAX_TRIES:
                    raise
                job.pace.pause(failures, error)
            else:
                return

    def _body(self) -> Iterator[bytes]:
        job, begun, size = self._job, self.position, self._job.file.sealed_size or 0
        if begun == size:
            return
        span = Span(start=begun, tag=self._tag)
        with job.connector.open(job.name, commit=job.commit, span=span) as body:
            agreed(Entry(job.name, size, None), body)
            if self._tag is not None and body.tag != self._tag:
                raise SourceError(
                    Reason.SourceChanged,
                    f"Expected {quoted(job.name)} to stay the same while it is read; it changed. It is tried "
                    "again.",
                )
            self._tag = body.tag
            skip = begun - body.start  # a source that can't resume begins again
            for whole in body.chunks():
                chunk, skip = whole[skip:], max(skip - len(whole), 0)
                if chunk:
                    self._check(chunk, size)
                    self.position += len(chunk)
                    yield chunk
        if self.position < size:
            raise SourceError(
                Reason.DownloadTruncated,
                f"Expected {size} bytes of {quoted(job.name)}; the source stopped after {self.position}. "
                "It is tried again.",
            )

    def _check(self, chunk: bytes, size: int) -> None:
        if self.position == 0 and chunk[: len(MAGIC)] != MAGIC[: len(chunk)]:
            raise not_encrypted(f"{quoted(self._job.name)} is no age file")
        if self.position + len(chunk) > size:
            raise SourceError(
                Reason.SizeMismatch,
                f"Expected {size} bytes of {quoted(self._job.name)}; the source sends more. The file was "
                "replaced: put the file there that the manifest is of.",
            )


class _Plaintext:
    """What was decrypted, gathered and written; no more than the file may have."""

    def __init__(self, job: Unsealing, partial: Partial) -> None:
        self.failed: BaseException | None = None
        self._job = job
        self._partial = partial
        self._batch: list[bytes] = []
        self._held = 0

    def write(self, chunk: bytes, /) -> int:
        try:
            self._batch.append(chunk)
            self._held += len(chunk)
            if self._held >= _BATCH_BYTES:
                self.flush()
        except BaseException as error:
            self.failed = error
            raise
        return len(chunk)

    def flush(self) -> None:
        if not self._batch:
            return
        size = self._job.file.size
        if self._partial.length + self._held > size:
            raise SourceError(
                Reason.SizeMismatch,
                f"Expected {size} bytes of {quoted(self._job.file.path)}; more were encrypted. The file is not "
                "that of the manifest: put the right one there.",
            )
        self._partial.append(b"".join(self._batch))
        self._batch, self._held = [], 0
        self._job.reach(self._partial.length)
