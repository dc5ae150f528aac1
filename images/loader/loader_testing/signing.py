# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and signatures for tests, made by the library that also signs for users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from model_signing._hashing.hashing import Digest
from model_signing._signing.sign_certificate import Signer as CertificateSigner
from model_signing._signing.sign_ec_key import Signer as KeySigner
from model_signing._signing.sign_sigstore_pb import Signer as AnySigner
from model_signing._signing.signing import Payload
from model_signing.manifest import FileManifestItem, Manifest, SerializationType

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = "builds@models.example"


def a_key() -> EllipticCurvePrivateKey:
    """Return a new key."""
    return generate_private_key(SECP256R1())


def public_pem(key: EllipticCurvePrivateKey) -> str:
    """Return what a user puts into a ConfigMap to trust the key."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """Return the certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


def a_certificate(
    name: str, issuer: Issued | None = None, *, ends: datetime = BEGINS + timedelta(days=30)
) -> Issued:
    """Return a root, or a signer's certificate by an issuer with an email address."""
    key = a_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    is_root = issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINS)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(key_usage(root=is_root), critical=True)
    )
    if not is_root:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(SIGNER)]), critical=False)
    signed = builder.sign(key if issuer is None else issuer.key, SHA256())
    return Issued(signed, key)


def key_usage(*, root: bool) -> x509.KeyUsage:
    """Return what a root's key, or a signer's, may be used for."""
    return x509.KeyUsage(
        digital_signature=not root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=root,
        crl_sign=root,
        encipher_only=False,
        decipher_only=False,
    )


def sign_with_key(digests: Mapping[str, str], key: EllipticCurvePrivateKey, folder: Path) -> str:
    """Return the signature of files, named with their digests, by a key; `folder` takes the key's file."""
    return _signed(digests, KeySigner(_written(folder, "key.pem", _private_pem(key))), folder)


def sign_with_certificate(
    digests: Mapping[str, str], signer: Issued, folder: Path, *, chain: Sequence[Issued] = ()
) -> str:
    """Return the signature of files by a certificate's key; `chain` goes with it."""
    key = _written(folder, "key.pem", _private_pem(signer.key))
    leaf = _written(folder, "leaf.pem", signer.pem)
    # the library wants a chain: the certificate itself where there is no other
    others = [_written(folder, f"chain-{at}.pem", item.pem) for at, item in enumerate(chain or [signer])]
    return _signed(digests, CertificateSigner(key, leaf, others), folder)


def manifest_of(digests: Mapping[str, str], *, hash_type: str = "sha256") -> Manifest:
    """Return the library's form of files and digests."""
    items = [
        FileManifestItem(path=PurePosixPath(path), digest=Digest(hash_type, bytes.fromhex(digest)))
        for path, digest in digests.items()
    ]
    kind = {"method": "files", "hash_type": hash_type, "allow_symlinks": False}
    return Manifest("model", items, SerializationType.from_args(kind))


def _signed(digests: Mapping[str, str], signer: AnySigner, folder: Path) -> str:
    path = folder / "model.sig"
    signer.sign(Payload(manifest_of(digests))).write(path)
    return path.read_text()


def _written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _private_pem(key: EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
