# SPDX-License-Identifier: Apache-2.0
"""Signed models: each way to cheat ends with a reason of its own, before a server sees a byte."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loader_testing.bench import MODEL, Bench
from loader_testing.hub import flip
from loader_testing.pod import Pod
from loader_testing.signing import (
    BEGINS,
    SIGNER,
    Issued,
    a_certificate,
    a_key,
    public_pem,
    sign_with_certificate,
    sign_with_key,
)
from loader_testing.tiny import TinyModel
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.cache import RECORD
from nimblet_loader.contract import Artifact, ArtifactFile, CachedFile, CacheRecord, Signature, Signer, encode
from nimblet_loader.signature import verify_signature
from nimblet_loader.trust import check_artifact, trusted

KEY = a_key()
OTHER_KEY = a_key()
README = hashlib.sha256(b"hello").hexdigest()
FOLDER = "c" * 32
Document = dict[str, object]


def by_key(bundle: str, key: str = "") -> Document:
    """Return the spec's signature: a bundle, and the key it must be by."""
    return {"method": "Key", "bundle": bundle, "trust": key or public_pem(KEY)}


@pytest.fixture
def signed(bench: Bench, tmp_path: Path) -> Document:
    """Return a good signature of the bench's repository."""
    return by_key(sign_with_key({MODEL: bench.digest, "README.md": README}, KEY, tmp_path))


