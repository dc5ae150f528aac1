# SPDX-License-Identifier: Apache-2.0
"""Who may ask, and how much: a folder with one file per key, read again when it changes.

A file's name is the key's id, its content the key itself or a JSON record. An empty, missing or broken folder
denies everybody; a broken file denies its key alone. Never logs a key.
"""

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from nimblet_gateway.config import ConfigModel, Sha256

log = logging.getLogger(__name__)
BEARER: Final = "bearer "
LOOK_SECONDS: Final = 1.0
"""How old a look at the folder may be: a rotation counts within this time."""
MAX_FILE_BYTES: Final = 64 * 2**10

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class KeyRecord(ConfigModel):
    """A key's file in JSON."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    sha256: Sha256 | None = None
    access: frozenset[Label] | None = Field(default=None, max_length=100)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    expires: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("expected one of key and sha256")
        return self


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose request it is. `access` narrows what the gateway's own key may see; None leaves it as it is."""

    id: str
    sha256: str
    access: frozenset[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires: datetime | None = None


class KeyRing:
    """The keys of a folder."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._clock = clock
        self._looked: float | None = None
        self._seen: frozenset[tuple[str, int, int, int]] = frozenset()
        self._callers: tuple[Caller, ...] = ()

    def find(self, authorization: str | None) -> Caller | None:
        """Return whose key a request's Authorization header shows; None denies."""
        self.look()
        if authorization is None or not authorization.lower().startswith(BEARER):
            return None
        digest = digest_of(authorization[len(BEARER) :].strip())
        found = None
        for caller in self._callers:  # all of them, so that time tells nothing of where it stands
            if hmac.compare_digest(caller.sha256, digest):
                found = caller
        if found is None or (found.expires is not None and self._now() >= found.expires):
            return None
        return found

    def look(self) -> bool:
        """Read what changed, at most once in LOOK_SECONDS; return whether there is a key at all."""
        now = self._clock()
        if self._looked is None or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._refresh()
        return bool(self._callers)

    def _refresh(self) -> None:
        try:
            files = [path for path in self._folder.iterdir() if not path.name.startswith(".") and path.is_file()]
            stats = [(path.name, path.stat()) for path in files]
        except OSError as error:
            if self._callers or not self._seen:
                kind = type(error).__name__
                log.error("%s can't be read (%s): nobody may ask until it can", self._folder, kind)  # noqa: TRY400
            self._callers, self._seen = (), frozenset({("", 0, 0, 0)})
            return
        seen = frozenset((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats)
        if seen == self._seen:
            return
        callers = [_read(path) for path in sorted(files)]
        self._callers = tuple(caller for caller in callers if caller is not None)
        self._seen = seen
        log.info("%d of %d key files can be used", len(self._callers), len(files))


def digest_of(key: str) -> str:
    """Return the hash that keys are compared by."""
    return hashlib.sha256(key.encode()).hexdigest()


def _read(path: Path) -> Caller | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")  # noqa: TRY301 - one place tells all
        content = path.read_text(encoding="utf-8").strip()
        record = KeyRecord.model_validate_json(content) if content.startswith("{") else KeyRecord(key=content)
    except (OSError, ValueError) as error:  # pydantic's and unicode's errors are values' errors too
        kind = type(error).__name__ if not isinstance(error, ValidationError) else _flaws(error)
        # never the error's own text: it may quote the file
        log.error("key file %s can't be used (%s); put it right, it is read again", path.name, kind)  # noqa: TRY400
        return None
    return Caller(
        id=path.name,
        sha256=record.sha256 if record.sha256 is not None else digest_of(record.key or ""),
        access=record.access,
        requests_per_minute=record.requests_per_minute,
        tokens_per_minute=record.tokens_per_minute,
        expires=record.expires,
    )


def _flaws(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc']))} {item['type']}" for item in error.errors()[:5])
