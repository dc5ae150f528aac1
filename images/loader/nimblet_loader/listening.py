# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server beside the loader's work, in a thread of its own. It must not decide what is answered."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

_POLL_SECONDS: Final = 0.05
"""How soon the server notices that it shall end; its thread is waited for."""

_log = logging.getLogger(__name__)


class Listener(HTTPServer):
    """One request at a time, each with a deadline of its handler's: no client can pile up threads."""

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("0.0.0.0", port), handler)  # noqa: S104 - the operator asks the pod's address

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's
        """A client that went away is no event of the work."""
        _log.debug("the client %s went away", client_address)


@contextmanager
def listening(server: Listener, *, name: str) -> Iterator[int]:
    """Answer inside the block; yield the port."""
    thread = threading.Thread(target=lambda: server.serve_forever(_POLL_SECONDS), name=name, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
