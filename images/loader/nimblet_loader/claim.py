# SPDX-License-Identifier: Apache-2.0
"""The connector for `pvc://claim/path`: files of a volume claim that is mounted into the pod.

Whoever can write to the volume may change it at any time, so a file is copied like any other download, and its
digest is measured while the source is resolved. It must not follow a link: one could lead out of the claim.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.paths import unsafe_path
from nimblet_loader.connector import Body, Snapshot, Span
from nimblet_loader.folder import read_chunks
from nimblet_loader.selection import Entry

_URI = re.compile(r"^pvc://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?:/(.*))?$")
_MAX_FILES = 10_000
_MAX_DEPTH = 16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting: opening a named pipe would else wait for its writer for ever."""
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
_REFUSED = frozenset({errno.EACCES, errno.EPERM})
_CHANGED = frozenset({errno.ESTALE, errno.EIO})


class ClaimConnector:
    """A folder or one file of the claim mounted at `root`."""

    def __init__(self, root: Path, *, uri: str) -> None:
        found = _URI.match(uri)
        below = (found[2] or "").rstrip("/") if found else ""
        if found is None or (below and unsafe_path(below) is not None):
            raise SourceError(
                Reason.ConfigInvalid,
                f"Expected a source of the form pvc://claim/path; found {quoted(uri)}. Correct it.",
            )
        self._claim = found[1]
        self._root = root
        single = below.lower().endswith(".gguf")
        folder, _, name = below.rpartition("/") if single else (below, "", "")
        self._folder = tuple(folder.split("/")) if folder else ()
        self._single = name

    def snapshot(self) -> Snapshot:
        """List the regular files of the folder and those below it; links and devices are left out."""
        with self._errors(self._shown), self._opened_folder(()) as folder:
            if self._single:
                return Snapshot(None, (Entry(self._single, self._size(folder, self._single), None),))
            walk = islice(self._walk(folder, "", 0), _MAX_FILES + 1)
            entries = tuple(Entry(path, size, None) for path, size in walk)
        if len(entries) > _MAX_FILES:
            raise self._too_many()
        if not entries:
            raise SourceError(
                Reason.RepositoryNotFound,
                f"Expected files in {self._shown}; there are none. Put the model there, or correct source.uri.",
            )
        return Snapshot(None, entries)

    def measure(self, entry: Entry) -> Entry:
        """Read the whole file for its digest: nothing else would tell a later change."""
        digest = hashlib.sha256()
        with self.open(entry.path, commit="", span=Span()) as body:
            for chunk in body.chunks():
                digest.update(chunk)
        with self.open(entry.path, commit="", span=Span()) as after:
            if after.tag != body.tag:
                raise SourceError(
                    Reason.SourceChanged,
                    f"Expected {quoted(entry.path)} of {self._shown} to rest while it is measured; it was written "
                    "to. It is tried again.",
                )
        return replace(entry, size=body.total, sha256=digest.hexdigest(), measured=True)

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:  # noqa: ARG002 - a folder has none
        """Open a file at a span; its tag tells whether it is replaced or written to."""
        what = f"{quoted(path)} of {self._shown}"
        *parents, name = path.split("/")
        with self._errors(what), self._opened_folder(tuple(parents)) as folder:
            descriptor = os.open(name, _FILE, dir_fd=folder)
            try:
                state = os.fstat(descriptor)
                if not stat.S_ISREG(state.st_mode):
                    raise self._unsafe(what)
                os.lseek(descriptor, span.start, os.SEEK_SET)
                tag = f'"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"'
                yield Body(span.start, state.st_size, tag, lambda: self._chunks(descriptor, span, what))
            finally:
                os.close(descriptor)

    @property
    def _shown(self) -> str:
        below = "/".join((*self._folder, self._single) if self._single else self._folder)
        return f"pvc://{self._claim}/{below}"

    def _chunks(self, descriptor: int, span: Span, what: str) -> Iterator[bytes]:
        left = None if span.stop is None else span.stop - span.start
        with self._errors(what):
            for chunk in read_chunks(descriptor):
                yield chunk if left is None else chunk[:left]
                left = None if left is None else left - len(chunk)
                if left is not None and left <= 0:
                    return

    @contextmanager
    def _opened_folder(self, parents: tuple[str, ...]) -> Iterator[int]:
        """Open the source's folder and `parents` below it step by step, so that no link is followed."""
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in (*self._folder, *parents):
                below = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder
        finally:
            os.close(folder)

    def _size(self, folder: int, name: str) -> int:
        state = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(state.st_mode):
            raise self._unsafe(self._shown)
        return state.st_size

    def _walk(self, folder: int, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
        names = sorted(os.listdir(folder))
        if len(names) > _MAX_FILES or depth > _MAX_DEPTH:
            raise self._too_many()
        for name in names:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(state.st_mode):
                yield prefix + name, state.st_size
            elif stat.S_ISDIR(state.st_mode) and name != "lost+found":
                below = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from self._walk(below, f"{prefix}{name}/", depth + 1)
                finally:
                    os.close(below)

    def _too_many(self) -> SourceError:
        return SourceError(
            Reason.TooManyFiles,
            f"Expected at most {_MAX_FILES} files in {self._shown}, and {_MAX_DEPTH} folders below each other; "
            "there are more. Use a longer path.",
        )

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn file system errors about `what` into LoaderErrors."""
        try:
            yield
        except FileNotFoundError as error:
            raise SourceError(
                Reason.FileNotFound,
                f"Expected {what} in the claim; it is not there. Put the model there, or correct source.uri.",
            ) from error
        except OSError as error:
            raise self._refusal(what, error) from error

    def _refusal(self, what: str, error: OSError) -> SourceError:
        if error.errno in _LINKS:
            return self._unsafe(what)
        if error.errno in _REFUSED:
            return SourceError(
                Reason.AccessDenied,
                f"Expected to read {what}; its permissions refuse user and group {os.getuid()}. Make the files "
                "readable for all, or for that group.",
            )
        reason = Reason.SourceChanged if error.errno in _CHANGED else Reason.SourceUnavailable
        return SourceError(reason, f"Expected to read {what}; it failed ({error.strerror}). It is tried again.")

    def _unsafe(self, what: str) -> SourceError:
        return SourceError(
            Reason.UnsafePath,
            f"Expected {what} to be a plain file on plain folders; a link or a device is in the way. "
            "Put the file itself into the claim.",
        )
