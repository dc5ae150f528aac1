# SPDX-License-Identifier: Apache-2.0
"""Bounds what a connection may send, and how slowly, before anybody asks for its key: uvicorn bounds neither."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 2**10
"""Of a request's line and headers; of what stands between the parts of a body, or behind it, too. Servers commonly
allow 8 to 64 KiB."""
HEAD_SECONDS: Final = 30.0
"""From a connection's begin, or from an answer, to the end of the next request's head, with what still comes of
the answered one's body; uvicorn's own 5 s after an answer end with the first byte. As long as the gateway gives a
body."""
TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose head does not end, or not in time."""

    _unread = 0
    """Bytes since the last one that was a body's, or ended a head or a message: the parser holds them."""
    _due: asyncio.TimerHandle | None = None
    """Closes the connection; None while a request is being answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first head, no longer than it may take."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._expect_none()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(TOO_LONG)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._unread = 0
        self._expect_none()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of its body, which its reader bounds."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End it."""
        self._unread = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next head, unless it has come already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._expect_head()

    def _expect_head(self) -> None:
        self._expect_none()
        self._due = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _expect_none(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
