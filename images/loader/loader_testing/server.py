# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server on loopback whose answers a test decides, down to breaking them off."""

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What came in: the request target, headers with lower-case names, the method and a form's bytes."""

    target: str
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""

    @property
    def path(self) -> str:
        """Return the target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Reply:
    """What goes out. The connection closes after it; with `hold` it stays open in silence first."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()
    hold: bool = False


Answer = Callable[[Request], Reply]


class LoopbackServer:
    """Listens on 127.0.0.1 and keeps what was asked."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None) -> None:
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                request = Request(self.path, headers, self.command, body)
                outer.requests.append(request)
                self._send(answer(request))

            do_CONNECT = do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class looks them up by these names

            def _send(self, reply: Reply) -> None:
                self.close_connection = True
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                try:
                    for chunk in reply.body:
                        self.wfile.write(chunk)
                    if reply.hold:
                        outer.stopping.wait(90)
                except OSError:
                    return  # the loader hung up, as it should

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Stay silent: `requests` has it all."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_port

    def paths(self) -> list[str]:
        """Return the paths asked for, in order."""
        return [request.path for request in self.requests]


@contextmanager
def serving(answer: Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[LoopbackServer]:
    """Serve inside the block; threads and sockets are gone after it."""
    loopback = LoopbackServer(answer, tls)
    thread = threading.Thread(target=lambda: loopback.server.serve_forever(0.02))
    thread.start()
    try:
        yield loopback
    finally:
        loopback.stopping.set()
        loopback.server.shutdown()
        thread.join()
        loopback.server.server_close()
