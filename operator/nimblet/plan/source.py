# SPDX-License-Identifier: Apache-2.0
"""What the loader is told: the source as JSON, its hash, and the admin's fetch policy. Pure."""

import json
from typing import Final

from nimblet.api.common import SpecModel
from nimblet.api.compactmodel import CompactModelSpec
from nimblet.api.encryption import Encryption
from nimblet.manifests.loader import RESOLVE_DEADLINE_SECONDS
from nimblet.names import content_hash
from nimblet.plan.format import preferred_format
from nimblet.plan.integrity import Trust
from nimblet.settings import Settings

TOKEN_KEY: Final = "token"  # noqa: S105 - the key's name
S3_KEYS: Final = ("accessKeyId", "secretAccessKey")
SESSION_KEY: Final = "sessionToken"
LOGIN_KEYS: Final = ("username", "password")
RESOURCE_SCHEME: Final = "kbs:///"
CLAIM_SCHEME: Final = "pvc://"
_WHOLE: Final = frozenset({"oci", "pvc"})
"""Sources whose resolver may have to read every byte: to hash an image's layer, or a claim's file."""
_WHOLE_SECONDS: Final = 3600


def source_text(spec: CompactModelSpec, trust: Trust, settings: Settings, *, adapter: bool = False) -> str:
    """Return the loader's `Source` as compact JSON with sorted keys: equal specs and texts give equal bytes."""
    source = spec.source
    document: dict[str, object] = {
        "version": 1,
        "uri": source.uri,
        "files": list(source.files or ()),
        "sha256": dict(trust.digests),
        "secret": source.credentials_secret_ref is not None,
    }
    if source.revision is not None:
        document["revision"] = source.revision
    if source.quantization is not None:
        document["quantization"] = source.quantization
    if preferred_format(spec, settings.hardware.known) == "Safetensors":
        # left out otherwise: the hashes of older sources stay
        document["prefer"] = "Safetensors"
    if trust.signature is not None:
        document["signature"] = dict(trust.signature)
    if source.role_arn is not None:
        document["roleARN"] = source.role_arn
    if source.encryption is not None:
        document["encryption"] = _encryption(source.encryption)
    if adapter:
        document["adapter"] = True
    speculative = spec.runtime.speculative
    if speculative is not None and speculative.type == "Draft" and not adapter:
        document["vocabulary"] = True
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    # Kubernetes expands $(NAME) and $$ in a variable's value: nobody's text may refer to another variable.
    return text.replace("$", "\\u0024")


def _encryption(encryption: Encryption) -> dict[str, str]:
    """Return the loader's `Encryption`: where the key is mounted, its manifest says."""
    named = {"model": encryption.model, "revision": encryption.revision}
    if encryption.kbs is None:
        return named
    return {**named, "resource": encryption.kbs.resource.removeprefix(RESOURCE_SCHEME)}


def source_hash(spec: CompactModelSpec, settings: Settings, trust: Trust, *, adapter: bool = False) -> str:
    """Return the hash that names Jobs and artifacts of a source; it also depends on the service that is asked."""
    text = source_text(spec, trust, settings, adapter=adapter)
    return content_hash({"source": text, "hub": _service(scheme_of(spec), settings)})


def scheme_of(spec: CompactModelSpec) -> str:
    """Return the scheme of the source's URI."""
    return spec.source.uri.partition("://")[0]


def required_keys(scheme: str) -> tuple[str, ...]:
    """Return the keys that a Secret for a source must have."""
    return {"s3": S3_KEYS, "oci": LOGIN_KEYS}.get(scheme, (TOKEN_KEY,))


def optional_keys(scheme: str) -> tuple[str, ...]:
    """Return the keys that a Secret for a source may have; the loader gets no others, whatever else it holds."""
    return (SESSION_KEY,) if scheme == "s3" else ()


def claim_of(spec: CompactModelSpec) -> str | None:
    """Return the name of the claim that the source is in, None for sources that are elsewhere."""
    scheme, _, rest = spec.source.uri.partition("://")
    return rest.partition("/")[0] if scheme == "pvc" else None


def resolve_seconds(scheme: str) -> int:
    """Return how long a resolver may take: a listing and a header, or the whole source."""
    return _WHOLE_SECONDS if scheme in _WHOLE else RESOLVE_DEADLINE_SECONDS


def _service(scheme: str, settings: Settings) -> str:
    fetch = settings.fetch
    if scheme in _WHOLE:
        return ""  # the URI names registry or claim itself
    if scheme == "s3":
        return fetch.s3.endpoint or fetch.s3.region
    return fetch.ollama_registry if scheme == "ollama" else fetch.hf_endpoint


def spec_hash(spec: SpecModel, *, restarted_at: str) -> str:
    """Return a hash of what a user changes to have the pods made anew: the spec, and the request for a restart.

    Scaling, suspending and access are no reason to take newer images. What is left at its default is left out:
    a field that a newer operator knows changes no hash.
    """
    unrelated = {"replicas", "suspend", "access"}
    chosen = spec.model_dump(mode="json", by_alias=True, exclude=unrelated, exclude_defaults=True)
    return content_hash({"spec": chosen, "restartedAt": restarted_at} if restarted_at else {"spec": chosen})


def policy_text(
    settings: Settings, *, credential_hosts: tuple[str, ...], scheme: str, with_role: bool = False
) -> str:
    """Return the loader's `FetchPolicy` as JSON; what concerns one kind of source is in its policies alone.

    A loader refuses keys that it does not know, and models keep their loader over an upgrade.
    """
    others = {"s3": "s3", "ollama_registry": "ollama", "oci": "oci"}
    left_out: dict[str, bool | set[str]] = {field: True for field, own in others.items() if own != scheme}
    if scheme == "s3":
        left_out["s3"] = {"audience"} if with_role else {"audience", "sts_endpoint"}
    fetch = settings.fetch.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=left_out)
    document = {"version": 1, "credentialHosts": sorted(credential_hosts), **fetch}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
