# SPDX-License-Identifier: Apache-2.0
"""Asks the Confidential Data Hub of the own guest for a secret of a key broker (KBS).

It speaks to loopback alone, without proxy, redirect or credentials: what attests the guest and fetches the secret
is the hub. Paths and port: https://confidentialcontainers.org/docs/features/get-resource/ . The hub answers 500
for whatever keeps it from getting the secret, a refusal by the broker among that, so that the two can't be told
apart here.
"""

import http.client
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.retry import Pace

HOST: Final = "127.0.0.1"
PORT: Final = 8006
_OK: Final = 200
_SERVER_ERROR: Final = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hub:
    """Where the hub listens, how long one answer may take, and how often it is asked."""

    port: int = PORT
    seconds: float = 60.0
    """The guest's agent gives an attestation 50 s."""
    pace: Pace = field(default_factory=lambda: Pace(attempts=4))
    now: Callable[[], float] = time.monotonic


def released(hub: Hub, resource: str, *, limit: int) -> bytes:
    """Return the secret `repository/type/tag`, at most `limit` bytes; SourceError where it is not released."""
    failures = 0
    while True:
        failures += 1
        try:
            status, content = _asked(hub, resource, limit=limit)
        except (OSError, http.client.HTTPException) as error:
            refused, lasting = _unreachable(hub, error), False
        else:
            if status == _OK and 0 < len(content) <= limit:
                _log.info("the guest's key service released %s", resource)
                return content
            refused, lasting = _refused(resource, status, len(content), limit=limit), status < _SERVER_ERROR
        if lasting or failures >= hub.pace.attempts:
            raise refused
        hub.pace.pause(failures, refused)


def _asked(hub: Hub, resource: str, *, limit: int) -> tuple[int, bytes]:
    until = hub.now() + hub.seconds
    connection = http.client.HTTPConnection(HOST, hub.port, timeout=hub.seconds)
    try:
        connection.request("GET", f"/cdh/resource/{resource}", headers={"Accept": "application/octet-stream"})
        response = connection.getresponse()
        parts: list[bytes] = []
        while sum(map(len, parts)) <= limit:
            left = until - hub.now()
            if left <= 0:
                raise TimeoutError("the answer takes too long")
            if connection.sock is not None:  # None once the answer's end closed it
                connection.sock.settimeout(left)
            chunk = response.read1(limit + 1)
            if not chunk:
                break
            parts.append(chunk)
        return response.status, b"".join(parts)
    finally:
        connection.close()


def _refused(resource: str, status: int, length: int, *, limit: int) -> SourceError:
    found = f"it answered {status}" if status != _OK else f"it sent {'nothing' if not length else 'too much'}"
    return SourceError(
        Reason.KeyNotReleased,
        f"Expected the guest's key service to release kbs:///{resource}, at most {limit} bytes; {found}. Check at "
        "the key broker that the resource is there, that its policy releases it to this guest, and that it was "
        "not revoked.",
    )


def _unreachable(hub: Hub, error: Exception) -> SourceError:
    return SourceError(
        Reason.KeyServiceUnavailable,
        f"Expected the guest's key service at {HOST}:{hub.port}; found none ({type(error).__name__}). Run the "
        "model by a TEEPolicy in a guest with a Confidential Data Hub whose resource API is on.",
    )
