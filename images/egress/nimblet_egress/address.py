# SPDX-License-Identifier: Apache-2.0
"""Which hosts and addresses the loader may talk to. Pure: names are resolved elsewhere.

The table is our own, so that a promise does not change with a Python version's idea of "global".
Sources: the IANA IPv4 and IPv6 special-purpose address registries.
"""

from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from nimblet_egress.policy import AllowRule

Address = IPv4Address | IPv6Address


class Scope(Enum):
    """What kind of place an address is."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOCAL = "local"
    """Loopback, link-local (metadata services) and special ranges: only an explicit cidr opens them."""
    NEVER = "never"
    """Unspecified, multicast, broadcast, reserved: no rule opens them."""


_V4: tuple[tuple[IPv4Network, Scope], ...] = tuple(
    (IPv4Network(text), scope)
    for text, scope in (
        ("0.0.0.0/8", Scope.NEVER),
        ("10.0.0.0/8", Scope.PRIVATE),
        ("100.64.0.0/10", Scope.PRIVATE),
        ("127.0.0.0/8", Scope.LOCAL),
        ("169.254.0.0/16", Scope.LOCAL),
        ("172.16.0.0/12", Scope.PRIVATE),
        ("192.0.0.0/24", Scope.LOCAL),
        ("192.0.2.0/24", Scope.LOCAL),
        ("192.88.99.0/24", Scope.LOCAL),
        ("192.168.0.0/16", Scope.PRIVATE),
        ("198.18.0.0/15", Scope.LOCAL),
        ("198.51.100.0/24", Scope.LOCAL),
        ("203.0.113.0/24", Scope.LOCAL),
        ("224.0.0.0/4", Scope.NEVER),
        ("240.0.0.0/4", Scope.NEVER),
    )
)
_V6: tuple[tuple[IPv6Network, Scope], ...] = tuple(
    (IPv6Network(text), scope)
    for text, scope in (
        ("::/128", Scope.NEVER),
        ("ff00::/8", Scope.NEVER),
        ("fc00::/7", Scope.PRIVATE),
        ("2001::/23", Scope.LOCAL),
        ("2001:db8::/32", Scope.LOCAL),
        ("2002::/16", Scope.LOCAL),
        ("3fff::/20", Scope.LOCAL),
        ("2000::/3", Scope.PUBLIC),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def matching_rules(rules: Sequence[AllowRule], host: str) -> tuple[AllowRule, ...]:
    """Return the rules that name `host` (lower case, no trailing dot)."""
    return tuple(rule for rule in rules if host_matches(rule.host, host))


def host_matches(pattern: str, host: str) -> bool:
    """Match an exact host or `*.suffix`, which means one label or more before the suffix."""
    pattern = pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def scope_of(address: Address) -> Scope:
    """Classify an address; IPv4 inside IPv6 (mapped, NAT64) is judged as the IPv4 that it reaches."""
    plain = unwrapped(address)
    if isinstance(plain, IPv4Address):
        return next((scope for network, scope in _V4 if plain in network), Scope.PUBLIC)
    return next((scope for network, scope in _V6 if plain in network), Scope.LOCAL)


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address that a mapped or NAT64 one leads to, else the address without a zone."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return IPv6Address(int(address))


def permitted(rules: Sequence[AllowRule], address: Address) -> bool:
    """Tell whether any of the rules that named the host lets it be at this address."""
    scope = scope_of(address)
    if scope is Scope.NEVER:
        return False
    return any(_opens(rule, unwrapped(address), scope) for rule in rules)


def _opens(rule: AllowRule, address: Address, scope: Scope) -> bool:
    if rule.cidr is not None:
        network = ip_network(rule.cidr)
        return address.version == network.version and address in network
    return scope is Scope.PUBLIC or (scope is Scope.PRIVATE and rule.allow_private)


def bypasses_proxy(no_proxy: Sequence[str], host: str) -> bool:
    """Tell whether `host` is in a no-proxy list of hosts, `.suffix`, `*.suffix`, CIDRs (for literals) or `*`."""
    return any(_no_proxy_matches(entry.strip().lower(), host) for entry in no_proxy)


def _no_proxy_matches(entry: str, host: str) -> bool:
    if entry in ("*", host):
        return True
    suffix = entry.removeprefix("*")
    if suffix.startswith(".") and host.endswith(suffix):
        return True
    if "/" not in entry:
        return False
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False
