# SPDX-License-Identifier: Apache-2.0
"""The installation's own certificate authority: a Secret in the operator's namespace, made once, renewed in time.

A new authority is trusted for a while before it signs, so that no server shows a certificate whose issuer a client
does not know yet; the old one stays trusted until it ends. Whoever reads the Secret can pretend to be any of our
servers. Nothing else ever writes it.
"""

import base64
import binascii
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from nimblet.cluster.client import Client, Json
from nimblet.cluster.errors import Conflict, Transient
from nimblet.cluster.pki import Authority, BadCertificateError, authority_facts, bundle_of, check, make_authority
from nimblet.cluster.resources import SECRET
from nimblet.labels import MANAGED_BY, MANAGED_BY_VALUE
from nimblet.plan.transportfacts import AuthorityFacts
from nimblet.settings import TLS

CA_SECRET: Final = "nimblet-ca"  # noqa: S105 - a name, not a secret
ENTRY: Final = "authorities.json"
BUNDLE_ENTRY: Final = "ca.crt"
"""What clients are to trust, for people and for the tools that copy it."""

log = logging.getLogger(__name__)


class AuthorityError(Exception):
    """The stored authority is unusable; only an administrator can say what becomes of it."""


class _Stored(BaseModel):
    """One authority as it lies in the Secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: str
    key: str


_LIST: Final = TypeAdapter(tuple[_Stored, ...])


def due(authorities: Sequence[Authority], now: datetime, tls: TLS) -> tuple[Authority, ...] | None:
    """Return the authorities that are still good where a new one must join them; None where all is well. Pure."""
    good = tuple(item for item in authorities if item.not_after > now)
    newest = max((item.made_at for item in good), default=None)
    if newest is not None and now < newest + timedelta(seconds=tls.authority_seconds * 2 / 3):
        return None
    return good


def signer(authorities: Sequence[Authority], now: datetime, tls: TLS) -> Authority:
    """Return who signs: the newest that clients had time to know, or the oldest of all. Pure."""
    known = [item for item in authorities if item.made_at + timedelta(seconds=tls.overlap_seconds) <= now]
    if known:
        return max(known, key=lambda item: item.made_at)
    return min(authorities, key=lambda item: item.made_at)


@dataclass(kw_only=True)
class Keeper:
    """Keeps the authorities in mind. `entropy` gives random bytes, as many as a new authority takes."""

    client: Client
    namespace: str
    tls: TLS
    entropy: Callable[[], bytes]
    now: Callable[[], datetime]
    authorities: tuple[Authority, ...] = field(default=(), repr=False)

    @property
    def bundle(self) -> str:
        """What clients are to trust, as PEM."""
        return bundle_of(self.authorities)

    @property
    def facts(self) -> AuthorityFacts:
        """What a judgement needs to know."""
        return authority_facts(self.authorities)

    def signer(self) -> Authority:
        """Return who signs now."""
        return signer(self.authorities, self.now(), self.tls)

    async def refresh(self) -> bool:
        """Read the Secret; make it where there is none, renew it where it is due. Tell whether anything is new.

        Two operators may call at once: one write wins, and both return the winner's. A Secret that was deleted
        while we knew it is put back: without it every certificate would be of an authority that nobody has.
        """
        before = self.authorities
        found = await self.client.get(SECRET, namespace=self.namespace, name=CA_SECRET)
        stored = self._parsed(found) if found is not None else self.authorities
        now = self.now()
        good = due(stored, now, self.tls)
        wanted = stored if good is None else (*good, self._new(now))
        if found is None or good is not None:
            wanted = await self._write(wanted, found)
        self.authorities = wanted
        return wanted != before

    def _new(self, now: datetime) -> Authority:
        return make_authority(entropy=self.entropy(), now=now, seconds=self.tls.authority_seconds)

    async def _write(self, wanted: tuple[Authority, ...], found: Json | None) -> tuple[Authority, ...]:
        manifest = _manifest(self.namespace, wanted)
        try:
            if found is None:
                await self.client.create(manifest)
            else:
                version = found["metadata"]["resourceVersion"]
                await self.client.replace(
                    {**manifest, "metadata": {**_metadata(self.namespace), "resourceVersion": version}}
                )
        except Conflict as error:
            return await self._winner(error)
        log.info("the certificate authority was %s", "made" if found is None else "renewed")
        return wanted

    async def _winner(self, lost: Conflict) -> tuple[Authority, ...]:
        found = await self.client.get(SECRET, namespace=self.namespace, name=CA_SECRET)
        if found is None:
            raise Transient(
                f"Secret {self.namespace}/{CA_SECRET} was deleted while it was made; try again"
            ) from lost
        return self._parsed(found)

    def _parsed(self, secret: Json) -> tuple[Authority, ...]:
        stored = (secret.get("data") or {}).get(ENTRY, "")
        try:
            items = _LIST.validate_json(base64.b64decode(stored, validate=True))
            found = tuple(Authority(certificate=item.certificate, key=item.key) for item in items)
            for item in found:
                check(item)
        except (ValidationError, BadCertificateError, binascii.Error) as error:
            raise AuthorityError(
                f"expected certificates and their keys under {ENTRY!r} in Secret {self.namespace}/{CA_SECRET}, "
                f"found something else ({type(error).__name__}); restore it from a backup, or delete it to have "
                "every certificate made anew"
            ) from None  # its words could quote a key
        return found


def _metadata(namespace: str) -> dict[str, object]:
    return {"name": CA_SECRET, "namespace": namespace, "labels": {MANAGED_BY: MANAGED_BY_VALUE}}


def _manifest(namespace: str, authorities: Sequence[Authority]) -> Json:
    listed = json.dumps([{"certificate": item.certificate, "key": item.key} for item in authorities])
    texts = {ENTRY: listed, BUNDLE_ENTRY: bundle_of(authorities)}
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": _metadata(namespace),
        "type": "Opaque",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()},
    }
