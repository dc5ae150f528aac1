# SPDX-License-Identifier: Apache-2.0
"""The admin's client, kept cheap: one connection a thread instead of one a request, and patient polls.

Several runs poll at the same time; handshakes would take the processors that the operators need. Only for tests.
"""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from e2e.cluster.api import Api, Endpoint, Manifest
from e2e.cluster.errors import ApiError

POLL_SECONDS: Final = 0.25


class SteadyApi(Api):
    """As Api, over connections that stay open."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._tls = ssl.create_default_context(cafile=str(endpoint.authority))
        self._tls.load_cert_chain(endpoint.certificate, endpoint.key)
        self._local = threading.local()

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _request(self, method: str, path: str, manifest: Manifest | None) -> tuple[int, bytes]:
        reused = getattr(self._local, "connection", None) is not None
        try:
            return self._ask(method, path, manifest)
        except ApiError:
            if method != "GET" or not reused:
                raise
        # the server closes connections that were idle for long
        return self._ask(method, path, manifest)

    def _ask(self, method: str, path: str, manifest: Manifest | None) -> tuple[int, bytes]:
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        body = None if manifest is None else json.dumps(manifest)
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPSConnection(
                self.endpoint.host, self.endpoint.port, timeout=self._timeout, context=self._tls
            )
        try:
            connection.request(method, path, body=body, headers={"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ApiError(f"{method} {self.endpoint.url}{path}: no answer ({error})", status=0) from error


def eventually(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return once `condition` holds; AssertionError names `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"expected {what} within {seconds:g} s"
        time.sleep(POLL_SECONDS)
