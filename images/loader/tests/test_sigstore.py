# SPDX-License-Identifier: Apache-2.0
"""Signatures of an identity at a Sigstore instance, verified offline with a given trust root by the real library.

The instance is made by the tests (keys, certificates, logs, proofs); no signature of the public one is here.
"""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from loader_testing.bench import MODEL, Bench
from loader_testing.sigstore import IDENTITY, ISSUER, LIFE, SIGNED_AT, Document, Instance, an_instance
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import Signature, Signer
from nimblet_loader.signature import verify_signature

DIGESTS = {MODEL: "5" * 64}


@pytest.fixture(scope="module")
def instance() -> Instance:
    return an_instance()


@pytest.fixture(scope="module")
def bundle(instance: Instance, tmp_path_factory: pytest.TempPathFactory) -> str:
    return json.dumps(instance.sign(DIGESTS, tmp_path_factory.mktemp("signed")))


def signature(bundle: str, trust: Instance, *, identity: str = IDENTITY, issuer: str = ISSUER) -> Signature:
    text = json.dumps(trust.trust())
    return Signature(method="Sigstore", bundle=bundle, trust=text, identity=identity, issuer=issuer)


def reason_of(signed: Signature) -> Reason:
    with pytest.raises(SourceError) as caught:
        verify_signature(signed, SIGNED_AT)
    return caught.value.reason


def test_a_signature_of_the_named_identity_is_accepted(instance: Instance, bundle: str) -> None:
    # years later: the certificate was valid when the log took the signature
    signed = verify_signature(signature(bundle, instance), SIGNED_AT + timedelta(days=900))
    assert signed.digests == DIGESTS
    assert signed.signer == Signer(method="Sigstore", name=IDENTITY)


def test_a_model_is_resolved_and_loaded_by_it(bench: Bench, instance: Instance, tmp_path: Path) -> None:
    own = json.dumps(instance.sign({MODEL: bench.digest}, tmp_path))
    document = signature(own, instance).model_dump(mode="json", exclude_none=True)
    artifact = bench.resolve(signature=document)
    assert artifact.digest_source == "Signature"
    assert artifact.signer == Signer(method="Sigstore", name=IDENTITY)
    assert bench.fetch(artifact).sha256 == {MODEL: bench.digest}


@pytest.mark.parametrize(
    "named", [{"identity": "boss@models.example"}, {"issuer": "https://accounts.other.example"}]
)
def test_another_identity_or_issuer_is_refused(instance: Instance, bundle: str, named: dict[str, str]) -> None:
    assert reason_of(signature(bundle, instance, **named)) is Reason.SignerMismatch


def test_another_instance_of_the_same_names_is_refused(bundle: str) -> None:
    assert reason_of(signature(bundle, an_instance())) is Reason.SignerMismatch


@pytest.mark.parametrize("part", ["authority", "certificate_log", "signature_log"])
def test_every_part_of_the_instance_must_be_the_trusted_one(instance: Instance, bundle: str, part: str) -> None:
    parts = {name: getattr(instance, name) for name in ("certificate_log", "signature_log")}
    if part == "authority":
        other = an_instance()
        mixed = Instance(other.authority, other.authority_key, **parts)
    else:
        strange = {**parts, part: getattr(an_instance(), part)}
        mixed = Instance(instance.authority, instance.authority_key, **strange)
    assert reason_of(signature(bundle, mixed)) is Reason.SignerMismatch


def test_a_signature_that_was_logged_after_the_certificate_had_ended_is_refused(
    instance: Instance, tmp_path: Path
) -> None:
    late = instance.sign(DIGESTS, tmp_path, logged_at=SIGNED_AT + 2 * LIFE)
    assert reason_of(signature(json.dumps(late), instance)) is Reason.SignerMismatch


def _entry(bundle: Any) -> Any:
    return bundle["verificationMaterial"]["tlogEntries"][0]


def _flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(data).decode()


def _set(get: Callable[[Any], Any], key: str) -> Callable[[Any], None]:
    def change(bundle: Any) -> None:
        holder = get(bundle)
        holder[key] = _flipped(holder[key])

    return change


CHANGES: dict[str, Callable[[Any], None]] = {
    "the statement": _set(lambda it: it["dsseEnvelope"], "payload"),
    "the signature": _set(lambda it: it["dsseEnvelope"]["signatures"][0], "sig"),
    "the certificate": _set(lambda it: it["verificationMaterial"]["certificate"], "rawBytes"),
    "the logged body": _set(_entry, "canonicalizedBody"),
    "the log's promise": _set(lambda it: _entry(it)["inclusionPromise"], "signedEntryTimestamp"),
    "the tree's root": _set(lambda it: _entry(it)["inclusionProof"], "rootHash"),
    "the time of the entry": lambda it: _entry(it).update(integratedTime=str(int(SIGNED_AT.timestamp()) + 1)),
    "the place in the log": lambda it: _entry(it).update(logIndex="2"),
    "no proof": lambda it: _entry(it).pop("inclusionProof"),
    "no promise": lambda it: _entry(it).pop("inclusionPromise"),
    "no entry": lambda it: it["verificationMaterial"].update(tlogEntries=[]),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_whatever_of_it_was_changed_it_vouches_for_nothing(instance: Instance, bundle: str, changed: str) -> None:
    document: Document = json.loads(bundle)
    CHANGES[changed](document)
    refused = reason_of(signature(json.dumps(document), instance))
    assert refused in (Reason.SignerMismatch, Reason.SignatureInvalid)


def test_the_log_entry_of_another_signature_is_refused(instance: Instance, bundle: str, tmp_path: Path) -> None:
    document: Any = json.loads(bundle)
    other: Any = instance.sign({MODEL: "6" * 64}, tmp_path)
    document["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    assert reason_of(signature(json.dumps(document), instance)) is Reason.SignerMismatch
