# SPDX-License-Identifier: Apache-2.0
"""Connects to a Qdrant server: its key from a file that may change, and limits of time. Asks nothing itself."""

import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Final

import httpx
from qdrant_client import AsyncQdrantClient

from nimblet_retriever.store.chunk import StoreRefused

HEADER: Final = "api-key"
TIMEOUT_SECONDS: Final = 30
"""Of one request: a batch or a new collection on several servers takes longer than the client's own 5 seconds."""

SNAPSHOT_SECONDS: Final = 1800
"""Of one request for a snapshot, which is answered once it is written whole."""


class FixedKey(httpx.Auth):
    """Shows one key. Not as the client's own `api_key`, which warns of every address without TLS."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the key on."""
        request.headers[HEADER] = self._key
        yield request


class FileKey(httpx.Auth):
    """Shows the key of a file, which is read again when it changes: a rotation needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._key = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the key on. StoreRefused where the file can't be read."""
        request.headers[HEADER] = self._current()
        yield request

    def _current(self) -> str:
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._key = self._path.read_text(encoding="ascii").strip()
                self._seen = seen
        except (OSError, UnicodeDecodeError) as error:
            raise StoreRefused(
                f"the Qdrant server's key can't be read ({type(error).__name__}); restore its Secret"
            ) from error
        return self._key


def connect(
    url: str,
    auth: httpx.Auth | None,
    *,
    trust: ssl.SSLContext | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    seconds: int = TIMEOUT_SECONDS,
) -> AsyncQdrantClient:
    """Return a client. It compares no versions by itself: the store asks for the server's and tells it.

    `trust`: what a server's certificate is verified by, the system's authorities without; `transport`: another way
    there than the network; `seconds`: of one request.
    """
    return AsyncQdrantClient(
        url=url,
        auth=auth,
        verify=trust if trust is not None else True,
        transport=transport,
        timeout=seconds,
        check_compatibility=False,
    )
