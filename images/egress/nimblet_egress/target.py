# SPDX-License-Identifier: Apache-2.0
"""A URL taken apart and normalised before anything is asked of it. Pure."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

from nimblet_egress.errors import Reason, SourceError, quoted

_HOST = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,252})$")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """An http or https URL: lower-case ASCII host (IPv6 without brackets), explicit port, path with query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Return what the Host header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the whole URL, with its query."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def shown(self) -> str:
        """Return the URL for messages: without its query, which may hold a signature."""
        return self.url.partition("?")[0]

    def same_place(self, other: "Target") -> bool:
        """Tell whether both are the same scheme, host and port."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)


def parse_target(url: str) -> Target:
    """Take a URL apart, or raise SourceError ConfigInvalid saying what is wrong with it."""
    if any(character <= " " or character == "\x7f" for character in url):
        raise _invalid(url, "it holds blanks or control characters")  # urlsplit would drop some silently
    try:
        parts = urlsplit(url)
        port = parts.port
        host = _host(parts.hostname or "")
        path = (parts.path or "/").encode("ascii").decode()
        query = parts.query.encode("ascii").decode()
    except (ValueError, UnicodeError) as error:
        raise _invalid(url, "it can't be taken apart, or names no proper host") from error
    if parts.scheme not in _PORTS:
        raise _invalid(url, "its scheme is neither https nor http")
    if "@" in parts.netloc:
        raise _invalid(url, "it holds credentials; put them into a Secret")
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], f"{path}?{query}" if query else path)


def redirect_target(base: Target, location: str) -> Target:
    """Resolve a Location header against the URL that gave it."""
    try:
        return parse_target(urljoin(base.url, location))
    except SourceError as error:
        raise SourceError(
            Reason.RedirectRefused, f"{base.shown} redirects to an unusable address: {error.message}"
        ) from error


def _host(host: str) -> str:
    host = host.rstrip(".").lower()
    if ":" in host:
        return str(ip_address(host.partition("%")[0]))
    ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    if not _HOST.match(ascii_host):
        raise ValueError("not a host name")
    return ascii_host


def _invalid(url: str, why: str) -> SourceError:
    shown = url.partition("?")[0].rpartition("@")[2]
    return SourceError(Reason.ConfigInvalid, f"Expected an https URL; {quoted(shown)} is none: {why}. Correct it.")
