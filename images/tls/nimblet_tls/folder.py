# SPDX-License-Identifier: Apache-2.0
"""The mounted folder with `tls.crt`, `tls.key` and `ca.crt`, as contexts that follow its changes.

A kubelet replaces a mounted Secret as a whole. Another certificate is shown from the next connection on; those
that are open go on with the one that they began with, so that no request fails by a rotation. A folder that can't
be read leaves what was read last.
"""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final, Never

from nimblet_tls.stamp import Stamp, stamp_of

CERTIFICATE_FILE: Final = "tls.crt"
KEY_FILE: Final = "tls.key"
AUTHORITIES_FILE: Final = "ca.crt"
LOOK_SECONDS: Final = 5.0
"""Between two looks at the folder; the kubelet brings a changed one within about two minutes."""

log = logging.getLogger(__name__)
State = tuple[Stamp | None, ...]


class TLSError(Exception):
    """The folder holds no certificate and key, or no authorities; the message says which file."""


class TLSFolder:
    """Contexts that follow a folder. Call `look` now and then, or run `watch`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: State = ()
        self._shown: ssl.SSLContext | None = None
        self._servers: list[ssl.SSLContext] = []
        self._clients: list[ssl.SSLContext] = []

    def server(self) -> ssl.SSLContext:
        """Return a context to serve with. TLSError where the folder does not allow it."""
        self._seen = self._state()
        self._shown = self._loaded()
        outer = self._loaded()
        outer.sni_callback = self._choose
        self._servers.append(outer)
        return outer

    def client(self, context: ssl.SSLContext | None = None) -> ssl.SSLContext:
        """Return a context that trusts the folder's authorities, and those of `context` where one is given."""
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if context is None else context
        self._trust(trusting)
        self._clients.append(trusting)
        return trusting

    def look(self) -> bool:
        """Take up what has changed; tell whether anything was."""
        state = self._state()
        if state == self._seen:
            return False
        try:
            shown = self._loaded() if self._servers else None
            for context in self._clients:
                self._trust(context)
        except TLSError as error:
            log.warning("%s; what was read before stays in use", error)
            return False
        self._shown, self._seen = shown, state
        log.info("took up the certificates of %s", self._path)
        return True

    async def watch(self, seconds: float = LOOK_SECONDS) -> Never:
        """Look for ever."""
        while True:
            await asyncio.sleep(seconds)
            self.look()

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        """Show the latest certificate to a new connection; called by OpenSSL whether or not it names a host."""
        del name, context
        if self._shown is not None:
            connection.context = self._shown
        return None

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._path / CERTIFICATE_FILE, self._path / KEY_FILE)
        except (OSError, ssl.SSLError) as error:
            raise TLSError(
                f"expected a certificate and its key in {CERTIFICATE_FILE} and {KEY_FILE} of {self._path}, "
                f"found none ({type(error).__name__})"
            ) from error
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        """Trust the authorities too; one that is gone from the file ends by its own date."""
        try:
            context.load_verify_locations(self._path / AUTHORITIES_FILE)
        except (OSError, ssl.SSLError) as error:
            raise TLSError(
                f"expected certificates of authorities in {self._path / AUTHORITIES_FILE}, "
                f"found none ({type(error).__name__})"
            ) from error

    def _state(self) -> State:
        return tuple(stamp_of(self._path / name) for name in (CERTIFICATE_FILE, KEY_FILE, AUTHORITIES_FILE))
