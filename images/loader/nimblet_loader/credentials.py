# SPDX-License-Identifier: Apache-2.0
"""The tenant's credential: read from mounted files, sent only to the hosts that the policy names.

It must never reach a log line, an error, an argument or another host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nimblet_loader.errors import LoaderError, Reason, quoted
from nimblet_loader.sigv4 import AccessKey
from nimblet_loader.target import Target

_MAX_VALUE_BYTES = 8192
TOKEN_KEY: Final = "token"  # noqa: S105 - the key's name
S3_KEYS: Final = ("accessKeyId", "secretAccessKey")
SESSION_KEY: Final = "sessionToken"


@dataclass(frozen=True, repr=False)
class Credentials:
    """A bearer token or an access key, if there is one, and the hosts (`host` or `host:port`) that may see it."""

    token: str | None
    hosts: tuple[str, ...]
    access_key: AccessKey | None = None

    def headers_for(self, target: Target) -> dict[str, str]:
        """Return the token's headers for one request; empty for every host that is not named."""
        if self.token is None or not self.may_see(target):
            return {}
        return {"Authorization": f"Bearer {self.token}"}

    def may_see(self, target: Target) -> bool:
        """Tell whether the target is one of the named hosts, exactly."""
        return target.host in self.hosts or f"{target.host}:{target.port}" in self.hosts

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must not occur in any output."""
        key = self.access_key
        found = (self.token,) if key is None else (self.token, key.secret, key.session)
        return tuple(value for value in found if value)


def read_credentials(
    folder: Path, *, hosts: Sequence[str], required: bool, scheme: str | None = None
) -> Credentials:
    """Read a mounted Secret's files; LoaderError ConfigInvalid if those that the scheme needs are absent."""
    allowed = tuple(host.strip().lower().rstrip(".") for host in hosts)
    token = _read(folder, TOKEN_KEY)
    key_id, secret = (_read(folder, name) for name in S3_KEYS)
    session = _read(folder, SESSION_KEY)
    access_key = AccessKey(key_id, secret, session) if key_id and secret else None
    needed: tuple[str, ...] = S3_KEYS if scheme == "s3" else (TOKEN_KEY,)
    found = access_key if scheme == "s3" else token
    if required and found is None:
        raise LoaderError(
            Reason.ConfigInvalid,
            f"Expected the referenced Secret to have the key {' and '.join(quoted(name) for name in needed)}; "
            "one is missing. Add it to the Secret.",
        )
    return Credentials(token, allowed, access_key)


def _read(folder: Path, name: str) -> str | None:
    """Return the value of one key of the Secret, or None if it has no such key."""
    try:
        with (folder / name).open("rb") as file:
            raw = file.read(_MAX_VALUE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LoaderError(
            Reason.ConfigInvalid,
            f'Expected to read the key "{name}" of the mounted Secret; it failed ({error.strerror}). '
            "Check the pod's mounts.",
        ) from error
    value = raw.strip()
    if not value or len(raw) > _MAX_VALUE_BYTES or not all(33 <= byte <= 126 for byte in value):  # noqa: PLR2004
        raise LoaderError(
            Reason.TokenInvalid,
            f'Expected the Secret\'s key "{name}" to hold one line of printable ASCII; it does not. '
            "Write the value itself, without quotes or line breaks inside.",
        )
    return value.decode("ascii")
