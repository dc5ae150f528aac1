# SPDX-License-Identifier: Apache-2.0
"""By whom the operator verifies pods that speak TLS: by the installation's own authority, or by their namespace's.

An issuer may be one of the namespace, and who rules there could have it sign any name: what it signs counts for
pods of that namespace alone. An authority that is trusted once stays so until its own end: pods show an older
certificate for as long as a kubelet takes to bring the new one. Those that were not seen for longest go where a
namespace has more than anybody needs: who may write its Secrets could replace them without end.
"""

import ssl
from dataclasses import dataclass, field
from typing import Final

from nimblet.cluster.pki import text_hash

MOST_BYTES: Final = 2**20
"""Of the authorities of one namespace, as PEM: a thousand of the usual size."""


@dataclass(kw_only=True)
class _Known:
    context: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    seen: dict[str, str] = field(default_factory=dict)
    """PEM by its hash, what was seen last at the end."""

    def add(self, hash_: str, authorities: str) -> None:
        self.context.load_verify_locations(cadata=authorities)
        self.seen[hash_] = authorities
        if sum(map(len, self.seen.values())) > MOST_BYTES:
            self._forget()

    def _forget(self) -> None:
        """Let the oldest go, to half of what is held at most; the newest stays whatever its size."""
        kept: dict[str, str] = {}
        left = MOST_BYTES // 2
        for hash_, text in reversed(self.seen.items()):
            left -= len(text)
            if kept and left < 0:
                break
            kept[hash_] = text
        self.seen = dict(reversed(kept.items()))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for text in self.seen.values():
            self.context.load_verify_locations(cadata=text)


@dataclass(kw_only=True)
class Trust:
    """Contexts for connections to pods. Without any authority nobody is believed."""

    everywhere: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    """For pods of namespaces that no authority is known of."""
    _namespaces: dict[str, _Known] = field(default_factory=dict)

    def of(self, host: str) -> ssl.SSLContext | None:
        """Return what a pod behind the Service of this name is verified by; None for plain HTTP."""
        if not host:
            return None
        _, _, rest = host.partition(".")
        known = self._namespaces.get(rest.partition(".")[0])
        return known.context if known is not None else self.everywhere

    def learn(self, namespace: str, authorities: str) -> None:
        """Trust authorities, as PEM, for the pods of a namespace. ssl.SSLError where they are none."""
        known, hash_ = self._namespaces.get(namespace) or _Known(), text_hash(authorities)
        if hash_ in known.seen:
            known.seen[hash_] = known.seen.pop(hash_)
            return
        known.add(hash_, authorities)
        self._namespaces[namespace] = known
