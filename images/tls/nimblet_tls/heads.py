# SPDX-License-Identifier: Apache-2.0
"""Bounds what a connection may send before anybody asks for its key: uvicorn's parser in C has no bound."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 2**10
"""Of a request's line and headers; of what stands between the parts of a body, or behind it, too. Servers commonly
allow 8 to 64 KiB."""
TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose head does not end."""

    _unread = 0
    """Bytes since the last one that was a body's, or ended a head or a message: the parser holds them."""

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
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of its body, which its reader bounds."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End it."""
        self._unread = 0
        super().on_message_complete()
