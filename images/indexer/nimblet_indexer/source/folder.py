# SPDX-License-Identifier: Apache-2.0
"""Lists the files of a mounted volume. Reads no content; nothing outside the folder is ever named.

The kubelet mounts ConfigMaps as links into a hidden folder beside them, so links are followed, within the folder
alone; hidden files and folders are not listed themselves.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nimblet_indexer.config import FileLimits, FolderSource
from nimblet_indexer.document import Refusal
from nimblet_indexer.source.listing import Chooser, Fetched, Listing, SourceFile


class FolderReader:
    """A mounted volume."""

    def __init__(self, source: FolderSource, limits: FileLimits) -> None:
        self._source, self._most = source, limits.source_files

    def list(self) -> Listing:
        """Return the files that the globs choose and a parser knows. OSError when the folder is absent."""
        root = self._source.folder.resolve(strict=True)
        chooser = Chooser(source=self._source, most=self._most)
        for name in _names(root):
            if not chooser.wants(name):
                continue
            real = (root / name).resolve()
            if not real.is_relative_to(root):
                chooser.refuse(
                    name, Refusal.LINK, "it is a link that leads out of the volume; put the file itself"
                )
            elif real.is_file():
                chooser.offer(name, place=str(real))
        return chooser.listing()

    @contextmanager
    def fetch(self, file: SourceFile) -> Iterator[Fetched]:
        """Give the file where it lies."""
        yield Fetched(path=Path(file.place), parse_as=file.name)

    def revision(self, listing: Listing) -> str:
        """Return nothing: a volume has no revisions."""
        return listing.revision


def _names(root: Path) -> Iterator[str]:
    """Yield paths below the root; folders that are links are not entered, so that no ring is endless."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [item for item in subfolders if not item.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()
