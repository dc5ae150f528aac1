# SPDX-License-Identifier: Apache-2.0
"""What a spec demands of its model's files, out of the spec and the ConfigMaps that it names. Pure.

Digests and signatures travel to the loader inside its source: what is checked is what was planned with, whatever
becomes of a ConfigMap afterwards, and another text is another source. Verifying a signature is the loader's.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from nimblet.api.common import ConfigMapKeyRef, Sha256
from nimblet.api.compactmodel import CompactModel
from nimblet.api.integrity import Integrity, ModelSignature
from nimblet.conditions import Reason
from nimblet.plan.artifact import DIGEST
from nimblet.plan.facts import TrustTextFacts
from nimblet.plan.stage import Problem, problem

MAX_TEXT_BYTES: Final = 65_536
"""Of all texts together: they become one environment variable, which Linux bounds at 128 KiB."""
MAX_FILES: Final = 1024
MAX_NAME: Final = 512
_LINE: Final = re.compile(r"^([0-9A-Fa-f]{64}) [ *](.+)$")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_DIGESTS: Final = TypeAdapter(dict[str, Sha256])


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the loader is told: digests by file name, and a signature in the form of its contract."""

    digests: Mapping[str, str] = field(default_factory=dict)
    signature: Mapping[str, str] | None = None


NO_TRUST: Final = Trust()


class ManifestError(ValueError):
    """The text is no manifest; the message says what was found."""


def text_key(ref: ConfigMapKeyRef) -> str:
    """Return what a text is known by among the facts."""
    return f"{ref.name}/{ref.key}"


def trust_of(model: CompactModel, texts: Mapping[str, TrustTextFacts]) -> Trust | Problem:
    """Return what the files of a model must be, or what keeps that from being known: then nothing is resolved."""
    integrity = model.spec.integrity
    if integrity is None:
        return NO_TRUST
    for ref in integrity.references:
        flaw = _text_problem(ref, texts.get(text_key(ref)), model.namespace)
        if flaw is not None:
            return flaw
    size = sum(len(texts[text_key(ref)].text.encode()) for ref in integrity.references)
    if size > MAX_TEXT_BYTES:
        found = f"The texts that integrity names have {size} bytes; at most {MAX_TEXT_BYTES} are read."
        return problem(Reason.INTEGRITY_INVALID, found)
    try:
        digests = _digests(integrity, texts)
    except ManifestError as error:
        name = integrity.manifest_ref.name if integrity.manifest_ref is not None else ""
        return problem(Reason.INTEGRITY_INVALID, f"The manifest in ConfigMap {name} can't be read: {error}.")
    signature = integrity.signature
    return Trust(digests=digests, signature=_signature(signature, texts) if signature is not None else None)


def known_trust(model: CompactModel, texts: Mapping[str, TrustTextFacts]) -> Trust:
    """Return the same for naming what was made with it; nothing is made while it is not known."""
    trust = trust_of(model, texts)
    return trust if isinstance(trust, Trust) else NO_TRUST


def method_of(integrity: Integrity | None) -> str:
    """Return how a spec has the files verified; empty where it demands nothing."""
    if integrity is None:
        return ""
    return DIGEST if integrity.signature is None else _method(integrity.signature)


def parse_manifest(text: str) -> dict[str, str]:
    """Return the digests by file name of a manifest, or raise ManifestError."""
    found = _from_json(text) if text.lstrip().startswith("{") else _from_lines(text)
    if not found:
        raise ManifestError("it names no file")
    if len(found) > MAX_FILES:
        raise ManifestError(f"it names {len(found)} files, and at most {MAX_FILES} are read")
    for name in found:
        if not 0 < len(name) <= MAX_NAME or _CONTROL.search(name):
            raise ManifestError(f"{name[:80]!r} is no file name")
    return found


def manifest_text(digests: Mapping[str, str]) -> str:
    """Return a manifest as sha256sum prints it."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _text_problem(ref: ConfigMapKeyRef, found: TrustTextFacts | None, namespace: str) -> Problem | None:
    if found is None:
        return problem(Reason.CONFIG_MAP_MISSING, f"ConfigMap {ref.name} is not in namespace {namespace}.")
    if not found.usable:
        return problem(Reason.CONFIG_MAP_NOT_USABLE, f"ConfigMap {ref.name} is not labelled for use by Nimblet.")
    if not found.text.strip():
        message = f"ConfigMap {ref.name} has no text under the key `{ref.key}`."
        return problem(Reason.CONFIG_MAP_MISSING, message)
    return None


def _digests(integrity: Integrity, texts: Mapping[str, TrustTextFacts]) -> dict[str, str]:
    if integrity.manifest_ref is not None:
        return parse_manifest(texts[text_key(integrity.manifest_ref)].text)
    return dict(integrity.sha256 or {})


def _signature(signature: ModelSignature, texts: Mapping[str, TrustTextFacts]) -> dict[str, str]:
    """Return the loader's `Signature`."""
    named: dict[str, str] = {}
    if signature.certificate is not None and signature.certificate.identity is not None:
        named = {"identity": signature.certificate.identity}
    if signature.sigstore is not None:
        named = {"identity": signature.sigstore.identity, "issuer": signature.sigstore.issuer}
    bundle, trust = (texts[text_key(ref)].text for ref in (signature.bundle_ref, signature.trust_ref))
    return {"method": _method(signature), "bundle": bundle, "trust": trust, **named}


def _method(signature: ModelSignature) -> str:
    if signature.key is not None:
        return "Key"
    return "Certificate" if signature.certificate is not None else "Sigstore"


def _from_lines(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = []
    for number, line in enumerate(lines, start=1):
        match = _LINE.match(line)
        if match is None:
            raise ManifestError(
                f"line {number} is not 64 hex digits, two spaces and a name, as sha256sum prints it"
            )
        pairs.append((match[2].removeprefix("./"), match[1].lower()))
    return _distinct(pairs)


def _from_json(text: str) -> dict[str, str]:
    try:
        return _DIGESTS.validate_python(json.loads(text, object_pairs_hook=_distinct))
    except ValidationError as error:
        raise ManifestError("a value is no SHA-256 of 64 lower-case hex digits") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ManifestError("it begins as JSON and is none") from error


def _distinct(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, digest in pairs:
        if found.setdefault(name, digest) != digest:
            raise ManifestError(f"it gives two digests for {name[:80]!r}")
    return found
