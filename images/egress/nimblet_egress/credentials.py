# SPDX-License-Identifier: Apache-2.0
"""The tenant's credential: read from mounted files, sent only to the hosts that the policy names.

It must never reach a log line, an error, an argument or another host.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.sigv4 import AccessKey
from nimblet_egress.target import Target

_MAX_VALUE_BYTES = 8192
TOKEN_KEY: Final = "token"  # noqa: S105 - the key's name
S3_KEYS: Final = ("accessKeyId", "secretAccessKey")
SESSION_KEY: Final = "sessionToken"
LOGIN_KEYS: Final = ("username", "password")
"""The keys of a Secret of type kubernetes.io/basic-auth."""
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {"s3": S3_KEYS, "oci": LOGIN_KEYS}


@dataclass(frozen=True, repr=False)
class Credentials:
    """A token, access key or login, if there is one, and the hosts (`host` or `host:port`) that may see it."""

    token: str | None
    hosts: tuple[str, ...]
    access_key: AccessKey | None = None
    login: tuple[str, str] | None = None

    def headers_for(self, target: Target) -> dict[str, str]:
        """Return the token's headers for one request; empty for every host that is not named."""
        if self.token is None or not self.may_see(target):
            return {}
        return {"Authorization": f"Bearer {self.token}"}

    def login_for(self, target: Target) -> dict[str, str]:
        """Return the login's headers for one request; empty for every host that is not named."""
        if self.login is None or not self.may_see(target):
            return {}
        return {"Authorization": f"Basic {b64encode(':'.join(self.login).encode()).decode()}"}

    def may_see(self, target: Target) -> bool:
        """Tell whether the target is one of the named hosts, exactly."""
        return target.host in self.hosts or f"{target.host}:{target.port}" in self.hosts

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must not occur in any output."""
        key = self.access_key
        found = (self.token,) if key is None else (self.token, key.secret, key.session)
        login = () if self.login is None else (self.login[1], b64encode(":".join(self.login).encode()).decode())
        return tuple(value for value in (*found, *login) if value)


def read_credentials(
    folder: Path, *, hosts: Sequence[str], required: bool, scheme: str | None = None
) -> Credentials:
    """Read a mounted Secret's files; SourceError ConfigInvalid if those that the scheme needs are absent."""
    allowed = tuple(host.strip().lower().rstrip(".") for host in hosts)
    token = read_value(folder, TOKEN_KEY)
    key_id, secret = (read_value(folder, name) for name in S3_KEYS)
    user, password = (read_value(folder, name) for name in LOGIN_KEYS)
    session = read_value(folder, SESSION_KEY)
    access_key = AccessKey(key_id, secret, session) if key_id and secret else None
    login = (user, password) if user and password else None
    needed = _KEYS.get(scheme or "", (TOKEN_KEY,))
    found = {"s3": access_key, "oci": login}.get(scheme or "", token)
    if required and found is None:
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected the referenced Secret to have the key {' and '.join(quoted(name) for name in needed)}; "
            "one is missing. Add it to the Secret.",
        )
    return Credentials(token, allowed, access_key, login)


def read_value(folder: Path, name: str) -> str | None:
    """Return the value of one key of the Secret, or None if it has no such key."""
    try:
        with (folder / name).open("rb") as file:
            raw = file.read(_MAX_VALUE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(
            Reason.ConfigInvalid,
            f'Expected to read the key "{name}" of the mounted Secret; it failed ({error.strerror}). '
            "Check the pod's mounts.",
        ) from error
    value = raw.strip()
    if not value or len(raw) > _MAX_VALUE_BYTES or not all(33 <= byte <= 126 for byte in value):  # noqa: PLR2004
        raise SourceError(
            Reason.TokenInvalid,
            f'Expected the Secret\'s key "{name}" to hold one line of printable ASCII; it does not. '
            "Write the value itself, without quotes or line breaks inside.",
        )
    return value.decode("ascii")
