# SPDX-License-Identifier: Apache-2.0
"""Lists the files of a mounted volume. Reads no content; nothing outside the folder is ever named.

The kubelet mounts ConfigMaps as links into a hidden folder beside them, so links are followed, within the folder
alone; hidden files and folders are not listed themselves.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nimblet_indexer.config import FileLimits, FolderSource
from nimblet_indexer.document import Refusal
from nimblet_indexer.source.listing import Chooser, Fetched, Listing, SourceFile

_ITS_OWN: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""What is wrong with one file or folder; any other error (a stale or failing mount) is the volume's."""


class FolderReader:
    """A mounted volume."""

    def __init__(self, source: FolderSource, limits: FileLimits) -> None:
        self._source, self._most = source, limits.source_files

    def list(self) -> Listing:
        """Return the files that the globs choose and a parser knows. OSError when the folder is absent."""
        root = self._source.folder.resolve(strict=True)
        chooser = Chooser(source=self._source, most=self._most)
        for name in _names(root, chooser):
            if chooser.wants(name):
                _offer(chooser, name, root)
        return chooser.listing()

    @contextmanager
    def fetch(self, file: SourceFile) -> Iterator[Fetched]:
        """Give the file where it lies."""
        yield Fetched(path=Path(file.place), parse_as=file.name)

    def revision(self, listing: Listing) -> str:
        """Return nothing: a volume has no revisions."""
        return listing.revision


def _offer(chooser: Chooser, name: str, root: Path) -> None:
    try:
        real = (root / name).resolve()
        inside = real.is_relative_to(root)
        is_file = inside and real.is_file()
    except RuntimeError:  # how Python before 3.13 tells of a ring
        chooser.refuse(name, Refusal.LINK, "it is a link that leads to itself; put the file itself")
        return
    except OSError as error:
        if error.errno not in _ITS_OWN:
            raise
        message = f"it can't be looked at ({type(error).__name__}); check its permissions"
        chooser.refuse(name, Refusal.UNREADABLE, message)
        return
    if not inside:
        chooser.refuse(name, Refusal.LINK, "it is a link that leads out of the volume; put the file itself")
    elif is_file:
        chooser.offer(name, place=str(real))


def _names(root: Path, chooser: Chooser) -> Iterator[str]:
    """Yield paths below the root; folders that are links are not entered, so that no ring is endless.

    A folder that can't be listed is told: its documents would else leave the index without a word. OSError where
    that is the root, or the volume itself fails.
    """

    def told(error: OSError) -> None:
        folder = Path(error.filename)
        if folder == root or error.errno not in _ITS_OWN:
            raise error
        if error.errno == errno.ENOENT or folder.name == "lost+found":
            return  # it was deleted meanwhile, or is the file system's own
        chooser.refuse(
            folder.relative_to(root).as_posix(),
            Refusal.UNREADABLE,
            f"the folder can't be listed ({type(error).__name__}); check its permissions",
        )

    for folder, subfolders, files in os.walk(root, onerror=told):
        subfolders[:] = [item for item in subfolders if not item.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()
