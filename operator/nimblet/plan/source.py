# SPDX-License-Identifier: Apache-2.0
"""What the loader is told: the source as JSON, its hash, and the admin's fetch policy. Pure."""

import json

from nimblet.api.compactmodel import CompactModelSpec
from nimblet.names import content_hash
from nimblet.settings import Settings


def source_text(spec: CompactModelSpec) -> str:
    """Return the loader's `Source` as compact JSON with sorted keys: equal specs give equal bytes."""
    source = spec.source
    document: dict[str, object] = {
        "version": 1,
        "uri": source.uri,
        "files": list(source.files or ()),
        "sha256": dict(spec.integrity.sha256) if spec.integrity is not None else {},
        "secret": source.credentials_secret_ref is not None,
    }
    if source.revision is not None:
        document["revision"] = source.revision
    if source.quantization is not None:
        document["quantization"] = source.quantization
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def source_hash(text: str, settings: Settings) -> str:
    """Return the hash that names Jobs and artifacts of a source; a hf:// source also depends on its hub."""
    return content_hash({"source": text, "hub": settings.fetch.hf_endpoint})


def spec_hash(spec: CompactModelSpec) -> str:
    """Return a hash of the spec without `replicas`: scaling is no reason to take newer images."""
    return content_hash(spec.model_dump(mode="json", by_alias=True, exclude={"replicas"}))


def policy_text(settings: Settings, *, credential_hosts: tuple[str, ...]) -> str:
    """Return the loader's `FetchPolicy` as JSON."""
    fetch = settings.fetch.model_dump(mode="json", by_alias=True, exclude_none=True)
    document = {"version": 1, "credentialHosts": sorted(credential_hosts), **fetch}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
