# SPDX-License-Identifier: Apache-2.0
"""Lists the files of a mounted volume. Reads no content; nothing outside the folder is ever named.

The kubelet mounts ConfigMaps as links into a hidden folder beside them, so links are followed, within the folder
alone; hidden files and folders are not listed themselves.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nimblet_indexer.config import FolderSource
from nimblet_indexer.parse.file import SUFFIXES


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to be indexed: `document` is its id, `name` its path inside the source, `path` where it lies."""

    document: str
    name: str
    path: Path


def list_files(source: FolderSource) -> tuple[SourceFile, ...]:
    """Return the files that the globs choose and a parser knows, by name. OSError when the folder is not there."""
    root = source.folder.resolve(strict=True)
    chosen = []
    for name in sorted(_names(root)):
        path = PurePosixPath(name)
        if (
            path.suffix.lower() not in SUFFIXES
            or not _matches(path, source.include)
            or _matches(path, source.exclude)
        ):
            continue
        real = (root / name).resolve()
        if real.is_file() and real.is_relative_to(root):
            chosen.append(SourceFile(document=f"{source.name}/{name}", name=name, path=real))
    return tuple(chosen)


def _names(root: Path) -> Iterator[str]:
    """Yield paths below the root; folders that are links are not entered, so that no ring is endless."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [item for item in subfolders if not item.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _matches(path: PurePosixPath, globs: Sequence[str]) -> bool:
    return any(_match(path.parts, PurePosixPath(glob).parts) for glob in globs)


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match whole paths, `**` standing for any number of folders, which this Python's own match does not know."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_match(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and PurePosixPath(parts[0]).match(pattern[0]) and _match(parts[1:], pattern[1:])
