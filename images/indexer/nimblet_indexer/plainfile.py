# SPDX-License-Identifier: Apache-2.0
"""Reads a file without following a link. Knows no formats.

A volume that others write to is looked at when it is listed and read later: what was a file then may be a link by
now, to a credential of this pod, say, which would be indexed and found.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from nimblet_indexer.document import FileRefused, Refusal

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting: opening a named pipe would else wait for its writer."""
_LINKS: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.ENXIO})


def read_plain(path: Path) -> bytes:
    """Return the bytes of an absolute path without a link in it. FileRefused where there is one by now."""
    folder = os.open(path.anchor, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.parts[1:-1]:
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        file = os.open(path.name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINKS:
            raise _refused() from error
        raise
    finally:
        os.close(folder)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _refused()
        return opened.read()


def _refused() -> FileRefused:
    return FileRefused(Refusal.LINK, "it became a link or a device while it was to be read; put the file itself")
