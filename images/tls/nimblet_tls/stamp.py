# SPDX-License-Identifier: Apache-2.0
"""By what a mounted file is known to be another than before. A kubelet replaces it as a whole."""

from pathlib import Path

Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """Return the file's stamp; None where there is none that can be read."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
