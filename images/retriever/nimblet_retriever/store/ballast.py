# SPDX-License-Identifier: Apache-2.0
"""A file that holds a little of the volume, to be given up when others filled it. Knows no engine.

The engine writes its configuration when it opens a shard, so that a retriever which restarts on a full volume
could not answer. The reserve does not help there: it is free space, which others take.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

BALLAST_BYTES: Final = 4 * 2**20
"""Far more than the few kilobytes of a shard's configuration."""


class Ballast:
    """The file ROOT/ballast. Without space for it there is none, and nothing fails."""

    def __init__(self, root: Path) -> None:
        self._path = root / "ballast"
        self._take()

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Free its space for a while; afterwards it is taken again where that is possible."""
        self._path.unlink(missing_ok=True)
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, BALLAST_BYTES)
        except OSError:
            return  # whatever part of it was had is kept
        finally:
            os.close(file)
