# SPDX-License-Identifier: Apache-2.0
"""The operator's master key, and what is derived from it: API keys and keyed hashes.

API keys are HMACs, so that rendering stays pure and no tenant's Secret is read. Whoever deletes the master key
changes every API key; it is therefore made once, immutable, and never by anything but get_master_key.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Final

from nimblet.cluster.client import Client, Json
from nimblet.cluster.errors import Conflict, Transient
from nimblet.cluster.resources import SECRET
from nimblet.labels import MANAGED_BY, MANAGED_BY_VALUE

SECRET_NAME: Final = "nimblet-master-key"  # noqa: S105 - a name, not a secret
DATA_KEY: Final = "key"
KEY_BYTES: Final = 32
"""Length of the master key: the block that HMAC-SHA256 gains from (RFC 2104: at least the hash's length)."""
API_KEY_PREFIX: Final = "nk-"
"""Lets secret scanners and people tell our keys."""


class MasterKeyError(Exception):
    """The stored master key is unusable; only an administrator can say which keys may change."""


async def get_master_key(client: Client, *, namespace: str, fresh: bytes) -> bytes:
    """Return the master key of the operator's namespace; `fresh` (32 random bytes) becomes it where there is none.

    Two operators may call at once: one creation wins and both return the winner's. Transient errors propagate, and
    calling again is safe: a creation whose answer was lost is found.
    """
    if len(fresh) != KEY_BYTES:
        raise ValueError(f"expected {KEY_BYTES} random bytes, found {len(fresh)}")
    found = await client.get(SECRET, namespace=namespace, name=SECRET_NAME)
    if found is None:
        try:
            found = await client.create(_secret_manifest(namespace, fresh))
        except Conflict:
            found = await client.get(SECRET, namespace=namespace, name=SECRET_NAME)
    if found is None:
        raise Transient(f"Secret {namespace}/{SECRET_NAME} was deleted while it was made; try again")
    return _key_of(found, namespace)


def api_key(master: bytes, *, uid: str, version: int) -> str:
    """Return the API key of the resource with this uid; another version is another key."""
    return API_KEY_PREFIX + _hmac(master, "api-key", uid, str(version))


def purpose_key(master: bytes, *, uid: str, purpose: str, version: int) -> str:
    """Return a resource's key of one purpose, such as search or build; no purpose's key opens another's door."""
    return API_KEY_PREFIX + _hmac(master, "purpose-key", purpose, uid, str(version))


def content_hash(master: bytes, data: Mapping[str, str]) -> str:
    """Return a keyed hash of a Secret's `data`: tells change, and can't be searched without the master key."""
    canonical = json.dumps(dict(data), sort_keys=True, separators=(",", ":"))
    return _hmac(master, "content-hash", canonical)[:32]


def _hmac(master: bytes, purpose: str, *parts: str) -> str:
    # the purpose comes first, so that no key of one use is ever a value of another
    message = "\0".join((purpose, *parts)).encode()
    return hmac.new(master, message, hashlib.sha256).hexdigest()


def _secret_manifest(namespace: str, key: bytes) -> Json:
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": SECRET_NAME, "namespace": namespace, "labels": {MANAGED_BY: MANAGED_BY_VALUE}},
        "type": "Opaque",
        "immutable": True,
        "data": {DATA_KEY: base64.b64encode(key).decode()},
    }


def _key_of(secret: Json, namespace: str) -> bytes:
    stored = (secret.get("data") or {}).get(DATA_KEY, "")
    try:
        key = base64.b64decode(stored, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise MasterKeyError(
            f"expected {KEY_BYTES} bytes under {DATA_KEY!r} in Secret {namespace}/{SECRET_NAME}, "
            f"found {len(key)}; restore it from a backup, or delete it to have every API key made anew"
        )
    return key
