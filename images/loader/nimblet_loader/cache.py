# SPDX-License-Identifier: Apache-2.0
"""A volume of models that outlives pods: one folder a set of files, complete when its record lies in it.

`fill` writes, in a Job; `verify` reads only, before each start of a server. Others may fill at the same time and
may die at any step: what is being written has a name of its own, and the record comes last. Safety never rests on
guessing whether another filler lives.
"""

import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.contract import (
    VERSION,
    Artifact,
    ArtifactFile,
    CachedFile,
    CacheRecord,
    FetchReport,
    encode,
    fetch_report,
)
from nimblet_loader.fetch import Fetch, check_uid, fetch
from nimblet_loader.folder import Partial, file_size, measured, open_place, reading, translated

RECORD: Final = ".nimblet-cache.json"
FOLDER: Final = re.compile(r"^[0-9a-f]{32}$")
_TEMPORARY: Final = re.compile(r"^\..+\.([A-Za-z0-9-]{1,64})\.part$")
_PASSING: Final = re.compile(rf"{_TEMPORARY.pattern}|^\.nfs[0-9a-f]+$")
"""What may lie beside a folder's files: what fillers write, and what NFS keeps of a removed file that is open."""
_RECORD_BYTES: Final = 65536
_POLL_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cache:
    """Which folder to fill. `keep`: other folders in use; None leaves all that are there.

    `stale_seconds`: a temporary file that nobody wrote to for so long was left by a filler that is gone.
    """

    folder: str
    keep: frozenset[str] | None
    stale_seconds: float


@dataclass(frozen=True)
class Check:
    """One look at a folder before a server starts; `patience`: seconds to wait while a filler is at work."""

    artifact: Artifact
    root: Path
    folder: str
    patience: float
    now: Callable[[], float]
    sleep: Callable[[float], None]


def fill(run: Fetch, cache: Cache) -> FetchReport:
    """Bring the artifact's files into the folder and write its record, or raise SourceError.

    What lies there and is intact stays. The record goes before the first byte changes and comes back last.
    """
    check_folder(cache.folder)
    check_uid(run.uid)
    began = _volume_time(run.root, run.uid)
    with translated(cache.folder):
        _sweep(run.root, cache, uid=run.uid, began=began)
        folder = _made(run.root, cache.folder)
        _sweep_strays(folder, run.artifact)
    record = read_record(folder)
    known = {file.path: file.sha256 for file in record.files} if record is not None else {}
    report = fetch(replace(run, root=folder, known=known, changing=lambda: _unrecord(folder)))
    written = CacheRecord(
        version=VERSION,
        files=tuple(
            CachedFile(path=file.path, size=file.size, sha256=report.sha256[file.path])
            for file in run.artifact.files
        ),
    )
    if written != record or report.downloaded_bytes:
        _write_record(folder, written, uid=run.uid)
    return report


def verify(check: Check) -> FetchReport:
    """Compare every file of the folder with its record and the artifact; CacheCorrupted if one differs.

    Nothing else may lie there: a server that is given a folder reads all that has the name of tensors.
    """
    check_folder(check.folder)
    began = check.now()
    folder = check.root / check.folder
    record = _awaited(check, folder)
    recorded = {file.path: file for file in record.files}
    for file in check.artifact.files:
        _verify_file(check, file, recorded.get(file.path))
    for entry in _strays(folder, check.artifact):
        raise _corrupted(f"Expected nothing but the model's files in the cache; found {quoted(entry.name)} too.")
    known = {file.path: recorded[file.path].sha256 for file in check.artifact.files}
    return fetch_report(check.artifact, sha256=known, seconds=check.now() - began)


def check_folder(name: str) -> None:
    """Raise ConfigInvalid unless the name is one that the operator makes."""
    if not FOLDER.match(name):
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected a folder of 32 hex digits; found {quoted(name, limit=80)}. "
            "Run an operator and a loader of matching versions.",
        )


def read_record(folder: Path) -> CacheRecord | None:
    """Return the record of a complete folder; None where there is none or it can't be read.

    A link is none, be it the record or the folder; nor is a pipe, whose reader would wait for ever.
    """
    try:
        content = _record_bytes(folder)
        return CacheRecord.model_validate_json(content) if content is not None else None
    except (OSError, SourceError, ValidationError):
        return None


def _record_bytes(folder: Path) -> bytes | None:
    with open_place(folder.parent, f"{folder.name}/{RECORD}", uid="", make=False) as place:
        if file_size(place, place.name) is None:
            return None
        with reading(place, place.name) as descriptor:
            return os.read(descriptor, _RECORD_BYTES)


