# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates of this installation: an authority, and servers' certificates by it. Computes only.

Randomness and time are arguments. Keys are of the curve P-256: what every client of the last ten years verifies.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nimblet.manifests.transport import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE
from nimblet.plan.transport import SKEW
from nimblet.plan.transportfacts import AuthorityFacts, CertificateFacts

ENTROPY_BYTES: Final = 60
"""40 for a key, 20 for a serial number."""
_KEY_BYTES: Final = 40
"""64 bits more than the curve's order has, so that the remainder is even (FIPS 186-5, A.2.1)."""
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (SEC 2, 2.4.2)."""
NAME: Final = "nimblet"
SERVER_USE: Final = (ExtendedKeyUsageOID.SERVER_AUTH,)
PEER_USE: Final = (*SERVER_USE, ExtendedKeyUsageOID.CLIENT_AUTH)
"""Of Qdrant's servers, which ask each other for a certificate."""
CA_USE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class BadCertificateError(ValueError):
    """Something is not what it should be: no certificate, or a key that is not its own."""


@dataclass(frozen=True, kw_only=True)
class Authority:
    """One certificate that signs, and its key, as PEM."""

    certificate: str
    key: str = field(repr=False)

    @property
    def parsed(self) -> x509.Certificate:
        """The certificate. BadCertificateError where it is none."""
        return _one(self.certificate)

    @property
    def made_at(self) -> datetime:
        """When it was made."""
        return self.parsed.not_valid_before_utc + SKEW

    @property
    def not_after(self) -> datetime:
        """When it ends."""
        return self.parsed.not_valid_after_utc


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A server's certificate and its key, as PEM."""

    certificate: str
    key: str = field(repr=False)


def make_authority(*, entropy: bytes, now: datetime, seconds: int) -> Authority:
    """Return a new authority; no other authority ever stands below it."""
    key, serial = _drawn(entropy)
    # told apart by its number: two authorities of one name are tried by some clients in turn, by others not
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{NAME} {serial:x}"[:64])])
    builder = (
        _builder(name, key.public_key(), serial=serial, now=now, until=_whole(now) + timedelta(seconds=seconds))
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(CA_USE, critical=True)
    )
    signed = builder.sign(key, hashes.SHA256())
    return Authority(certificate=_pem(signed), key=_key_pem(key))


def issue(
    authority: Authority,
    *,
    names: Sequence[str],
    entropy: bytes,
    now: datetime,
    seconds: int,
    peers: bool = False,
) -> Leaf:
    """Return a new server certificate for these names, which never outlives its authority.

    `peers`: servers that also show it to each other, as clients.
    """
    key, serial = _drawn(entropy)
    signer = _private(authority.key)
    until = min(_whole(now) + timedelta(seconds=seconds), authority.not_after)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        _builder(subject, key.public_key(), serial=serial, now=now, until=until)
        .issuer_name(authority.parsed.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([*PEER_USE] if peers else [*SERVER_USE]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return Leaf(certificate=_pem(builder.sign(signer, hashes.SHA256())), key=_key_pem(key))


def bundle_of(authorities: Iterable[Authority]) -> str:
    """Return what clients are to trust, as PEM."""
    return "".join(item.certificate for item in authorities)


def authority_facts(authorities: Sequence[Authority]) -> AuthorityFacts:
    """Return what a judgement needs to know of the authorities."""
    return AuthorityFacts(
        trusted=frozenset(_fingerprint(item.parsed) for item in authorities),
        bundle=text_hash(bundle_of(authorities)),
    )


def certificate_facts(data: Mapping[str, str], authorities: Sequence[Authority]) -> CertificateFacts:
    """Return what the entries of a Secret, in base64, hold. BadCertificateError where they are no pair."""
    certificate = _one(_entry(data, CERTIFICATE_FILE))
    key = _private(_entry(data, KEY_FILE))
    if _public(key.public_key()) != _public(certificate.public_key()):
        raise BadCertificateError("the key is not the certificate's")
    issuers = (item.parsed for item in authorities)
    issuer = next((_fingerprint(item) for item in issuers if _signed(certificate, item)), "")
    return _facts(certificate, data, issuer=issuer)


def public_facts(data: Mapping[str, str]) -> CertificateFacts:
    """Return what a Secret's certificate tells, whoever signed it. BadCertificateError where there is none."""
    return _facts(_one(_entry(data, CERTIFICATE_FILE)), data, issuer="")


def authorities_of(data: Mapping[str, str]) -> str:
    """Return the authorities beside a certificate, as PEM. BadCertificateError where there are none."""
    text = _entry(data, AUTHORITIES_FILE)
    try:
        x509.load_pem_x509_certificates(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificateError(f"entry {AUTHORITIES_FILE} holds no certificate") from error
    return text


def _facts(certificate: x509.Certificate, data: Mapping[str, str], *, issuer: str) -> CertificateFacts:
    return CertificateFacts(
        fingerprint=_fingerprint(certificate),
        dns_names=_dns_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer=issuer,
        bundle=text_hash(_entry(data, AUTHORITIES_FILE)),
    )


def secret_data(leaf: Leaf, bundle: str) -> dict[str, str]:
    """Return a Secret's entries, in base64."""
    texts = {CERTIFICATE_FILE: leaf.certificate, KEY_FILE: leaf.key, AUTHORITIES_FILE: bundle}
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def leaf_of(data: Mapping[str, str]) -> Leaf:
    """Return the certificate and key of a Secret's entries."""
    return Leaf(certificate=_entry(data, CERTIFICATE_FILE), key=_entry(data, KEY_FILE))


def text_hash(text: str) -> str:
    """Return a hash of what is no secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check(authority: Authority) -> None:
    """Raise BadCertificateError where the key is not the certificate's."""
    if _public(_private(authority.key).public_key()) != _public(authority.parsed.public_key()):
        raise BadCertificateError("the key is not the certificate's")


def _builder(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, *, serial: int, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(_whole(now) - SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _whole(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(microsecond=0)


def _drawn(entropy: bytes) -> tuple[ec.EllipticCurvePrivateKey, int]:
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"expected {ENTROPY_BYTES} random bytes, found {len(entropy)}")
    scalar = int.from_bytes(entropy[:_KEY_BYTES]) % (_ORDER - 1) + 1
    serial = int.from_bytes(entropy[_KEY_BYTES:]) >> 1  # positive, at most 20 bytes (RFC 5280, 4.1.2.2)
    return ec.derive_private_key(scalar, ec.SECP256R1()), serial or 1


def _one(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificateError("no certificate") from error


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificateError("no key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadCertificateError("no key of an elliptic curve")
    return key


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.value.get_values_for_type(x509.DNSName))


def _entry(data: Mapping[str, str], name: str) -> str:
    try:
        return base64.b64decode(data.get(name, ""), validate=True).decode("ascii")
    except ValueError as error:
        raise BadCertificateError(f"entry {name} is no text") from error


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _public(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadCertificateError("no key of an elliptic curve")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
