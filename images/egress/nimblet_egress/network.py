# SPDX-License-Identifier: Apache-2.0
"""Connects only to addresses that were checked: the loader's wall against server-side request forgery.

A name is resolved once per connection, every answer is judged, and the judged address itself is connected to,
so a name that changes its mind (rebinding) gains nothing. TLS still checks the name. It must not send requests.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

import certifi
import httpcore

from nimblet_egress.address import Address, Scope, matching_rules, permitted, scope_of
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.policy import AllowRule, EgressPolicy
from nimblet_egress.stream import BulkStream
from nimblet_egress.target import Target

Resolve = Callable[[str, int], Sequence[str]]
"""Name and port → addresses as text; OSError when there are none."""

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def system_resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def require_allowed(rules: Sequence[AllowRule], target: Target) -> tuple[AllowRule, ...]:
    """Return the rules that name the target's host and permit its scheme, or raise HostNotAllowed."""
    named = matching_rules(rules, target.host)
    if not named:
        raise SourceError(
            Reason.HostNotAllowed,
            f"Expected a host on the administrator's allow-list; {quoted(target.host)} is not on it. "
            "Use another source, or ask for the host to be allowed.",
        )
    fitting = tuple(rule for rule in named if target.scheme == "https" or rule.allow_http)
    if not fitting:
        raise SourceError(
            Reason.HostNotAllowed,
            f"Expected https for {quoted(target.host)}; the URL is plain http, which the allow-list does not "
            "permit for that host. Use https, or ask for allowHTTP.",
        )
    return fitting


def check_addresses(rules: Sequence[AllowRule], host: str, found: Sequence[str]) -> list[Address]:
    """Return the permitted ones of the addresses that `host` has, or raise HostNotAllowed."""
    addresses = [ip_address(text) for text in found]
    good = [address for address in addresses if permitted(rules, address)]
    if good:
        return good
    kinds = sorted({scope_of(address).value for address in addresses} - {Scope.PUBLIC.value}) or ["other"]
    raise SourceError(
        Reason.HostNotAllowed,
        f"Expected {quoted(host)} to have an address that the allow-list permits; it only has "
        f"{'/'.join(kinds)} addresses. Use another source, or ask for allowPrivate or a cidr for that host.",
    )


class CheckedBackend(httpcore.NetworkBackend):
    """Opens TCP connections to addresses that `rules` permit; the caller has matched them to the host.

    `rules` None is for a proxy's own address, which the administrator names: behind it only the host name
    can be judged, since the proxy resolves it.
    """

    def __init__(self, rules: Sequence[AllowRule] | None, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, judge, and connect to the first judged address that answers."""
        found = self._addresses(host, port, timeout)
        addresses: Sequence[Address] = (
            [ip_address(text) for text in found]
            if self._rules is None
            else check_addresses(self._rules, host, found)
        )
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
                return BulkStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, timeout: float | None) -> Sequence[str]:
        try:
            return [str(ip_address(host))]
        except ValueError:
            return _within(timeout, lambda: self._resolve(host, port), host)


def _within(timeout: float | None, ask: Callable[[], Sequence[str]], host: str) -> Sequence[str]:
    """Run a resolver that has no timeout of its own in a thread that may be left behind."""
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(ask())
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=work, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty as error:
        raise httpcore.ConnectTimeout(f"resolving {host} took longer than {timeout} s") from error
    if isinstance(answer, Exception):
        raise httpcore.ConnectError(f"{host} can't be resolved ({answer})") from answer
    return answer


def tls_context(policy: EgressPolicy, extra_ca: str | None) -> ssl.SSLContext:
    """Return TLS settings that trust the public roots, the policy's bundle and a rule's own authority."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for pem in (policy.ca_bundle, extra_ca):
        if pem:
            try:
                context.load_verify_locations(cadata=pem)
            except ssl.SSLError as error:
                raise SourceError(
                    Reason.ConfigInvalid,
                    "Expected the policy's certificate authority as PEM certificates; it can't be read. "
                    "Correct the administrator's CA value.",
                ) from error
    return context
