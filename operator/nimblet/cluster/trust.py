# SPDX-License-Identifier: Apache-2.0
"""By whom the operator verifies pods that speak TLS: by the installation's own authority, or by their namespace's.

An issuer may be one of the namespace, and who rules there could have it sign any name: what it signs counts for
pods of that namespace alone. An authority that is trusted once stays so until its own end: pods show an older
certificate for as long as a kubelet takes to bring the new one.
"""

import ssl
from dataclasses import dataclass, field

from nimblet.cluster.pki import text_hash


@dataclass(kw_only=True)
class _Known:
    context: ssl.SSLContext
    seen: set[str] = field(default_factory=set)


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
        known, hash_ = self._namespaces.get(namespace), text_hash(authorities)
        if known is not None and hash_ in known.seen:
            return
        known = known or _Known(context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        known.context.load_verify_locations(cadata=authorities)
        known.seen.add(hash_)
        self._namespaces[namespace] = known
