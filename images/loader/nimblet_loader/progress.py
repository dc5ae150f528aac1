# SPDX-License-Identifier: Apache-2.0
"""Tells how far a fetch is: a log line at every tenth, and `/progress` over HTTP for the operator.

It serves numbers only: no names, no URLs. It must never slow down or stop the fetch.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Literal

from nimblet_loader.contract import ProgressReport, encode
from nimblet_loader.listening import Listener, listening

Phase = Literal["Starting", "Verifying", "Downloading", "Done"]

_STEP = 10
_CLIENT_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Progress:
    """Bytes done of a total, safe to read from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._total = 0
        self._logged = 0
        self._phase: Phase = "Starting"

    def begin(self, phase: Phase, *, total: int) -> None:
        """Enter a phase."""
        with self._lock:
            self._phase, self._total = phase, total

    def reach(self, done: int) -> None:
        """Set the bytes done, which may be fewer than before when a file starts anew."""
        with self._lock:
            self._bytes = done
            tenth = done * 100 // self._total // _STEP * _STEP if self._total else 0
            crossed, self._logged = tenth > self._logged, max(tenth, self._logged)
            total = self._total
        if crossed:
            _log.info("%d %% (%d of %d bytes)", tenth, done, total)

    def report(self) -> ProgressReport:
        """Return the present state."""
        with self._lock:
            percent = min(self._bytes * 100 // self._total, 100) if self._total else 0
            return ProgressReport(percent=percent, bytes=self._bytes, total=self._total, phase=self._phase)


@contextmanager
def served(progress: Progress, port: int) -> Iterator[int]:
    """Serve `/progress` on all addresses at `port` (0 = not at all) inside the block; yield the port."""
    if port == 0:
        yield 0
        return
    with listening(_Server(progress, port), name="progress") as found:
        yield found


class _Server(Listener):
    def __init__(self, progress: Progress, port: int) -> None:
        self.progress = progress
        super().__init__(port, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        if self.path != "/progress":
            self.send_error(404)
            return
        body = encode(self.server.progress.report())
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        _log.debug("progress asked: " + format, *args)
