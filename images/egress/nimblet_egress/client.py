# SPDX-License-Identifier: Apache-2.0
"""Sends requests under the policy: allowed hosts, checked addresses, bounded redirects, timeouts.

Transport failures become LoaderErrors here; what a status means is the caller's to say. It must not retry.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlencode, urlsplit

import httpcore

from nimblet_egress.address import bypasses_proxy
from nimblet_egress.credentials import Credentials
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.network import (
    CheckedBackend,
    Resolve,
    require_allowed,
    system_resolve,
    tls_context,
)
from nimblet_egress.policy import AllowRule, EgressPolicy
from nimblet_egress.stream import BulkStream
from nimblet_egress.target import Target, parse_target, redirect_target

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_RETRY_AFTER = 300.0
_TEXT_SECONDS = 300.0
"""Of an answer that is read whole: a listing, a manifest, a sitemap."""


Sign = Callable[[Target], Mapping[str, str]]
"""Makes the authorization headers of one request; it must give none to a host that may not see the credential."""


@dataclass(frozen=True)
class _Ask:
    """What is sent besides the address."""

    method: str
    headers: Mapping[str, str]
    sign: Sign
    content: bytes = b""


@dataclass(frozen=True)
class Hop:
    """One response's status and headers (lower-case names, first value wins)."""

    target: Target
    status: int
    headers: Mapping[str, str]
    authorized: bool
    """Whether a credential was sent."""


