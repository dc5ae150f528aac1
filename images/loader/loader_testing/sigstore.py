# SPDX-License-Identifier: Apache-2.0
"""A Sigstore instance in miniature, for tests: issues, logs and signs as the public one does, without a network.

A certificate authority (as Fulcio), a log of certificates (RFC 6962) and a log of signatures (as Rekor v1), each
with its own key. What it gives is checked by the library that users verify with; nothing here verifies.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from loader_testing.signing import a_key, key_usage, sign_with_key

ISSUER: Final = "https://accounts.models.example"
IDENTITY: Final = "builds@models.example"
SIGNED_AT: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIFE: Final = timedelta(minutes=10)
"""Of a signer's certificate, as Fulcio's: it has long ended when the signature is looked at."""
OIDC_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SCT_LIST: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
PRE_CERTIFICATE: Final = 1
SHA256_ECDSA: Final = bytes((4, 3))
"""Of RFC 5246: the hash and the signature in a signed certificate timestamp."""
EARLIER_ENTRY: Final = b'{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{}}'
"""Somebody else's, so that a proof of inclusion has something to prove."""
ORIGIN: Final = "rekor.models.example - 1"

Document = dict[str, object]


@dataclass(frozen=True)
class Instance:
    """The keys of one instance; `authority` is the root that signs certificates."""

    authority: x509.Certificate
    authority_key: EllipticCurvePrivateKey
    certificate_log: EllipticCurvePrivateKey = field(default_factory=a_key)
    signature_log: EllipticCurvePrivateKey = field(default_factory=a_key)

    def trust(self) -> Document:
        """Return what its users are given: the client's trust configuration."""
        begun: Document = {"start": _time(SIGNED_AT - timedelta(days=1))}
        authority = {
            "subject": {"organization": "models.example", "commonName": "fulcio"},
            "uri": "https://fulcio.models.example",
            "certChain": {"certificates": [{"rawBytes": _text(_der(self.authority))}]},
            "validFor": begun,
        }
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log(self.signature_log, "https://rekor.models.example", begun)],
            "certificateAuthorities": [authority],
            "ctlogs": [_log(self.certificate_log, "https://ct.models.example", begun)],
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": root,
            "signingConfig": {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"},
        }

    def sign(
        self,
        digests: Mapping[str, str],
        folder: Path,
        *,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        logged_at: datetime = SIGNED_AT,
    ) -> Document:
        """Return the bundle of a signature of files by whom the issuer vouches for."""
        key = a_key()
        certificate = self._certify(key, identity, issuer)
        # what is signed is the library's own statement, as it writes it for a key
        stated = json.loads(sign_with_key(digests, key, folder))["dsseEnvelope"]
        payload, kind = base64.b64decode(stated["payload"]), str(stated["payloadType"])
        signature = _signed(key, b" ".join([f"DSSEv1 {len(kind)} {kind} {len(payload)}".encode(), payload]))
        envelope: Document = {**stated, "signatures": [{"sig": _text(signature)}]}
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": _text(_der(certificate))},
                "tlogEntries": [self._logged(_body(certificate, payload, signature, envelope), logged_at)],
            },
            "dsseEnvelope": envelope,
        }

    def _certify(self, key: EllipticCurvePrivateKey, identity: str, issuer: str) -> x509.Certificate:
        """Return a certificate that carries the timestamp of the log of certificates over all the rest of it."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(SIGNED_AT - timedelta(seconds=1))
            .not_valid_after(SIGNED_AT + LIFE)
            .add_extension(key_usage(root=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(_authority_id(self.authority_key), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(identity)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(OIDC_ISSUER, issuer.encode()), critical=False)
        )
        begun = builder.sign(self.authority_key, SHA256())
        stamp = self._timestamp(begun.tbs_certificate_bytes)
        return builder.add_extension(stamp, critical=False).sign(self.authority_key, SHA256())

    def _timestamp(self, content: bytes) -> x509.UnrecognizedExtension:
        """Return the extension with one timestamp over a certificate's content (RFC 6962, 3.2 and 3.3)."""
        moment = int(SIGNED_AT.timestamp() * 1000)
        authority = hashlib.sha256(_public(self.authority_key)).digest()
        entry = struct.pack("!H", PRE_CERTIFICATE) + authority + len(content).to_bytes(3, "big") + content
        signature = _signed(self.certificate_log, struct.pack("!BBQ", 0, 0, moment) + entry + bytes(2))
        begun = bytes(1) + _log_id(self.certificate_log) + struct.pack("!Q", moment) + bytes(2)
        stamp = begun + SHA256_ECDSA + struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        # an OCTET STRING of fewer than 128 bytes
        return x509.UnrecognizedExtension(SCT_LIST, bytes((4, len(listed))) + listed)

    def _logged(self, body: bytes, moment: datetime) -> Document:
        """Return the entry with the log's promise, and the proof that it is the second of two."""
        own, log = _log_id(self.signature_log), self.signature_log
        seconds = int(moment.timestamp())
        promised = {"body": _text(body), "integratedTime": seconds, "logID": own.hex(), "logIndex": 1}
        promise = json.dumps(promised, sort_keys=True, separators=(",", ":")).encode()
        leaves = [hashlib.sha256(bytes(1) + each).digest() for each in (EARLIER_ENTRY, body)]
        root = hashlib.sha256(bytes((1,)) + b"".join(leaves)).digest()
        note = f"{ORIGIN}\n{len(leaves)}\n{_text(root)}\n"
        sealed = _text(own[:4] + _signed(log, note.encode()))
        proof: Document = {
            "logIndex": "1",
            "treeSize": str(len(leaves)),
            "rootHash": _text(root),
            "hashes": [_text(leaves[0])],
            "checkpoint": {"envelope": f"{note}\n\N{EM DASH} {ORIGIN.partition(' ')[0]} {sealed}\n"},
        }
        return {
            "logIndex": "1",
            "logId": {"keyId": _text(own)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": _text(_signed(log, promise))},
            "inclusionProof": proof,
            "canonicalizedBody": _text(body),
        }


def an_instance() -> Instance:
    """Return a new instance with keys of its own."""
    key = a_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fulcio")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(SIGNED_AT - timedelta(days=1))
        .not_valid_after(SIGNED_AT + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(root=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Instance(builder.sign(key, SHA256()), key)


def _body(certificate: x509.Certificate, payload: bytes, signature: bytes, envelope: Document) -> bytes:
    """Return what the log keeps of a signed statement (rekor's dsse schema 0.0.1)."""
    signatures: Sequence[Document] = [
        {"signature": _text(signature), "verifier": _text(certificate.public_bytes(Encoding.PEM))}
    ]
    hashes = {"payloadHash": payload, "envelopeHash": json.dumps(envelope).encode()}
    spec: Document = {
        name: {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()} for name, data in hashes.items()
    }
    whole = {"apiVersion": "0.0.1", "kind": "dsse", "spec": {**spec, "signatures": signatures}}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def _log(key: EllipticCurvePrivateKey, url: str, begun: Document) -> Document:
    public = {"rawBytes": _text(_public(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": begun}
    identity = {"keyId": _text(_log_id(key))}
    return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": identity}


def _authority_id(key: EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _public(key: EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _log_id(key: EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_public(key)).digest()


def _signed(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ECDSA(SHA256()))


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
