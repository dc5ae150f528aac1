# SPDX-License-Identifier: Apache-2.0
"""What a source of any type gives a build: a listing, then one file after another. Values and the interface."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.paths import unsafe_path
from nimblet_indexer.config import SourceModel
from nimblet_indexer.document import FileRefused, Refusal
from nimblet_indexer.parse.suffixes import SUFFIXES
from nimblet_indexer.report import FileError

MAX_DOCUMENT: Final = 1000
"""Characters of an id that the retriever takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file to be indexed: `document` is its id, `name` its path inside the source."""

    document: str
    name: str
    place: str
    """Where the source itself finds it: a path, a key, an address."""
    size: int | None = None
    """Where the listing tells it."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a source, and those that are left out without a look inside."""

    files: tuple[SourceFile, ...]
    revision: str = ""
    refused: tuple[FileError, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file as it lies on disk; `parse_as` ends with the suffix that tells its format."""

    path: Path
    parse_as: str


class SourceReader(Protocol):
    """A source under way. `list` is called once; `fetch` by several threads at once."""

    def list(self) -> Listing:
        """Return what there is. SourceError, OSError or BuildFailed when the source as a whole can't be read."""
        ...

    def fetch(self, file: SourceFile) -> AbstractContextManager[Fetched]:
        """Have a file on disk inside the block. FileRefused for that file alone, SourceError for the source."""
        ...

    def revision(self, listing: Listing) -> str:
        """Return the revision that was read, once all files were."""
        ...


@dataclass(kw_only=True)
class Chooser:
    """Collects what a source lists: what its globs choose and a parser knows, and what is refused by name."""

    source: SourceModel
    most: int
    """Files that a source may have."""
    files: list[SourceFile] = field(default_factory=list)
    refused: list[FileError] = field(default_factory=list)

    def offer(self, name: str, *, place: str, size: int | None = None) -> bool:
        """Take a file if it is wanted; one with a name that can't be an id is refused. True if it was taken."""
        return self.wants(name) and self.take(name, place=place, size=size)

    def take(self, name: str, *, place: str, size: int | None = None) -> bool:
        """Take a file that is wanted whatever its name's suffix. True if its name can be an id."""
        document = f"{self.source.name}/{name}"
        flaw = unsafe_path(name) if len(document) <= MAX_DOCUMENT else "it is too long"
        if flaw is not None:
            self.refuse(name, Refusal.UNSAFE_NAME, f"its name can't be used: {flaw}; rename it")
            return False
        if len(self.files) >= self.most:
            raise SourceError(
                Reason.TooManyFiles,
                f"Expected at most {self.most} files in the source {self.source.name}; there are more. "
                "Choose fewer by include and exclude, or by a longer path or prefix.",
            )
        self.files.append(SourceFile(document=document, name=name, place=place, size=size))
        return True

    def wants(self, name: str) -> bool:
        """Tell whether a path is chosen and of a known format."""
        return PurePosixPath(name).suffix.lower() in SUFFIXES and chosen(name, self.source)

    def refuse(self, name: str, reason: Refusal, message: str) -> None:
        """Note a file that is left out."""
        self.refused.append(refusal(self.source, name, FileRefused(reason, message)))

    def listing(self, revision: str = "") -> Listing:
        """Return the listing, by name."""
        files = tuple(sorted(self.files, key=lambda file: file.name))
        return Listing(files=files, revision=revision, refused=tuple(self.refused))


def refusal(source: SourceModel, name: str, refused: FileRefused) -> FileError:
    """Return a refusal as it is reported."""
    shown = name.encode("utf-8", "replace").decode()
    return FileError(file=f"{source.name}/{shown}", reason=refused.reason, message=refused.message)


def chosen(name: str, source: SourceModel) -> bool:
    """Tell whether the source's globs choose a path."""
    path = PurePosixPath(name)
    return _matches(path, source.include) and not _matches(path, source.exclude)


def _matches(path: PurePosixPath, globs: Sequence[str]) -> bool:
    return any(_match(path.parts, PurePosixPath(glob).parts) for glob in globs)


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match whole paths, `**` standing for any number of folders, which this Python's own match does not know."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_match(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and PurePosixPath(parts[0]).match(pattern[0]) and _match(parts[1:], pattern[1:])
