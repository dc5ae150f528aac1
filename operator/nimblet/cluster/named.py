# SPDX-License-Identifier: Apache-2.0
"""Reads what a spec names of the user's own: Secrets and a ConfigMap, each by its name, in the same namespace.

A Secret's values end here as a keyed hash, a ConfigMap's text as a hash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nimblet import labels
from nimblet.api.common import ConfigMapKeyRef, SecretRef
from nimblet.api.compactmodel import CompactModel
from nimblet.cluster.masterkey import content_hash
from nimblet.cluster.observed import ConfigMap, Secret
from nimblet.cluster.referents import Reader
from nimblet.cluster.resources import CONFIG_MAP, SECRET
from nimblet.cluster.trim import Object
from nimblet.names import content_hash as text_hash
from nimblet.plan.facts import SecretFacts, TextFacts, TrustTextFacts
from nimblet.plan.integrity import text_key


@dataclass(frozen=True, kw_only=True)
class Named:
    """What was found; None for what is absent or not named."""

    secret: SecretFacts | None
    own_keys: SecretFacts | None
    weights_key: SecretFacts | None
    chat_template: TextFacts | None
    adapter_secrets: Mapping[str, SecretFacts] = field(default_factory=dict)
    """Those of the further sources, by name."""


async def gather_named(client: Reader, model: CompactModel, *, master_key: bytes) -> Named:
    """Return the Secrets and the ConfigMap that the spec names; a spec that names none costs no request."""
    namespace, spec = model.namespace, model.spec
    encryption = spec.source.encryption
    key_ref = encryption.key_secret_ref if encryption is not None else None
    return Named(
        secret=await named_secret(client, namespace, spec.source.credentials_secret_ref, master_key),
        own_keys=await named_secret(client, namespace, spec.access.api_keys_secret_ref, master_key),
        weights_key=await named_secret(client, namespace, key_ref, master_key),
        chat_template=await _text(client, namespace, spec.runtime.chat_template),
        adapter_secrets=await _adapter_secrets(client, model, master_key),
    )


async def _adapter_secrets(client: Reader, model: CompactModel, master_key: bytes) -> dict[str, SecretFacts]:
    """Return the Secrets of the further sources; each is read once."""
    refs = {ref.name: ref for source in model.spec.further_sources for ref in source.secret_refs}
    found = {
        name: await named_secret(client, model.namespace, ref, master_key) for name, ref in sorted(refs.items())
    }
    return {name: secret for name, secret in found.items() if secret is not None}


async def named_secret(
    client: Reader, namespace: str, ref: SecretRef | None, master_key: bytes
) -> SecretFacts | None:
    """Return a Secret that a spec names; None where it names none, or it is not there."""
    if ref is None:
        return None
    body = await client.get(SECRET, namespace=namespace, name=ref.name)
    return secret_facts(body, master_key=master_key) if body is not None else None


async def gather_trust(client: Reader, model: CompactModel) -> dict[str, TrustTextFacts]:
    """Return the texts that integrity names; each ConfigMap is read once."""
    references = [ref for integrity in model.spec.integrities for ref in integrity.references]
    bodies = {
        name: await client.get(CONFIG_MAP, namespace=model.namespace, name=name)
        for name in sorted({ref.name for ref in references})
    }
    return {text_key(ref): trust_text(body, key=ref.key) for ref in references if (body := bodies[ref.name])}


def trust_text(body: Object, *, key: str) -> TrustTextFacts:
    """Return a text of a ConfigMap; without the opt-in label it is not looked at."""
    config = ConfigMap.model_validate(body)
    usable = config.metadata.labels.get(labels.USE) == "true"
    return TrustTextFacts(usable=usable, text=config.data.get(key, "") if usable else "")


async def _text(client: Reader, namespace: str, ref: ConfigMapKeyRef | None) -> TextFacts | None:
    if ref is None:
        return None
    body = await client.get(CONFIG_MAP, namespace=namespace, name=ref.name)
    return text_facts(body, key=ref.key) if body is not None else None


def secret_facts(body: Object, *, master_key: bytes) -> SecretFacts:
    """Return what a plan may know of a Secret: no value, nor anything that tells one."""
    secret = Secret.model_validate(body)
    hosts = secret.metadata.annotations.get(labels.HOSTS, "").split(",")
    return SecretFacts(
        name=secret.metadata.name,
        usable=secret.metadata.labels.get(labels.USE) == "true",
        hosts=tuple(sorted({host.strip().lower() for host in hosts if host.strip()})),
        keys=tuple(sorted(secret.data)),
        content_hash=content_hash(master_key, secret.data),
        for_weights=secret.metadata.annotations.get(labels.WEIGHTS_KEY) == labels.WEIGHTS_KEY_VALUE,
    )


def text_facts(body: Object, *, key: str) -> TextFacts:
    """Return what a plan may know of a ConfigMap: its keys, and a hash of the text under `key`."""
    config = ConfigMap.model_validate(body)
    text = config.data.get(key, "")
    return TextFacts(
        name=config.metadata.name,
        keys=tuple(sorted(config.data)),
        content_hash=text_hash(text) if text.strip() else "",
    )
