# SPDX-License-Identifier: Apache-2.0
"""Who may ask, and what they may see: a file of hashed keys, read again when it changes.

An empty or broken file denies everybody. A key's `access` labels are the only identity there is: what a request
says about itself can narrow them and never widen them.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from nimblet_retriever.config import ConfigModel

log = logging.getLogger(__name__)
BEARER: Final = "Bearer "


class Scope(StrEnum):
    """What a key is for."""

    SEARCH = "search"
    PUSH = "push"
    BUILD = "build"
    OPERATE = "operate"


class Key(ConfigModel):
    """One key. The file holds its hash; who reads the file can't use it."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Scope] = Field(min_length=1)
    access: frozenset[str] = frozenset()
    expires: AwareDatetime | None = None


class KeyFile(ConfigModel):
    """The whole file."""

    keys: tuple[Key, ...] = ()


class KeyRing:
    """The keys of a file. `find` looks at the file's time and size first, so that a rotation needs no restart."""

    def __init__(self, path: Path, *, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Key, ...] = ()

    def find(self, authorization: str | None, *scopes: Scope) -> Key | None:
        """Return the key that a request's Authorization header shows, None when it has none of the scopes."""
        self._refresh()
        if authorization is None or not authorization.startswith(BEARER):
            return None
        digest = hashlib.sha256(authorization.removeprefix(BEARER).encode()).hexdigest()
        found = None
        for key in self._keys:  # all of them, so that time tells nothing of where it stands
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None or found.scopes.isdisjoint(scopes):
            return None
        return found if found.expires is None or self._now() < found.expires else None

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            self._keys = KeyFile.model_validate_json(self._path.read_bytes()).keys
            self._seen = seen
        except (OSError, ValidationError) as error:
            kind = type(error).__name__  # never its text: it may quote the file
            if self._keys or self._seen is not None:
                log.error("%s can't be read (%s): nobody may ask until it can", self._path, kind)  # noqa: TRY400
            self._keys, self._seen = (), None
