# SPDX-License-Identifier: Apache-2.0
"""What asking another server needs everywhere: its key, and what its failures mean. Never follows a redirect."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
REFUSED_KEY: Final = frozenset({401, 403})
CONNECT_SECONDS: Final = 3.0


@dataclass(eq=False)
class Failed(Exception):  # noqa: N818 - what happened
    """A server that was asked did not do it. `transient`: asking again, or another one, may help."""

    reason: str
    message: str
    transient: bool


def bearer(key_file: Path | None, *, who: str) -> dict[str, str]:
    """Return the headers that show a key; its file is read each time, so that a rotated key counts at once."""
    if key_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {key_file.read_text(encoding='ascii').strip()}"}
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(
            "KeyUnreadable", f"the key for {who} can't be read ({type(error).__name__})", False
        ) from error


def unreachable(error: httpx.HTTPError, *, who: str) -> Failed:
    """Return what a broken connection means."""
    reason = "TimedOut" if isinstance(error, httpx.TimeoutException) else "Unreachable"
    return Failed(reason, f"{who} did not answer ({type(error).__name__})", True)


def status_failure(status: int, *, who: str) -> Failed:
    """Return what a status other than 200 means."""
    if status in REFUSED_KEY:
        return Failed("KeyRefused", f"{who} refused the gateway's key (HTTP {status}); check its Secret", False)
    if status in TRANSIENT:
        return Failed("Unavailable", f"{who} answered HTTP {status}", True)
    return Failed("Refused", f"{who} answered HTTP {status}; check its address and name", False)


def merged(*headers: Mapping[str, str]) -> dict[str, str]:
    """Return several headers as one."""
    return {name: value for part in headers for name, value in part.items()}
