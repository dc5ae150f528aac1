# SPDX-License-Identifier: Apache-2.0
"""Brings one pinned file into its place: resumed, bounded, checked, and only then under its final name."""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.retry import Pace
from nimblet_loader.connector import Connector, Span
from nimblet_loader.contract import ArtifactFile
from nimblet_loader.facts import check_extent, header_error
from nimblet_loader.folder import Partial, Place, translated
from nimblet_loader.gguf import MAGIC, GGUFError, parse_header
from nimblet_loader.resolve import agreed
from nimblet_loader.safetensors import SafetensorsError, tensors_error
from nimblet_loader.safetensors import check_extent as check_safetensors
from nimblet_loader.safetensors import parse_header as parse_safetensors
from nimblet_loader.selection import Entry

_MAX_TRIES = 100
"""A source that gives a little and breaks off again may go on only so long."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """One file to bring: from which pinned snapshot, at what pace; `reach` is told its length so far."""

    connector: Connector
    commit: str
    file: ArtifactFile
    pace: Pace
    reach: Callable[[int], None]


def download(job: Download, place: Place) -> tuple[int, str]:
    """Bring the file into its place; return the bytes received and the file's sha256.

    SourceError leaves no file of that name.
    """
    with translated(job.file.path), closing(_partial(job, place)) as partial:
        job.reach(partial.length)
        received = _complete(job, partial)
        if job.file.sha256 not in (None, partial.digest) and partial.pieced:
            _log.warning("%s: the pieces received do not fit together; starting anew", job.file.path)
            partial.restart()
            received += _complete(job, partial)
        try:
            check(job.file, partial)
        except SourceError:
            partial.discard()
            raise
        partial.publish()
        return received, partial.digest


def _partial(job: Download, place: Place) -> Partial:
    # Bytes of an earlier run are used only where a digest will tell whether they belong to this file.
    return Partial(place, resume=job.file.sha256 is not None, limit=job.file.size)


def _complete(job: Download, partial: Partial) -> int:
    """Receive until the file has its size, resuming after each break; return the bytes received."""
    received = failures = 0
    tag: list[str | None] = [job.file.tag]
    for tries in range(1, _MAX_TRIES + 1):
        before = partial.length
        try:
            _receive(job, partial, tag)
            return received + partial.length - before
        except SourceError as error:
            received += max(partial.length - before, 0)
            failures = 1 if partial.length > before else failures + 1
            if not error.reason.retryable or failures >= job.pace.attempts or tries == _MAX_TRIES:
                raise
            job.pace.pause(failures, error)
    return received


def _receive(job: Download, partial: Partial, tag: list[str | None]) -> None:
    size = job.file.size
    if partial.length == size:
        return
    if partial.length and tag[0] is None and job.file.sha256 is None:
        partial.restart()  # nothing would tell whether old and new bytes are of one file
    span = Span(start=partial.length, tag=job.file.tag or (tag[0] if partial.length else None))
    with job.connector.open(job.file.path, commit=job.commit, span=span) as body:
        agreed(Entry(job.file.path, size, job.file.sha256), body)
        changed = span.tag is not None and body.tag != span.tag
        if body.start == 0 and partial.length:
            partial.restart()
        if changed and (body.start > 0 or job.file.tag is not None):
            partial.restart()
            tag[0] = job.file.tag
            raise SourceError(
                Reason.SourceChanged,
                f"Expected {quoted(job.file.path)} to stay the same between tries; it changed. Starting anew.",
            )
        tag[0] = body.tag
        partial.pieced = body.start > 0
        for chunk in body.chunks():
            _append(job, partial, chunk)
    if partial.length < size:
        raise SourceError(
            Reason.DownloadTruncated,
            f"Expected {size} bytes of {quoted(job.file.path)}; the source stopped after {partial.length}. "
            "It is tried again.",
        )


def _append(job: Download, partial: Partial, chunk: bytes) -> None:
    size = job.file.size
    if partial.length + len(chunk) > size:
        partial.discard()
        raise SourceError(
            Reason.SizeMismatch,
            f"Expected {size} bytes of {quoted(job.file.path)}; the source sends more. "
            "The file was replaced or the source is at fault: resolve it again.",
        )
    gguf = job.file.path.lower().endswith(".gguf")
    if gguf and partial.length == 0 and chunk[: len(MAGIC)] != MAGIC[: len(chunk)]:
        partial.discard()
        raise _not_gguf(job.file)
    partial.append(chunk)
    job.reach(partial.length)


def _not_gguf(file: ArtifactFile) -> SourceError:
    return SourceError(
        Reason.NotGGUF,
        f"Expected {quoted(file.path)} to begin as a GGUF file; it does not: another file, or an error page. "
        "Check the source.",
    )


def check(file: ArtifactFile, partial: Partial) -> None:
    """Raise unless the whole file is what the artifact says, and a sound model's."""
    if file.sha256 not in (None, partial.digest):
        raise SourceError(
            Reason.DigestMismatch,
            f"Expected sha256 {file.sha256} of {quoted(file.path)}; found {partial.digest}. The file was replaced "
            "or tampered with: do not use it; if it was updated on purpose, correct the digest.",
        )
    with closing(partial.chunks()) as chunks:
        _check_header(file.path, chunks, partial.length)


def _check_header(path: str, chunks: Iterator[bytes], length: int) -> None:
    """Read the header of a file with tensors once more, as it lies there; other files have none."""
    try:
        if path.lower().endswith(".gguf"):
            check_extent(path, parse_header(chunks), length)
        elif path.endswith(".safetensors"):
            check_safetensors(parse_safetensors(chunks), length)
    except GGUFError as error:
        raise header_error(path, error) from error
    except SafetensorsError as error:
        raise tensors_error(path, error) from error
