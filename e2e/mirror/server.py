# SPDX-License-Identifier: Apache-2.0
"""The HTTP side of the mirror: one thread per connection, bytes moved in pieces, faults acted out.

Use `with serve(hub) as server:` in tests; it must not decide what is answered (see protocol).
"""

import select
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Event, Thread
from typing import ClassVar
from urllib.parse import urlsplit

from e2e.mirror.catalog import Hub
from e2e.mirror.protocol import Request, Response, Slice, respond

_CHUNK_BYTES = 1 << 16
_SLOW_TICKS_PER_SECOND = 20
_POLL_SECONDS = 0.2

Observer = Callable[[str, Request, Response], None]
"""Called with the method, the request and its answer, before the body is sent."""


@dataclass(frozen=True)
class Listener:
    """Where a mirror listens."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    cdn_port: int = 0
    """The second address, where the hub sends downloads of large files; 0 takes a free one."""
    certificate: Path | None = None
    key: Path | None = None


def _ignore(_method: str, _request: Request, _response: Response) -> None:
    """Observe nothing."""


@dataclass
class Site:
    """What the two addresses of a mirror share; `hub` may be replaced while it runs."""

    hub: Hub
    scheme: str
    observe: Observer = _ignore
    cdn_port: int = 0
    closing: Event = field(default_factory=Event)


class MirrorServer(ThreadingTCPServer):
    """One address that a mirror listens on."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, site: Site, *, port: int, listener: Listener) -> None:
        self.site = site
        super().__init__((listener.host, port), _Handler)
        if listener.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(listener.certificate, listener.key)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address as seen from this machine, without a path."""
        return f"{self.site.scheme}://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout: ClassVar[float | None] = 60.0
    """Seconds that a client may take to send a request or to take a piece of an answer."""
    disable_nagle_algorithm = True
    server: MirrorServer

    def handle(self) -> None:
        """Serve requests until the client leaves or the mirror stops; between requests, wait in short turns."""
        self.close_connection = False
        try:
            while not self.close_connection and not self.server.site.closing.is_set():
                if self._has_input():
                    self.handle_one_request()
        except ConnectionError:
            self.close_connection = True  # the client left in the middle: its right, and what the faults provoke

    def do_GET(self) -> None:
        response = self._answer("GET")
        if isinstance(response.body, Slice):
            self._send_slice(response.body)
        else:
            self.wfile.write(response.body)

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Leave logging to the observer, which sees no header values."""

    def _answer(self, method: str) -> Response:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        request = Request(
            target=self.path,
            cdn=self._cdn(),
            token=token if kind.lower() == "bearer" else None,
            range=self.headers.get("Range"),
            if_range=self.headers.get("If-Range"),
        )
        response = respond(self.server.site.hub, request)
        self.server.site.observe(method, request, response)
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.end_headers()
        return response

    def _cdn(self) -> str:
        """The mirror's second address, under the host name by which the client came."""
        host = urlsplit(f"//{self.headers.get('Host', '127.0.0.1')}").hostname or "127.0.0.1"
        site = self.server.site
        return f"{site.scheme}://{f'[{host}]' if ':' in host else host}:{site.cdn_port}"

    def _send_slice(self, body: Slice) -> None:
        fault = body.fault
        limit = sent_bytes(body)
        for chunk in _chunks(body, limit=limit):
            self.wfile.write(chunk)
            if fault.bytes_per_second and self.server.site.closing.wait(len(chunk) / fault.bytes_per_second):
                self.close_connection = True
                return
        if limit < body.length:
            self.close_connection = True
            if fault.stall_at_byte is not None and body.start + limit >= fault.stall_at_byte:
                self._stall()

    def _stall(self) -> None:
        """Hold the connection until the client leaves or the mirror stops."""
        while not self.server.site.closing.is_set():
            if self._has_input() and not self.connection.recv(1):
                return

    def _has_input(self) -> bool:
        if isinstance(self.connection, ssl.SSLSocket) and self.connection.pending():
            return True
        return bool(select.select([self.connection], [], [], _POLL_SECONDS)[0])


def sent_bytes(body: Slice) -> int:
    """How many bytes of a slice are sent before its transfer is cut or stalls."""
    fault = body.fault
    cut = body.length if fault.cut_after_bytes is None else fault.cut_after_bytes
    last = [at for at in (fault.stall_at_byte, fault.end_at_byte) if at is not None]
    return min(body.length, cut, *(max(0, at - body.start) for at in last))


def _chunks(body: Slice, *, limit: int) -> Iterator[bytes]:
    """Read at most `limit` bytes of a slice, in pieces, with the promised wrong byte in the file's middle."""
    rate = body.fault.bytes_per_second
    piece = max(1, min(_CHUNK_BYTES, rate // _SLOW_TICKS_PER_SECOND)) if rate else _CHUNK_BYTES
    wrong = body.file.size_bytes // 2 if body.fault.flip_byte else -1
    at, end = body.start, body.start + limit
    with body.file.path.open("rb") as source:
        source.seek(at)
        while at < end:
            chunk = bytearray(source.read(min(piece, end - at)))
            if not chunk:
                raise OSError(f"{body.file.path} is shorter than the {body.file.size_bytes} bytes it had at start")
            if at <= wrong < at + len(chunk):
                chunk[wrong - at] ^= 0xFF
            at += len(chunk)
            yield bytes(chunk)


@contextmanager
def serve(hub: Hub, *, listener: Listener | None = None, observe: Observer = _ignore) -> Iterator[MirrorServer]:
    """Run a mirror in threads until the block ends; yields its main address."""
    where = listener or Listener()
    site = Site(hub, scheme="https" if where.certificate else "http", observe=observe)
    with (
        MirrorServer(site, port=where.port, listener=where) as main,
        MirrorServer(site, port=where.cdn_port, listener=where) as cdn,
    ):
        site.cdn_port = cdn.port
        threads = [Thread(target=server.serve_forever, args=(0.05,), name="mirror") for server in (main, cdn)]
        for thread in threads:
            thread.start()
        try:
            yield main
        finally:
            site.closing.set()
            main.shutdown()
            cdn.shutdown()
            for thread in threads:
                thread.join()
