# SPDX-License-Identifier: Apache-2.0
"""Files below one destination folder, opened step by step so that no link can lead outside.

The folder may be shared with other pods, so names found in it are not trusted. A file under its final name is
complete; what is being written has a temporary name that carries the pod's uid. It must not know about sources.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.hashing import RunningDigest

_READ_BYTES = 2**20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})


@dataclass(frozen=True)
class Place:
    """A file's folder as an open descriptor, its final name and its temporary name."""

    folder: int
    name: str
    temporary: str


@contextmanager
def open_place(root: Path, path: str, *, uid: str, make: bool = True) -> Iterator[Place]:
    """Open (and make) the folders of a checked relative path, refusing links; SourceError UnsafePath."""
    *parents, name = path.split("/")
    with translated(path):
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for parent in parents:
                if make:
                    _make(parent, folder)
                below = os.open(parent, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = below
            yield Place(folder, name, f".{name}.{uid}.part")
        finally:
            os.close(folder)


def free_bytes(root: Path) -> int:
    """Return the bytes that an unprivileged process may still write below `root`."""
    with translated(str(root)):
        state = os.statvfs(root)
        return state.f_bavail * state.f_frsize


def file_size(place: Place, name: str) -> int | None:
    """Return the size of a regular file with a single name, or None if there is no such file."""
    try:
        state = os.stat(name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return state.st_size if stat.S_ISREG(state.st_mode) and state.st_nlink == 1 else None


def read_chunks(descriptor: int) -> Iterator[bytes]:
    """Yield a descriptor's bytes from its position on."""
    while chunk := os.read(descriptor, _READ_BYTES):
        yield chunk


@contextmanager
def reading(place: Place, name: str) -> Iterator[int]:
    """Open a file of the place for reading, refusing links; a pipe that took its place is not waited for."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place.folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def file_digest(place: Place, name: str) -> str:
    """Return the sha256 of a file in hex."""
    digest = hashlib.sha256()
    with reading(place, name) as descriptor:
        for chunk in read_chunks(descriptor):
            digest.update(chunk)
    return digest.hexdigest()


def measured(root: Path, path: str, *, size: int) -> tuple[int | None, str]:
    """Return the size of a file that somebody else put there, None for none, and where it is `size` its sha256."""
    with open_place(root, path, uid="", make=False) as place:
        found = file_size(place, place.name)
        return found, file_digest(place, place.name) if found == size else ""


class Partial:
    """The temporary file while it grows: its length and running digest, also of what an earlier run left."""

    def __init__(self, place: Place, *, resume: bool, limit: int) -> None:
        self.place = place
        self.length = 0
        self.pieced = False
        """Whether the bytes came in more than one answer, so that they may be of different files."""
        self._digest = RunningDigest()
        size = file_size(place, place.temporary)
        if size is None or size > limit or not resume:
            _unlink(place)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(place.temporary, flags, 0o644, dir_fd=place.folder)
        for chunk in read_chunks(self._descriptor):
            self._digest.update(chunk)
            self.length += len(chunk)
        self.pieced = self.length > 0

    def append(self, chunk: bytes) -> None:
        """Write a chunk at the end."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._digest.update(chunk)
        self.length += len(chunk)

    def restart(self) -> None:
        """Throw away what is there."""
        self._digest.restart()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.length = 0
        self.pieced = False

    @property
    def digest(self) -> str:
        """Return the sha256 of all bytes so far, in hex."""
        return self._digest.hexdigest()

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield the file's bytes from its start."""
        with reading(self.place, self.place.temporary) as descriptor:
            yield from read_chunks(descriptor)

    def publish(self) -> None:
        """Make the file durable and give it its final name, in this order."""
        os.fsync(self._descriptor)
        folder = self.place.folder
        os.rename(self.place.temporary, self.place.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)

    def discard(self) -> None:
        """Remove the temporary file."""
        _unlink(self.place)

    def close(self) -> None:
        """Close the descriptor; the file stays for a later run to resume."""
        self._digest.close()
        os.close(self._descriptor)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn file system errors about `path` into LoaderErrors."""
    try:
        yield
    except OSError as error:
        raise _file_error(path, error) from error


def _file_error(path: str, error: OSError) -> SourceError:
    if error.errno in _FULL:
        return SourceError(
            Reason.DiskFull,
            f"Expected room for {quoted(path)}; the volume is full ({error.strerror}). Give it more space.",
        )
    if error.errno in _LINKS:
        return SourceError(
            Reason.UnsafePath,
            f"Expected plain folders on the way to {quoted(path)}; one is a link or a file. Empty the volume.",
        )
    return SourceError(
        Reason.ConfigInvalid,
        f"Expected to write {quoted(path)}; the volume refuses: {error.strerror}. "
        "Check the volume's permissions and that it is mounted.",
    )


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return  # what it is, the open without following links tells


def _unlink(place: Place) -> None:
    try:
        os.unlink(place.temporary, dir_fd=place.folder)
    except FileNotFoundError:
        return
