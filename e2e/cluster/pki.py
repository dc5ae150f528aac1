# SPDX-License-Identifier: Apache-2.0
"""A throw-away certificate authority: one CA signs every server and client certificate of one cluster.

Keys are P-256 and live as long as the cluster's folder. Not for anything that outlives a test.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=30)
BACKDATE = dt.timedelta(hours=1)
"""Certificates begin in the past, so that a clock set back a little does not make them invalid."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class Subject:
    """Who a certificate is for: `common_name` is the user, `organizations` the groups (RBAC)."""

    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairFiles:
    """Where a pair was written."""

    certificate: Path
    key: Path


class Authority:
    """A CA that signs; `now` (UTC) is the moment of signing."""

    def __init__(self, *, now: dt.datetime) -> None:
        self._now = now
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name(Subject("nimblet-test-ca"))
        builder = self._builder(subject=name, issuer=name, public_key=self._key.public_key())
        self._certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> bytes:
        """The CA's certificate, PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, subject: Subject) -> Pair:
        """Sign a certificate that works as server (for its names and addresses) and as client."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(
            subject=_name(subject), issuer=self._certificate.subject, public_key=key.public_key()
        )
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in subject.names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in subject.addresses]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key))

    def _builder(
        self, *, subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - BACKDATE)
            .not_valid_after(self._now + LIFETIME)
        )


def signing_key() -> bytes:
    """Return a new private key (PEM) for ServiceAccount tokens; the apiserver also verifies with it."""
    return _private_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def write_pair(pair: Pair, *, directory: Path, name: str) -> PairFiles:
    """Write `name.crt` and `name.key` (mode 0600) below `directory`."""
    files = PairFiles(certificate=directory / f"{name}.crt", key=directory / f"{name}.key")
    files.certificate.write_bytes(pair.certificate)
    write_secret(files.key, pair.key)
    return files


def write_secret(path: Path, content: bytes) -> None:
    """Write `content` so that it was never readable by others, not even for a moment."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def issue_files(authority: Authority, subject: Subject, *, directory: Path, name: str) -> PairFiles:
    """Sign for `subject` and write the pair."""
    return write_pair(authority.issue(subject), directory=directory, name=name)


def server_names(extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names by which pods and people reach the apiserver."""
    return (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        *extra,
    )


def _name(subject: Subject) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in subject.organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
