# SPDX-License-Identifier: Apache-2.0
"""What a long evaluation keeps on disk, so that it can be taken in pieces: passages found and replies given.

A record's key is the digest of everything that it depends on; what changed is asked again. It knows no measure.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class OutOfTimeError(Exception):
    """The piece is over: what was done is kept, run again to go on."""


@dataclass
class Work:
    """Records by key, appended to a file as they come; `until` is the monotonic time at which a piece ends."""

    path: Path
    until: float
    _known: dict[str, object] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Read what earlier pieces left."""
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                key, value = json.loads(line)
                self._known[key] = value

    def get(self, key: object, make: Callable[[], object]) -> object:
        """Return the record of a key, made now if it is not there."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        if digest not in self._known:
            if time.monotonic() > self.until:
                raise OutOfTimeError(f"{len(self._known)} records so far in {self.path}")
            made = make()
            self._keep(digest, made)
        return self._known[digest]

    def _keep(self, digest: str, made: object) -> None:
        with self._turn:
            self._known[digest] = made
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps([digest, made]) + "\n")
