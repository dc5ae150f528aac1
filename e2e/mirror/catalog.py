# SPDX-License-Identifier: Apache-2.0
"""What a mirror serves: repositories, their files and the faults they show on purpose. Data only, no HTTP."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_LARGE_SUFFIXES = (".gguf", ".safetensors", ".bin")
_LARGE_BYTES = 10_000_000
_SIZED = re.compile(r"(.+/sized)-(\d{1,18})")


class Access(StrEnum):
    """Who may download a repository's files."""

    PUBLIC = "public"
    TOKEN = "token"
    """Gated, open to whoever sends the hub's token."""
    FORBIDDEN = "forbidden"
    """Refused with a bare 403 that gives no cause, as a firewall or a policy of the hub does."""
    CLOSED = "closed"
    """Gated, and nobody was let in: the hub's answer to a token that has not accepted the terms."""


@dataclass(frozen=True)
class Fault:
    """How the transfer of a file goes wrong; the default is a sound transfer."""

    bytes_per_second: int | None = None
    cut_after_bytes: int | None = None
    """Close the connection after this many bytes of each response."""
    end_at_byte: int | None = None
    """Close the connection at this place in the file, at every try: resuming does not help."""
    stall_at_byte: int | None = None
    """Never send what lies behind this place in the file, and keep the connection open: resuming does not help."""
    flip_byte: bool = False
    """Change one byte in the middle of the file, while the metadata keeps the true digest."""
    ignore_range: bool = False
    unavailable: bool = False
    """Answer every download with 503."""


@dataclass(frozen=True)
class HubFile:
    """A file and what the hub tells about it."""

    path: Path
    size_bytes: int
    sha256: str
    git_sha1: str

    @property
    def is_large(self) -> bool:
        """Tell whether the hub would keep the file in its large-file storage (LFS) and name its sha256."""
        return self.path.suffix in _LARGE_SUFFIXES or self.size_bytes >= _LARGE_BYTES

    @property
    def etag(self) -> str:
        """The hub's entity tag: sha256 for large files, git's blob id for the others."""
        return self.sha256 if self.is_large else self.git_sha1


@dataclass(frozen=True)
class Repo:
    """A model repository with one commit."""

    id: str
    files: Mapping[str, HubFile]
    access: Access = Access.PUBLIC
    refs: tuple[str, ...] = ("main",)
    redirect: bool = True
    """Send large files' downloads to another address by 302, as the hub does with its CDN."""
    fault: Fault = field(default_factory=Fault)

    @property
    def commit(self) -> str:
        """A commit id that depends on the contents alone: 40 hex digits."""
        lines = "".join(f"{name}\0{self.files[name].sha256}\n" for name in sorted(self.files))
        return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class PlainFile:
    """A file at `/files/<name>`, for sources that are ordinary URLs."""

    file: HubFile
    fault: Fault = field(default_factory=Fault)


@dataclass(frozen=True)
class Hub:
    """Everything a mirror serves."""

    repos: Mapping[str, Repo]
    plain: Mapping[str, PlainFile] = field(default_factory=dict)
    token: str | None = None
    """The one token that is valid here; without it any token is refused."""

    def repo(self, name: str) -> Repo | None:
        """Return a repository; `<name>-<bytes>` of one that is called `sized` claims files of that size."""
        claimed = _SIZED.fullmatch(name)
        if claimed is None:
            return self.repos.get(name)
        base = self.repos.get(claimed[1])
        if base is None:
            return None
        files = {path: replace(file, size_bytes=int(claimed[2])) for path, file in base.files.items()}
        return replace(base, id=name, files=files)


def read_file(path: Path) -> HubFile:
    """Digest a file on the disk, in pieces."""
    size = path.stat().st_size
    sha256 = hashlib.sha256()
    sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)  # git's object header (gitformat-pack(5))
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            sha256.update(chunk)
            sha1.update(chunk)
    return HubFile(path=path, size_bytes=size, sha256=sha256.hexdigest(), git_sha1=sha1.hexdigest())


def read_hub(config: Path, *, token: str | None = None) -> Hub:
    """Read a hub from its JSON file, whose file paths are relative to it.

    `{"repos": [{"id", "files": {name: path}, "access", "refs", "redirect", "fault": {…}}],
    "plain": [{"name", "path", "fault"}]}`; each file is read once, however many repositories hold it.
    """
    try:
        document = json.loads(config.read_text(encoding="utf-8"))
        wanted = [path for entry in document["repos"] for path in _paths(entry).values()]
        wanted += [entry["path"] for entry in document.get("plain", [])]
        known = {name: read_file(config.parent / name) for name in sorted(set(wanted))}
        repos = [_repo(entry, known=known) for entry in document["repos"]]
        plain = {
            entry["name"]: PlainFile(file=known[entry["path"]], fault=Fault(**entry.get("fault", {})))
            for entry in document.get("plain", [])
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected {config} to list repos with id and files, and plain files with name and path; "
            f"found {error!r}"
        ) from error
    return Hub(repos={repo.id: repo for repo in repos}, plain=plain, token=token)


def _paths(entry: dict[str, object]) -> dict[str, str]:
    """The files of a repository's entry: path by name."""
    files = entry["files"]
    if not isinstance(files, dict):
        raise TypeError(f"files is an object in repository {entry.get('id')}")
    return files


def _repo(entry: dict[str, object], *, known: Mapping[str, HubFile]) -> Repo:
    fault, refs = entry.get("fault", {}), entry.get("refs", ["main"])
    if not isinstance(fault, dict) or not isinstance(refs, list):
        raise TypeError(f"fault is an object and refs is a list in repository {entry['id']}")
    return Repo(
        id=str(entry["id"]),
        files={name: known[path] for name, path in _paths(entry).items()},
        access=Access(str(entry.get("access", "public"))),
        refs=tuple(refs),
        redirect=bool(entry.get("redirect", True)),
        fault=Fault(**fault),
    )