def _awaited(check: Check, folder: Path) -> CacheRecord:
    """Return the record, waiting for a filler that is at work."""
    until = check.now() + check.patience
    while (record := read_record(folder)) is None:
        if check.now() >= until:
            raise _corrupted(f"Expected a complete folder {check.folder} in the cache; its record is missing.")
        check.sleep(_POLL_SECONDS)
    return record


def _verify_file(check: Check, file: ArtifactFile, recorded: CachedFile | None) -> None:
    what = f"Expected the cached {quoted(file.path)}"
    if recorded is None or recorded.size != file.size or file.sha256 not in (None, recorded.sha256):
        raise _corrupted(f"{what} as the artifact says; the cache's record says otherwise.")
    try:
        size, found = measured(check.root, f"{check.folder}/{file.path}", size=file.size)
    except (OSError, SourceError) as error:
        raise _corrupted(f"{what}; it can't be read ({type(error.__cause__ or error).__name__}).") from error
    if size != file.size:
        raise _corrupted(f"{what} with {file.size} bytes; found {'none' if size is None else size}.")
    if found != recorded.sha256:
        raise _corrupted(f"{what} with sha256 {recorded.sha256}; found {found}.")
    _log.info("%s lies in the cache, verified", file.path)


def _corrupted(what: str) -> SourceError:
    return SourceError(Reason.CacheCorrupted, f"{what} It is not used; the cache is filled anew.")


def _volume_time(root: Path, uid: str) -> float:
    """Return the time by the volume's own clock, which is another machine's on a network file system."""
    with open_place(root, "clock", uid=uid) as place, translated("clock"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(place.temporary, flags, 0o644, dir_fd=place.folder)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
            os.unlink(place.temporary, dir_fd=place.folder)


def _sweep(root: Path, cache: Cache, *, uid: str, began: float) -> None:
    """Remove folders that nobody needs and what dead fillers left; other names on the volume are not ours."""
    for folder in _folders(root):
        needed = cache.keep is None or folder.name == cache.folder or folder.name in cache.keep
        if needed:
            _sweep_temporaries(folder, uid=uid, before=began - cache.stale_seconds)
        elif not _recorded_since(folder, began):
            _log.info("removing folder %s, which no pod needs", folder.name)
            _unrecord(folder)
            shutil.rmtree(folder, ignore_errors=True)
    _sweep_temporaries(root, uid=uid, before=began - cache.stale_seconds)


def _folders(root: Path) -> Iterator[Path]:
    for entry in list(os.scandir(root)):
        if FOLDER.match(entry.name) and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)


def _sweep_temporaries(folder: Path, *, uid: str, before: float) -> None:
    """Remove old temporary files; a filler that lives after all fails at its rename and is tried again."""
    for entry in list(os.scandir(folder)):
        match = _TEMPORARY.match(entry.name)
        if match is None or match[1] == uid or not entry.is_file(follow_symlinks=False):
            continue
        try:
            if entry.stat(follow_symlinks=False).st_mtime < before:
                Path(entry.path).unlink()
                _log.info("removed %s, left by a filler that is gone", entry.name)
        except FileNotFoundError:
            continue  # its filler finished or another one was faster


def _strays(folder: Path, artifact: Artifact, *, below: str = "") -> Iterator[os.DirEntry[str]]:
    """Yield what lies in a folder and is not of the artifact. Of GGUF servers are given files, not folders."""
    if artifact.format == "GGUF":
        return
    known = {file.path for file in artifact.files}
    for entry in list(os.scandir(folder)):
        path = f"{below}{entry.name}"
        if path in known or (not below and entry.name == RECORD) or _PASSING.match(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False) and any(file.startswith(f"{path}/") for file in known):
            yield from _strays(folder / entry.name, artifact, below=f"{path}/")
        else:
            yield entry


def _sweep_strays(folder: Path, artifact: Artifact) -> None:
    for entry in _strays(folder, artifact):
        _log.warning("removing %s, which is no file of the model", entry.path)
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


def _recorded_since(folder: Path, began: float) -> bool:
    """Tell whether the folder was completed after this run began: then this run's orders are old."""
    try:
        return (folder / RECORD).stat().st_mtime > began
    except FileNotFoundError:
        return False


def _made(root: Path, name: str) -> Path:
    folder = root / name
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise SourceError(
                Reason.UnsafePath,
                f"Expected {quoted(name)} to be a plain folder; it is a link or a file. Empty the volume.",
            ) from None
    else:
        _sync(root)
    return folder


def _write_record(folder: Path, record: CacheRecord, *, uid: str) -> None:
    content = encode(record)
    with open_place(folder, RECORD, uid=uid) as place, translated(RECORD):
        partial = Partial(place, resume=False, limit=len(content))
        try:
            partial.append(content)
            partial.publish()
        finally:
            partial.close()


def _unrecord(folder: Path) -> None:
    with translated(RECORD):
        (folder / RECORD).unlink(missing_ok=True)
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
