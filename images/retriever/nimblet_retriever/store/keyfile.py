# SPDX-License-Identifier: Apache-2.0
"""The key of a Qdrant server, from a file that another one may take the place of at any time. Knows no store."""

from collections.abc import Generator
from pathlib import Path
from typing import Final

import httpx

HEADER: Final = "api-key"
"""Where Qdrant looks for a key."""


class KeyFile(httpx.Auth):
    """Puts the key into each request, read each time: a rotated key counts without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with the key of now. OSError where there is no file."""
        request.headers[HEADER] = self._path.read_text(encoding="ascii").strip()
        yield request
