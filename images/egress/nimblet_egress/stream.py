# SPDX-License-Identifier: Apache-2.0
"""A connection whose large bodies are read around the HTTP parser: fewer copies, whole mebibytes at once.

The parser sees every head, and any body that is not asked for as `bulk`. A stream that was read in bulk can't be
used for another request. It must not know what it carries.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpcore

_BULK_BYTES = 2**20
_PATIENCE_SECONDS = 0.25
"""A slow source's bytes are handed on after this time, though they fill no whole piece."""
_HEAD_END = b"\r\n\r\n"


class BulkStream(httpcore.NetworkStream):
    """Gives the parser a response's head first, apart from what follows it."""

    def __init__(self, inner: httpcore.NetworkStream, *, now: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._now = now
        self._asked = now()
        self._head: bytes | None = b""
        """The end of the head as far as it has come; None when it is complete."""
        self._rest = b""
        self._untouched = False
        """Whether the parser has seen nothing that follows the head."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read for the parser."""
        if self._rest:
            data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        else:
            data = self._inner.read(max_bytes, timeout)
            self._check_head(timeout)
        if self._head is None:
            self._untouched = False
            return data
        known = len(self._head)
        end = (self._head + data).find(_HEAD_END)
        if end < 0:
            self._head = (self._head + data)[-len(_HEAD_END) + 1 :]
            return data
        cut = end + len(_HEAD_END) - known
        self._head, self._rest, self._untouched = None, data[cut:] + self._rest, True
        return data[:cut]

    def _check_head(self, timeout: float | None) -> None:
        """End a head that comes byte by byte: each in time, and the last one never."""
        if self._head is not None and timeout is not None and self._now() - self._asked > 2 * timeout:
            raise httpcore.ReadTimeout(f"the head of the answer took longer than {2 * timeout:g} s")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write for the parser; another head follows."""
        self._head, self._untouched = b"", False
        self._asked = self._now()
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the stream inside TLS."""
        return BulkStream(self._inner.start_tls(ssl_context, server_hostname, timeout), now=self._now)

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection tells about itself."""
        return self._inner.get_extra_info(info)

    @property
    def at_body(self) -> bool:
        """Whether all of the body is still to be read, so that `bulk` may be used."""
        return self._untouched and isinstance(self.get_extra_info("socket"), socket.socket)

    def bulk(self, length: int, timeout: float) -> Iterator[bytes]:
        """Yield a body of `length` bytes; raises as the parser would, after what came before the failure."""
        rest, self._rest, self._untouched = self._rest[:length], b"", False
        if rest:
            yield rest
        length -= len(rest)
        connection = self.get_extra_info("socket")
        buffer = memoryview(bytearray(min(_BULK_BYTES, length)))
        while length:
            filled, failure = _fill(connection, buffer[: min(len(buffer), length)], timeout)
            if filled:
                length -= filled
                yield bytes(buffer[:filled])
            if failure is not None:
                raise failure


def _fill(connection: socket.socket, buffer: memoryview, timeout: float) -> tuple[int, Exception | None]:
    """Read until the buffer is full, the source is slow or fails; return the bytes and the failure."""
    connection.settimeout(timeout)
    filled, until = 0, time.monotonic() + _PATIENCE_SECONDS
    while filled < len(buffer):
        try:
            count = connection.recv_into(buffer[filled:])
        except TimeoutError as error:
            return filled, None if filled else httpcore.ReadTimeout(str(error))
        except OSError as error:
            return filled, httpcore.ReadError(str(error))
        if count == 0:
            return filled, httpcore.RemoteProtocolError("the body ends before its announced length")
        if filled == 0:
            connection.settimeout(min(timeout, _PATIENCE_SECONDS))
        filled += count
        if time.monotonic() > until:
            break
    return filled, None
