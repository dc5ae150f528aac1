# SPDX-License-Identifier: Apache-2.0
"""One connection to the API server: log-in, a time limit on every request, errors in our own words.

Knows no verbs of Kubernetes and no kinds (client.py does) and never tries a request twice: who asks decides.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from yaml import YAMLError

from nimblet.cluster.errors import ApiError, NotConfigured, Transient, error_of

Json = dict[str, Any]
"""An object as the API server sends it."""

APPLY_PATCH: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Objects without what they hold: https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches."""
USER_AGENT: Final = "nimblet-operator"
READ_BYTES: Final = 2**20
"""Buffer of an answer: a page of a list comes in few pieces."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Seconds. The client library has no limits of its own; a half-open connection would hang for ever."""

    connect: float = 5.0
    total: float = 30.0
    """A read with its body: a page of 500 large objects on a busy server."""
    write: float = 8.0
    """A write; below the lease's 15 s less one renewal period, so that a healthy leader never waits for it."""

    def of(self, method: str) -> float:
        """Return the limit of one request."""
        return self.total if method == "GET" else min(self.write, self.total)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request; `body` is sent as JSON, which is YAML too. `urgent` ones ignore a server's pause."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: Mapping[str, object] | None = None
    content_type: str = JSON
    accept: str = JSON
    urgent: bool = False


class Transport:
    """Sends requests. After a 429 with Retry-After nothing but urgent requests leaves until the time is over.

    The client library owns configuration, log-in and TLS; the requests are our own. Its way walks each body many
    times and reads the environment's proxies and ~/.netrc in a thread each time: most of a request's cost.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._configuration = configuration
        self._host = configuration.host.rstrip("/")
        self._proxy = configuration.proxy or proxy_of(self._host)
        self._tls = ApiClient(configuration).rest_client.ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._clock = clock
        self._paused_until = 0.0

    async def send(self, request: Request) -> Json:
        """Return the answer's object. ApiError (its subclasses) for everything else."""
        label = f"{request.method} {request.path}"
        wait = self._paused_until - self._clock()
        if wait > 0 and not request.urgent:
            raise Transient(f"{label}: the API server asked for {wait:.1f} s of silence", retry_after=wait)
        status, headers, body = await self._exchange(request, label)
        if status >= HTTPStatus.BAD_REQUEST:
            error = error_of(status=status, body=body, retry_after=headers.get("Retry-After"), request=label)
            self._pause_after(error)
            raise error
        return _object_of(body, label)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, request: Request, label: str) -> tuple[int, Mapping[str, str], bytes]:
        limit = self.timeouts.of(request.method)
        url = f"{self._host}{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")
        headers = {"Accept": request.accept, "User-Agent": USER_AGENT}
        body = None
        if request.body is not None:
            headers["Content-Type"] = request.content_type
            body = json.dumps(request.body, separators=(",", ":"), ensure_ascii=False).encode()
        try:
            async with asyncio.timeout(limit):  # covers the log-in too, where the session's own limit doesn't
                authorization = await self._configuration.get_api_key_with_prefix("BearerToken")
                if authorization:
                    headers["Authorization"] = authorization
                async with self._opened().request(
                    request.method,
                    url,
                    headers=headers,
                    data=body,
                    proxy=self._proxy,
                    proxy_headers=self._configuration.proxy_headers,
                    server_hostname=self._configuration.tls_server_name or None,
                    timeout=aiohttp.ClientTimeout(total=limit, connect=self.timeouts.connect),
                    allow_redirects=False,
                ) as response:
                    return response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise Transient(f"{label}: no answer within {limit:g} s; is the API server reachable?") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"{label}: {type(error).__name__}: {error}") from error

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session, made with the first request: it belongs to the loop that runs then."""
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=self._configuration.connection_pool_maxsize)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=READ_BYTES)
        return self._session

    def _pause_after(self, error: ApiError) -> None:
        throttled = error.status == HTTPStatus.TOO_MANY_REQUESTS
        if throttled and error.retry_after is not None:
            self._paused_until = max(self._paused_until, self._clock() + error.retry_after)


def proxy_of(host: str) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, NO_PROXY) names for a host's URL, or None."""
    parts = urlsplit(host)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _object_of(body: bytes, label: str) -> Json:
    try:
        parsed: object = json.loads(body)
    except ValueError as error:
        raise Transient(f"{label}: expected JSON, found {body[:100]!r}; a proxy in between?") from error
    if not isinstance(parsed, dict):
        raise ApiError(f"{label}: expected a JSON object, found {type(parsed).__name__}")
    return parsed


async def load_configuration(kubeconfig: Path | None = None, *, context: str | None = None) -> Configuration:
    """Return where to connect: a kubeconfig's file, else the pod's own service account. NotConfigured if neither.

    The service account's token file is read again once a minute, as the library does it.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # as above
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]  # as above
                config_file=str(kubeconfig),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (config.ConfigException, OSError, KeyError, TypeError, ValueError, YAMLError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig is not None else "service account of a pod"
        raise NotConfigured(
            f"expected a usable {where}, found: {error}; set KUBECONFIG or give --kubeconfig FILE"
        ) from error
    return configuration