class Answer:
    """A final response with the hops that led to it; its body may be read once, inside the request's block."""

    def __init__(self, hops: tuple[Hop, ...], response: httpcore.Response, stall: float) -> None:
        self.hops = hops
        self._response = response
        self._stall = stall

    @property
    def last(self) -> Hop:
        """Return the final response's own hop."""
        return self.hops[-1]

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes; SourceError when it stalls or breaks off."""
        with translated(self.last.target, self._stall):
            yield from self._response.iter_stream()

    def bulk(self) -> Iterator[bytes]:
        """Yield the body as `chunks` does, but in large pieces where its length is told."""
        stream = self._response.extensions.get("network_stream")
        length = self.last.headers.get("content-length", "")
        chunked = "transfer-encoding" in self.last.headers
        if chunked or not length.isdecimal() or not isinstance(stream, BulkStream) or not stream.at_body:
            yield from self.chunks()
            return
        with translated(self.last.target, self._stall):
            yield from stream.bulk(int(length), self._stall)

    def text(self, limit: int, *, now: Callable[[], float] = time.monotonic) -> bytes:
        """Return the whole body; SourceError if it is longer than `limit` bytes, or takes longer than it may.

        No byte need stall for that: a source could give one a minute, for ever.
        """
        until, body = now() + _TEXT_SECONDS, bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise SourceError(
                    Reason.UnexpectedResponse,
                    f"Expected an answer of at most {limit} bytes from {self.last.target.shown}; it is longer.",
                )
            if now() > until:
                raise SourceError(
                    Reason.DownloadStalled,
                    f"Expected the whole answer of {self.last.target.shown} within {_TEXT_SECONDS:g} s; it is too "
                    "slow. It is tried again; if it goes on, check the source and the network.",
                )
        return bytes(body)

    def first(self, name: str) -> str | None:
        """Return a header from the first hop that has it: hubs put theirs on the redirect."""
        return next((hop.headers[name] for hop in self.hops if name in hop.headers), None)

    def retry_after(self) -> float | None:
        """Return the seconds of a Retry-After header, bounded; None if it has none in seconds."""
        value = self.last.headers.get("retry-after", "")
        return min(float(value), _MAX_RETRY_AFTER) if value.isdecimal() else None


class Client:
    """Holds connections for one run. `resolve` is how names become addresses."""

    def __init__(
        self, policy: EgressPolicy, credentials: Credentials, *, resolve: Resolve = system_resolve
    ) -> None:
        self.credentials = credentials
        self._policy = policy
        self._rules = policy.rules()
        self._resolve = resolve
        self._lock = threading.Lock()
        self._pools: dict[tuple[tuple[AllowRule, ...], str | None], httpcore.ConnectionPool] = {}

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, sign: Sign | None = None
    ) -> Iterator[Answer]:
        """GET `url`, following redirects; the body may be read inside the block. `sign` replaces the token."""
        with self._ask(url, _Ask("GET", headers or {}, sign or self.credentials.headers_for)) as answer:
            yield answer

    @contextmanager
    def head(self, url: str, headers: Mapping[str, str], *, sign: Sign) -> Iterator[Answer]:
        """Ask for the headers that a GET of `url` would have."""
        with self._ask(url, _Ask("HEAD", headers, sign)) as answer:
            yield answer

    @contextmanager
    def post(self, url: str, form: Mapping[str, str]) -> Iterator[Answer]:
        """Send a form without any credential of the Secret; a redirect is an answer like any other."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with self._ask(url, _Ask("POST", headers, lambda _: {}, urlencode(form).encode())) as answer:
            yield answer

    @contextmanager
    def send(self, url: str, content: bytes, headers: Mapping[str, str], *, sign: Sign) -> Iterator[Answer]:
        """POST bytes; a redirect is an answer like any other."""
        with self._ask(url, _Ask("POST", headers, sign, content)) as answer:
            yield answer

    @contextmanager
    def _ask(self, url: str, ask: _Ask) -> Iterator[Answer]:
        target, hops, follow = parse_target(url), list[Hop](), True
        while follow:
            with self._send(target, hops, ask) as response:
                hop = hops[-1]
                follow = hop.status in _REDIRECTS and ask.method != "POST"
                if not follow:
                    self._refuse_encoding(hop)
                    yield Answer(tuple(hops), response, self._policy.stall_timeout_seconds)
                    return
            target = self._redirected(hops)

    @contextmanager
    def _send(self, target: Target, hops: list[Hop], ask: _Ask) -> Iterator[httpcore.Response]:
        rules = self._allowed(target, redirected=bool(hops))
        # A credential goes with the first request, and with redirects only while they stay at that place.
        stayed = all(hop.target.same_place(target) for hop in hops)
        authorization = ask.sign(target) if stayed else {}
        fields = {
            "Host": target.authority,
            "User-Agent": self._policy.user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **ask.headers,
            **authorization,
        }
        stall, connect = self._policy.stall_timeout_seconds, self._policy.connect_timeout_seconds
        with translated(target, stall, redirected=bool(hops)):
            stream = self._pool(target, rules).stream(
                ask.method,
                target.url,
                headers=list(fields.items()),
                content=ask.content or None,
                extensions={"timeout": {"connect": connect, "pool": connect, "read": stall, "write": stall}},
            )
            response = stream.__enter__()
        try:
            hops.append(Hop(target, response.status, _fields(response), bool(authorization)))
            yield response
        finally:
            stream.__exit__(None, None, None)

    def _allowed(self, target: Target, *, redirected: bool) -> tuple[AllowRule, ...]:
        try:
            return require_allowed(self._rules, target)
        except SourceError as error:
            raise _as_redirect(error) if redirected else error from error

    def _redirected(self, hops: list[Hop]) -> Target:
        last = hops[-1]
        location = last.headers.get("location")
        if location is None:
            raise SourceError(
                Reason.UnexpectedResponse,
                f"Expected a Location with status {last.status} of {last.target.shown}; it has none. "
                "Check the source, or a proxy before it.",
            )
        if len(hops) > self._policy.max_redirects:
            raise SourceError(
                Reason.RedirectRefused,
                f"Expected at most {self._policy.max_redirects} redirects from {hops[0].target.shown}; there are "
                "more. Use the final address as the source.",
            )
        target = redirect_target(last.target, location)
        if last.target.scheme == "https" and target.scheme != "https":
            raise SourceError(
                Reason.RedirectRefused,
                f"{last.target.shown} redirects from https to plain http at {quoted(target.host)}: refused. "
                "Use a source that stays on https.",
            )
        return target

    def _refuse_encoding(self, hop: Hop) -> None:
        encoding = hop.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise SourceError(
                Reason.UnexpectedResponse,
                f"Expected {hop.target.shown} to send plain bytes as asked; it sent them as {quoted(encoding)}. "
                "Check the source, or a proxy before it.",
            )

    def _pool(self, target: Target, rules: tuple[AllowRule, ...]) -> httpcore.ConnectionPool:
        with self._lock:  # several threads may ask
            return self._pool_of(rules, self._proxy_for(target))

    def _pool_of(self, rules: tuple[AllowRule, ...], proxy: str | None) -> httpcore.ConnectionPool:
        key = (rules, proxy)
        if key not in self._pools:
            context = tls_context(self._policy, next((rule.ca for rule in rules if rule.ca), None))
            if proxy is None:
                backend = CheckedBackend(rules, self._resolve)
                self._pools[key] = httpcore.ConnectionPool(ssl_context=context, network_backend=backend)
            else:
                parts = urlsplit(proxy)
                login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
                self._pools[key] = httpcore.HTTPProxy(
                    parse_target(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()).url,
                    proxy_auth=login,
                    ssl_context=context,
                    proxy_ssl_context=tls_context(self._policy, None) if parts.scheme == "https" else None,
                    network_backend=CheckedBackend(None, self._resolve),
                )
        return self._pools[key]

    def _proxy_for(self, target: Target) -> str | None:
        proxy = self._policy.proxy
        if proxy is None or bypasses_proxy(proxy.no_proxy, target.host):
            return None
        return proxy.https if target.scheme == "https" else proxy.http


@contextmanager
def translated(target: Target, stall: float, *, redirected: bool = False) -> Iterator[None]:
    """Turn the transport's exceptions about `target` into LoaderErrors."""
    try:
        yield
    except SourceError as error:
        raise _as_redirect(error) if redirected and error.reason is Reason.HostNotAllowed else error from error
    except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
        raise SourceError(
            Reason.DownloadStalled,
            f"Expected bytes from {target.shown} within {stall:g} s; none came. It is tried again; "
            "if it goes on, check the source and the network.",
        ) from error
    except (httpcore.ConnectTimeout, httpcore.ConnectError, httpcore.ProxyError, httpcore.PoolTimeout) as error:
        raise SourceError(
            Reason.SourceUnavailable,
            f"Expected a connection to {quoted(target.authority)}; it failed: {quoted(str(error))}. "
            "Check the host name, its certificate, DNS, proxy and network policies.",
        ) from error
    except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError) as error:
        raise SourceError(
            Reason.DownloadTruncated,
            f"Expected a complete answer from {target.shown}; the connection broke off "
            f"({quoted(str(error), limit=100)}). It is tried again.",
        ) from error


def _as_redirect(error: SourceError) -> SourceError:
    return SourceError(Reason.RedirectRefused, f"The source redirects to a refused place. {error.message}")


def _fields(response: httpcore.Response) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers:
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found
