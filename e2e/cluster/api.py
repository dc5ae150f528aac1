# SPDX-License-Identifier: Apache-2.0
"""A minimal client of the apiserver, so that the cluster program needs no Kubernetes library.

It knows nothing of kinds: paths in, JSON objects out. Tests of the product use the product's own client.
"""

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ApiError
from e2e.cluster.process import POLL_SECONDS

Manifest = Mapping[str, object]
"""A JSON object on its way to the apiserver."""
MANAGER = "nimblet-test-cluster"
ANSWER_SECONDS = 60.0
"""For an answer: a busy machine is no fault, and who is not there refuses at once."""


@dataclass(frozen=True)
class Endpoint:
    """Where the apiserver listens and how to prove who asks; the files are PEM."""

    host: str
    port: int
    authority: Path
    certificate: Path
    key: Path

    @property
    def url(self) -> str:
        """The https URL."""
        return f"https://{self.host}:{self.port}"


class Api:
    """Requests to one apiserver, a fresh connection each."""

    def __init__(self, endpoint: Endpoint, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
        self.endpoint = endpoint
        self._timeout = timeout_seconds
        self._context = ssl.create_default_context(cafile=str(endpoint.authority))
        self._context.load_cert_chain(endpoint.certificate, endpoint.key)

    def get(self, path: str) -> dict[str, object]:
        """Return the object at `path`; ApiError otherwise."""
        return self._object("GET", path, None)

    def create(self, path: str, manifest: Manifest) -> dict[str, object]:
        """Create an object in the collection at `path`."""
        return self._object("POST", path, manifest)

    def apply(self, path: str, manifest: Manifest, *, manager: str = MANAGER) -> dict[str, object]:
        """Server-side apply one object at `path`; takes every field over. Managers keep each other's fields."""
        return self._object("PATCH", f"{path}?fieldManager={manager}&force=true", manifest)

    def replace(self, path: str, manifest: Manifest) -> dict[str, object]:
        """Replace the object at `path`."""
        return self._object("PUT", path, manifest)

    def delete(self, path: str) -> dict[str, object]:
        """Delete the object at `path`."""
        return self._object("DELETE", path, None)

    def is_ready(self) -> bool:
        """Tell whether the apiserver says that it is ready."""
        try:
            status, _ = self._request("GET", "/readyz", None)
        except ApiError:
            return False
        return status == http.HTTPStatus.OK

    def wait_for(
        self, path: str, condition: Callable[[Manifest], bool], *, seconds: float, what: str
    ) -> dict[str, object]:
        """Return the object at `path` once `condition` holds for it; ApiError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            last: object
            try:
                found = self.get(path)
            except ApiError as error:
                last = error
            else:
                if condition(found):
                    return found
                last = json.dumps(field(found, "status"))[:2000]
            if time.monotonic() > deadline:
                message = f"expected {what} within {seconds:.0f} s at {path}; last seen: {last}"
                raise ApiError(message, status=0)
            time.sleep(POLL_SECONDS)

    def _object(self, method: str, path: str, manifest: Manifest | None) -> dict[str, object]:
        status, body = self._request(method, path, manifest)
        if status >= http.HTTPStatus.BAD_REQUEST:
            message = f"{method} {path}: expected success, the apiserver answered {status}: {body[:1000]!r}"
            raise ApiError(message, status=status)
        parsed: object = json.loads(body)
        if not isinstance(parsed, dict):
            message = f"{method} {path}: expected a JSON object, found {type(parsed).__name__}"
            raise ApiError(message, status=status)
        return parsed

    def _request(self, method: str, path: str, manifest: Manifest | None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self.endpoint.host, self.endpoint.port, timeout=self._timeout, context=self._context
        )
        # JSON is YAML, and apply-patch is the only patch used here
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        try:
            body = None if manifest is None else json.dumps(manifest)
            connection.request(method, path, body=body, headers={"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            message = f"{method} {self.endpoint.url}{path}: no answer ({error}); is the apiserver running?"
            raise ApiError(message, status=0) from error
        finally:
            connection.close()


def field(value: object, *path: str) -> object | None:
    """Return what stands at `path` in nested objects, None where it ends early."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def items(value: object, *path: str) -> list[object]:
    """Return the list that stands at `path`, an empty one where there is none."""
    found = field(value, *path)
    return found if isinstance(found, list) else []


def has_condition(manifest: Manifest, kind: str) -> bool:
    """Tell whether the status holds the condition `kind` as True."""
    return any(
        field(each, "type") == kind and field(each, "status") == "True"
        for each in items(manifest, "status", "conditions")
    )