def refusal(bench: Bench, signature: Document, **source: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        bench.resolve(signature=signature, **source)
    return caught.value


def test_a_signed_model_is_vouched_for_by_its_signer(bench: Bench, signed: Document) -> None:
    artifact = bench.resolve(signature=signed)

    own = hashlib.sha256(public_pem(KEY).encode()).hexdigest()
    assert artifact.digest_source == "Signature"
    assert artifact.signer == Signer(method="Key", name=f"sha256:{own}")
    assert artifact.files[0].sha256 == bench.digest
    assert bench.fetch(artifact).sha256 == {MODEL: bench.digest}


def test_a_signature_pins_a_url_without_any_other_digest(bench: Bench, tmp_path: Path) -> None:
    bundle = sign_with_key({MODEL: bench.digest}, KEY, tmp_path)
    artifact = bench.resolve(uri=f"{bench.base()}/cdn/{MODEL}", signature=by_key(bundle))
    assert (artifact.digest_source, artifact.files[0].sha256) == ("Signature", bench.digest)


def test_a_byte_changed_on_the_way_is_not_loaded(bench: Bench, signed: Document) -> None:
    artifact = bench.resolve(signature=signed)
    bench.hub.fail("file", flip(len(bench.content) - 1))
    with pytest.raises(SourceError) as caught:
        bench.fetch(artifact)
    assert caught.value.reason is Reason.DigestMismatch
    assert list(bench.root.iterdir()) == []


def test_a_byte_changed_at_the_source_is_told_before_any_download(bench: Bench, signed: Document) -> None:
    bench.hub.files[MODEL] = bench.content[:-1] + b"!"
    error = refusal(bench, signed)
    assert error.reason is Reason.SignatureMismatch
    assert "changed after it was signed" in error.message


def test_a_signed_file_that_is_missing(bench: Bench, signed: Document) -> None:
    del bench.hub.files["README.md"]
    error = refusal(bench, signed)
    assert error.reason is Reason.SignedFileMissing
    assert "README.md" in error.message


def test_a_file_of_the_model_that_nobody_signed(bench: Bench, tmp_path: Path) -> None:
    parts = [f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    bench.hub.files = {name: TinyModel().file() for name in parts}
    digest = hashlib.sha256(TinyModel().file()).hexdigest()
    error = refusal(bench, by_key(sign_with_key({parts[0]: digest}, KEY, tmp_path)))
    assert error.reason is Reason.UnsignedFile
    assert parts[1] in error.message


def test_a_signature_by_another_key(bench: Bench, tmp_path: Path) -> None:
    bundle = sign_with_key({MODEL: bench.digest}, OTHER_KEY, tmp_path)
    assert refusal(bench, by_key(bundle)).reason is Reason.SignerMismatch


def test_a_signature_by_another_key_that_names_ours(bench: Bench, tmp_path: Path) -> None:
    document = json.loads(sign_with_key({MODEL: bench.digest}, OTHER_KEY, tmp_path))
    own = hashlib.sha256(public_pem(KEY).encode()).hexdigest()
    document["verificationMaterial"]["publicKey"]["hint"] = own
    assert refusal(bench, by_key(json.dumps(document))).reason is Reason.SignatureInvalid


def test_digests_that_were_changed_under_the_signature(bench: Bench, signed: Document) -> None:
    document = json.loads(str(signed["bundle"]))
    envelope = document["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"]).replace(bench.digest.encode(), b"0" * 64)
    envelope["payload"] = base64.b64encode(payload).decode()
    assert refusal(bench, by_key(json.dumps(document))).reason is Reason.SignatureInvalid


def test_the_signature_of_another_model_by_the_same_key(bench: Bench, tmp_path: Path) -> None:
    other = sign_with_key({MODEL: "0" * 64, "README.md": README}, KEY, tmp_path)
    assert refusal(bench, by_key(other)).reason is Reason.SignatureMismatch
    elsewhere = sign_with_key({"other.gguf": bench.digest}, KEY, tmp_path)
    assert refusal(bench, by_key(elsewhere)).reason is Reason.SignedFileMissing


def test_digests_of_the_spec_must_agree_with_the_signature(bench: Bench, signed: Document) -> None:
    assert bench.resolve(signature=signed, sha256={MODEL: bench.digest}).digest_source == "Signature"
    assert refusal(bench, signed, sha256={MODEL: "0" * 64}).reason is Reason.SignatureMismatch
    assert refusal(bench, signed, sha256={"b.gguf": "0" * 64}).reason is Reason.UnsignedFile


@pytest.mark.parametrize("path", ["../escape.gguf", "/etc/passwd", "a/../../b.gguf"])
def test_signed_names_that_lead_out_of_the_folder(bench: Bench, tmp_path: Path, path: str) -> None:
    bundle = sign_with_key({MODEL: bench.digest, path: README}, KEY, tmp_path)
    assert refusal(bench, by_key(bundle)).reason is Reason.UnsafePath


def test_a_link_in_a_claim_in_place_of_a_signed_file(bench: Bench, signed: Document, tmp_path: Path) -> None:
    bench.claim = tmp_path / "claim"
    bench.claim.mkdir()
    (bench.claim / "README.md").write_bytes(b"hello")
    (bench.claim / MODEL).write_bytes(bench.content)
    uri = "pvc://weights"
    artifact = bench.resolve(uri=uri, signature=signed)
    outside = tmp_path / MODEL
    (bench.claim / MODEL).rename(outside)
    (bench.claim / MODEL).symlink_to(outside)

    assert refusal(bench, signed, uri=uri).reason is Reason.SignedFileMissing
    with pytest.raises(SourceError) as caught:
        bench.fetch(artifact)
    assert caught.value.reason is Reason.UnsafePath


# certificates


@pytest.fixture
def root() -> Issued:
    return a_certificate("root")


def by_certificate(bundle: str, *roots: Issued, identity: str | None = None) -> Document:
    named = {} if identity is None else {"identity": identity}
    return {"method": "Certificate", "bundle": bundle, "trust": "".join(item.pem for item in roots), **named}


@pytest.mark.parametrize("identity", [None, SIGNER, "signer"])
def test_a_certificate_of_a_trusted_root(bench: Bench, tmp_path: Path, root: Issued, identity: str | None) -> None:
    bundle = sign_with_certificate({MODEL: bench.digest}, a_certificate("signer", root), tmp_path)
    artifact = bench.resolve(signature=by_certificate(bundle, root, identity=identity))
    assert artifact.signer == Signer(method="Certificate", name="CN=signer")


def test_a_certificate_that_has_expired(bench: Bench, tmp_path: Path, root: Issued) -> None:
    ended = a_certificate("signer", root, ends=bench.now - timedelta(seconds=1))
    bundle = sign_with_certificate({MODEL: bench.digest}, ended, tmp_path)
    error = refusal(bench, by_certificate(bundle, root))
    assert error.reason is Reason.CertificateExpired
    bench.now = BEGINS + timedelta(seconds=1)
    assert bench.resolve(signature=by_certificate(bundle, root)).signer is not None


def test_a_certificate_of_another_root(bench: Bench, tmp_path: Path, root: Issued) -> None:
    stranger = a_certificate("signer", a_certificate("root"))
    bundle = sign_with_certificate({MODEL: bench.digest}, stranger, tmp_path)
    assert refusal(bench, by_certificate(bundle, root)).reason is Reason.SignerMismatch


def test_a_strange_root_in_the_bundle_is_not_trusted(bench: Bench, tmp_path: Path, root: Issued) -> None:
    other = a_certificate("root")
    bundle = sign_with_certificate({MODEL: bench.digest}, a_certificate("signer", other), tmp_path, chain=[other])
    assert refusal(bench, by_certificate(bundle, root)).reason is Reason.SignerMismatch


def test_a_certificate_of_somebody_else(bench: Bench, tmp_path: Path, root: Issued) -> None:
    bundle = sign_with_certificate({MODEL: bench.digest}, a_certificate("signer", root), tmp_path)
    error = refusal(bench, by_certificate(bundle, root, identity="boss@models.example"))
    assert error.reason is Reason.SignerMismatch
    assert SIGNER in error.message


def test_a_root_is_no_signer(bench: Bench, tmp_path: Path, root: Issued) -> None:
    bundle = sign_with_certificate({MODEL: bench.digest}, root, tmp_path)
    assert refusal(bench, by_certificate(bundle, root)).reason is Reason.SignatureInvalid


def test_methods_are_not_mistaken_for_each_other(
    bench: Bench, tmp_path: Path, signed: Document, root: Issued
) -> None:
    bundle = sign_with_certificate({MODEL: bench.digest}, a_certificate("signer", root), tmp_path)
    assert refusal(bench, by_key(bundle)).reason is Reason.SignerMismatch
    assert refusal(bench, by_certificate(str(signed["bundle"]), root)).reason is Reason.SignerMismatch


# what is no signature


@pytest.mark.parametrize("method", ["Key", "Certificate", "Sigstore"])
@pytest.mark.parametrize("trust", ["no PEM", "{}", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"])
def test_what_is_trusted_must_be_readable(bench: Bench, signed: Document, method: str, trust: str) -> None:
    named = {"identity": SIGNER, "issuer": "https://issuer.example"} if method == "Sigstore" else {}
    assert refusal(bench, {**signed, "method": method, "trust": trust, **named}).reason is Reason.SignatureInvalid


@given(st.text(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
@settings(max_examples=100, deadline=None)
def test_what_is_no_bundle_is_invalid(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        verify_signature(Signature(method="Key", bundle=text or " ", trust=public_pem(KEY)), BEGINS)
    assert caught.value.reason is Reason.SignatureInvalid


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sign_with_key({MODEL: README}, KEY, tmp_path_factory.mktemp("good"))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_bundle_never_vouches_for_other_digests(good: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good) - 1))
    patch = data.draw(st.text(alphabet='{}[]",:=+/aA0\\', min_size=0, max_size=4))
    changed = good[:at] + patch + good[at + data.draw(st.integers(0, 4)) :]
    assert signed_by(changed) in ({MODEL: README}, Reason.SignatureInvalid, Reason.SignerMismatch)


def signed_by(bundle: str) -> dict[str, str] | Reason:
    """Return what a bundle vouches for, or why it doesn't."""
    try:
        return verify_signature(Signature(method="Key", bundle=bundle, trust=public_pem(KEY)), BEGINS).digests
    except SourceError as error:
        return error.reason


# the loader, again


def test_an_artifact_that_was_forged_after_resolving(bench: Bench, signed: Document) -> None:
    artifact = bench.resolve(signature=signed)
    (file,) = artifact.files
    source = trusted(bench.source(signature=signed), bench.now).source
    check_artifact(source, artifact)
    changes: list[tuple[Callable[[ArtifactFile], ArtifactFile], Reason]] = [
        (lambda it: it.model_copy(update={"sha256": "0" * 64}), Reason.SignatureMismatch),
        (lambda it: it.model_copy(update={"sha256": None}), Reason.SignatureMismatch),
        (lambda it: it.model_copy(update={"path": "b.gguf"}), Reason.UnsignedFile),
    ]
    for change, reason in changes:
        with pytest.raises(SourceError) as caught:
            check_artifact(source, artifact.model_copy(update={"files": (change(file),)}))
        assert caught.value.reason is reason


OTHER = "tiny-Q8_0.gguf"


@pytest.mark.parametrize("chosen", [{"quantization": "Q4_0"}, {"files": [MODEL]}, {"files": ["*-Q4*"]}])
def test_another_signed_file_than_the_spec_chooses_is_no_artifact(
    bench: Bench, tmp_path: Path, chosen: dict[str, object]
) -> None:
    # given two models under one signature, and an artifact of the one in place of the other's
    bench.hub.files[OTHER] = bench.content
    digests = {MODEL: bench.digest, OTHER: bench.digest}
    signature = {"method": "Key", "bundle": sign_with_key(digests, KEY, tmp_path), "trust": public_pem(KEY)}
    source = trusted(bench.source(signature=signature, **chosen), bench.now).source
    check_artifact(source, bench.resolve(signature=signature, **chosen))
    # when the loader is given it, then it is not taken for what the spec chooses
    with pytest.raises(SourceError) as caught:
        check_artifact(source, bench.resolve(signature=signature, quantization="Q8_0"))
    assert caught.value.reason is Reason.ConfigInvalid


@pytest.fixture
def pod(bench: Bench, tmp_path: Path) -> Pod:
    return Pod(bench, tmp_path)


def poisoned(pod: Pod, artifact: Artifact) -> None:
    """Another pod of the namespace replaces the cached file, and makes the record fit."""
    folder = pod.bench.root / FOLDER
    bad = pod.bench.content[:-1] + b"!"
    (folder / MODEL).write_bytes(bad)
    digest = hashlib.sha256(bad).hexdigest()
    record = CacheRecord(version=1, files=(CachedFile(path=MODEL, size=len(bad), sha256=digest),))
    (folder / RECORD).write_bytes(encode(record))


def test_every_start_verifies_signature_and_cache_by_itself(pod: Pod, signed: Document, tmp_path: Path) -> None:
    artifact = pod.bench.resolve(signature=signed)
    pod.write(artifact=artifact)
    options = ("--folder", FOLDER)
    assert pod.run("fill", *options, signature=signed)[0] == 0
    assert pod.run("verify", *options, signature=signed)[0] == 0

    other = by_key(sign_with_key({MODEL: pod.bench.digest}, OTHER_KEY, tmp_path))
    assert pod.run("verify", *options, signature=other)[0] == Reason.SignerMismatch.exit_code
    poisoned(pod, artifact)
    assert pod.run("verify", *options, signature=signed)[0] == Reason.CacheCorrupted.exit_code
    (pod.bench.root / FOLDER / RECORD).unlink()
    assert pod.run("verify", *options, "--patience", "0", signature=signed)[0] == Reason.CacheCorrupted.exit_code
