# SPDX-License-Identifier: Apache-2.0
"""The tenant's credential: read from mounted files, sent only to the hosts that the policy names.

It must never reach a log line, an error, an argument or another host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nimblet_loader.errors import LoaderError, Reason
from nimblet_loader.target import Target

_MAX_TOKEN_BYTES = 8192


@dataclass(frozen=True, repr=False)
class Credentials:
    """A bearer token, if there is one, and the hosts (`host` or `host:port`) that may see it."""

    token: str | None
    hosts: tuple[str, ...]

    def headers_for(self, target: Target) -> dict[str, str]:
        """Return the authorization headers for one request; empty for every host that is not named."""
        if self.token is None or not self.may_see(target):
            return {}
        return {"Authorization": f"Bearer {self.token}"}

    def may_see(self, target: Target) -> bool:
        """Tell whether the target is one of the named hosts, exactly."""
        return target.host in self.hosts or f"{target.host}:{target.port}" in self.hosts

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must not occur in any output."""
        return (self.token,) if self.token else ()


def read_credentials(folder: Path, *, hosts: Sequence[str], required: bool) -> Credentials:
    """Read the file `token` of a mounted Secret; LoaderError ConfigInvalid if it is required but absent."""
    allowed = tuple(host.strip().lower().rstrip(".") for host in hosts)
    path = folder / "token"
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_TOKEN_BYTES + 1)
    except FileNotFoundError as error:
        if not required:
            return Credentials(None, allowed)
        raise LoaderError(
            Reason.ConfigInvalid,
            'Expected the referenced Secret to have the key "token"; it has none. Add it to the Secret.',
        ) from error
    except OSError as error:
        raise LoaderError(
            Reason.ConfigInvalid,
            f'Expected to read the key "token" of the mounted Secret; it failed ({error.strerror}). '
            "Check the pod's mounts.",
        ) from error
    token = raw.strip()
    if not token or len(raw) > _MAX_TOKEN_BYTES or not all(33 <= byte <= 126 for byte in token):  # noqa: PLR2004
        raise LoaderError(
            Reason.TokenInvalid,
            'Expected the Secret\'s key "token" to hold one line of printable ASCII; it does not. '
            "Write the token itself, without quotes or line breaks inside.",
        )
    return Credentials(token.decode("ascii"), allowed)
