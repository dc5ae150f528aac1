# SPDX-License-Identifier: Apache-2.0
"""How far a build is: counts, `/progress` for the operator and `/metrics` for a scraper. Numbers only, no names.

It must never slow down or stop the build.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from nimblet_indexer.report import Progress

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

POLL_SECONDS: Final = 0.05
CLIENT_SECONDS: Final = 5.0


class Phase(StrEnum):
    """What is going on."""

    LISTING = "Listing"
    READING = "Reading"
    SEALING = "Sealing"
    GATING = "Gating"
    SERVING = "Serving"
    DONE = "Done"


class BuildProgress:
    """The counts of one build; may be used by several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._phase = Phase.LISTING
        self._done = self._total = self._embedded = self._reused = 0
        files = "Files that were read or left out."
        self._files = Counter("nimblet_indexer_files", files, ["result"], registry=self.registry)
        passages = "Passages handed over, by where their vector came from."
        self._passages = Counter("nimblet_indexer_passages", passages, ["vector"], registry=self.registry)
        listed = "Files that the sources listed."
        self._listed = Gauge("nimblet_indexer_files_listed", listed, registry=self.registry)

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        with self._lock:
            self._phase = phase

    def listed(self, total: int) -> None:
        """Tell how many files there are."""
        with self._lock:
            self._total = total
        self._listed.set(total)

    def file(self, *, refused: bool) -> tuple[Progress, Progress]:
        """Count a file; return where the build was and is."""
        self._files.labels("refused" if refused else "read").inc()
        with self._lock:
            before = Progress(done=self._done, total=self._total)
            self._done += 1
            return before, Progress(done=self._done, total=self._total)

    def passages(self, *, embedded: int, reused: int) -> None:
        """Count passages."""
        self._passages.labels("embedded").inc(embedded)
        self._passages.labels("reused").inc(reused)
        with self._lock:
            self._embedded += embedded
            self._reused += reused

    def document(self) -> bytes:
        """Return the state as JSON."""
        with self._lock:
            reading = self._phase is Phase.LISTING
            now = Progress(done=self._done, total=self._total)
            state = {
                "percent": 0 if reading else now.percent,
                "phase": self._phase,
                "files": self._done,
                "total": self._total,
                "embedded": self._embedded,
                "reused": self._reused,
            }
        return json.dumps(state).encode()


@contextmanager
def served(progress: BuildProgress, port: int) -> Iterator[int]:
    """Serve `/progress` and `/metrics` on all addresses inside the block; port 0 serves nothing."""
    if port == 0:
        yield 0
        return
    server = _Server(("0.0.0.0", port), _Handler)  # noqa: S104 - the operator asks the pod's address
    server.set_app(_application(progress))
    thread = threading.Thread(target=lambda: server.serve_forever(POLL_SECONDS), name="progress", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _application(progress: BuildProgress) -> "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]":
    def application(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            body = generate_latest(progress.registry)
            start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST), ("Content-Length", str(len(body)))])
            return [body]
        if path != "/progress":
            start("404 Not Found", [("Content-Length", "0")])
            return []
        body = progress.document()
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return application


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event of the build."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Stay silent: who asks how far it is, asks often."""
