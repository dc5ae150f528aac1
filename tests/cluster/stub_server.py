# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that answers as model servers, gateways and retrievers do. Only for tests."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GATEWAY_STATUS: Mapping[str, object] = {
    "configuration": "stub",
    "selfTest": {"ok": True, "reason": "Ok", "message": "", "passages": 1, "tokens": 1},
    "indexes": [],
    "model": {"ok": True, "reason": "Ok", "message": ""},
}
"""What a gateway tells that found a passage and got a token."""
RETRIEVER_STATUS: Mapping[str, object] = {
    "index": "stub",
    "serving": None,
    "generations": [],
    "embedding": {"ok": True},
    "store": {"ok": True, "full": False},
}
"""What a retriever tells that nothing was built into."""
TOKEN = {"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 1}}


@dataclass
class Stub:
    """A server that answers every question with one token while `healthy`, and as a gateway with its status."""

    url: str = ""
    healthy: bool = True
    keys: set[str] = field(default_factory=set)
    gateway: Mapping[str, object] = field(default_factory=lambda: GATEWAY_STATUS)
    retriever: Mapping[str, object] = field(default_factory=lambda: RETRIEVER_STATUS)
    orders: list[str] = field(default_factory=list)
    """Generations that the retriever was told to serve."""
    questions: int = 0
    """How often a gateway or a retriever was asked for its status."""

    def told_by_retriever(self) -> Mapping[str, object]:
        """Return what a retriever tells that is asked now."""
        return self.retriever

    def serve(self, generation: str) -> None:
        """Have the retriever serve what it is told to."""
        self.orders.append(generation)
        self.retriever = {**self.retriever, "serving": generation}


class _Server(ThreadingHTTPServer):
    """Takes many at once, and one that hangs up as what it is: an operator was killed or asked no longer."""

    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of errors, but not of a client that is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def stub_server(given: Stub | None = None) -> Iterator[Stub]:
    """Serve a Stub on loopback."""
    stub = given if given is not None else Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200 if stub.healthy else 500, TOKEN)

        def do_GET(self) -> None:
            """Answer what is asked of a gateway's or a retriever's pod; nobody else here is asked so."""
            parts = {"-gateway-": lambda: stub.gateway, "-retriever-": stub.told_by_retriever}
            told = next((status for part, status in parts.items() if part in self.path), None)
            known = told is not None and self.path.endswith("/v1/status")
            stub.questions += known
            self._answer(200 if known else 404, told() if known and told is not None else {})

        def do_PUT(self) -> None:
            """Serve the generation that a retriever is told to serve."""
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.serve(order["generation"])
            self._answer(200, {})

        def _answer(self, status: int, document: Mapping[str, object]) -> None:
            if key := self.headers.get("Authorization"):
                stub.keys.add(key)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep the tests' output quiet."""

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
