# SPDX-License-Identifier: Apache-2.0
"""Verifies OpenSSF model-signing v1 signatures and tells which digests were signed, and by whom. Offline.

What is verified is the library's business; that the files have those digests is the loader's, which reads each of
them once: so the library's inner steps are used, since its outer one reads a whole folder. A bundle is hostile
until it is verified: whatever the library trips over means that it is not valid.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    NameOID,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_der_x509_certificate,
)
from model_signing._signing import sign_certificate, sign_ec_key, sign_sigstore, sign_sigstore_pb
from model_signing.manifest import Manifest
from OpenSSL.crypto import X509StoreContextError
from sigstore.errors import VerificationError

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.paths import unsafe_path
from nimblet_loader.contract import Signature, Signer

MAX_SIGNED_FILES: Final = 1024
_SHA256_BYTES: Final = 32


@dataclass(frozen=True)
class Signed:
    """What a valid signature covers: SHA-256 by path; and who made it."""

    digests: dict[str, str]
    signer: Signer


def verify_signature(signature: Signature, now: datetime) -> Signed:
    """Return what was signed, or raise SourceError: invalid, of another signer, or by an expired certificate."""
    verify = {"Key": _verify_key, "Certificate": _verify_certificate, "Sigstore": _verify_sigstore}
    try:
        manifest, name = verify[signature.method](signature, now)
        digests = _digests(manifest)
    except SourceError:
        raise
    except Exception as error:  # a hostile bundle may trip the library anywhere; it fails closed
        raise _invalid(f"it can't be verified ({type(error).__name__})") from error
    return Signed(digests, Signer(method=signature.method, name=name[:256]))


def _verify_key(signature: Signature, _: datetime) -> tuple[Manifest, str]:

    try:
        key = load_pem_public_key(signature.trust.encode())
    except ValueError as error:
        raise _bad_trust("a PEM public key") from error
    own = sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    with _in_memory(signature.bundle) as path:
        bundle = sign_sigstore_pb.Signature.read(path)
    named = bundle.bundle.verification_material.public_key
    if named is None:
        raise _mismatch("a signature made with a key", "one made otherwise")
    if named.hint and named.hint != own:
        raise _mismatch(f"a signature by the key {own}", f"one by the key {named.hint[:64]}")
    with _in_memory(signature.trust) as path:
        verifier = sign_ec_key.Verifier(path)
    try:
        return verifier.verify(bundle), f"sha256:{own}"
    except InvalidSignature as error:
        raise _invalid("this key did not make it, or its content was changed") from error


def _verify_certificate(signature: Signature, now: datetime) -> tuple[Manifest, str]:

    try:
        with _in_memory(signature.trust) as path:
            verifier = sign_certificate.Verifier([path])
    except ValueError as error:
        raise _bad_trust("PEM certificates") from error
    with _in_memory(signature.bundle) as path:
        bundle = sign_sigstore_pb.Signature.read(path)
    chain = bundle.bundle.verification_material.x509_certificate_chain
    if chain is None or not chain.certificates:
        raise _mismatch("a signature made with a certificate", "one made otherwise")
    certificates = [load_der_x509_certificate(item.raw_bytes) for item in chain.certificates]
    try:
        manifest = verifier.verify(bundle)
    except X509StoreContextError as error:
        raise _mismatch("a certificate of the given roots", f"another ({str(error)[:120]})") from error
    except InvalidSignature as error:
        raise _invalid("its certificate's key did not make it, or its content was changed") from error
    # The library looks at the moment the certificate began; we, at now: an expired signer is trusted no more.
    for certificate in certificates:
        _check_period(certificate, now)
    if signature.identity is not None and signature.identity not in _names(certificates[0]):
        raise _mismatch(f"the signer {quoted(signature.identity)}", _shown(certificates[0]))
    return manifest, certificates[0].subject.rfc4514_string() or _shown(certificates[0])


def _verify_sigstore(signature: Signature, _: datetime) -> tuple[Manifest, str]:

    identity, issuer = signature.identity or "", signature.issuer or ""
    try:
        with _in_memory(signature.trust) as path:
            verifier = sign_sigstore.Verifier(identity=identity, oidc_issuer=issuer, trust_config=path)
    except Exception as error:
        raise _bad_trust("sigstore's trust configuration as JSON") from error
    with _in_memory(signature.bundle) as path:
        bundle = sign_sigstore.Signature.read(path)
    try:
        return verifier.verify(bundle), identity
    except VerificationError as error:
        raise _mismatch(f"a signature by {quoted(identity)} of {quoted(issuer)}", str(error)[:200]) from error


def _digests(manifest: Manifest) -> dict[str, str]:
    """Return path → SHA-256 of the signed files, in a form that the loader can check while it streams."""
    kind = manifest.serialization_type
    if kind.get("method") != "files" or kind.get("hash_type") != "sha256":
        raise _invalid(
            f"it is over {quoted(str(kind.get('method')))} hashed by {quoted(str(kind.get('hash_type')))}; "
            "only whole files hashed by sha256 are read"
        )
    digests: dict[str, str] = {}
    for item in manifest.resource_descriptors():
        flaw = unsafe_path(item.identifier)
        if flaw is not None:
            raise SourceError(
                Reason.UnsafePath,
                f"The signature names a file {quoted(item.identifier)}: {flaw}. Sign plain files of one folder.",
            )
        if item.digest.algorithm != "sha256" or len(item.digest.digest_value) != _SHA256_BYTES:
            raise _invalid(f"the digest of {quoted(item.identifier)} is no sha256")
        digests[item.identifier] = item.digest.digest_hex
    if not 0 < len(digests) <= MAX_SIGNED_FILES:
        raise _invalid(f"it is over {len(digests)} files; 1 to {MAX_SIGNED_FILES} are read")
    return digests


def _check_period(certificate: Certificate, now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now <= ends:
        raise SourceError(
            Reason.CertificateExpired,
            f"Expected a certificate that is valid now; {_shown(certificate)} is from {begins:%Y-%m-%d} to "
            f"{ends:%Y-%m-%d}. Have the model signed again.",
        )


def _names(certificate: Certificate) -> frozenset[str]:
    common = [str(item.value) for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        other = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return frozenset(common)
    kinds = (RFC822Name, UniformResourceIdentifier, DNSName)
    return frozenset(common) | {name for kind in kinds for name in other.get_values_for_type(kind)}


def _shown(certificate: Certificate) -> str:
    return quoted(", ".join(sorted(_names(certificate))) or certificate.subject.rfc4514_string())


@contextmanager
def _in_memory(text: str) -> Iterator[Path]:
    """Give the library, which reads files, one that is on no disk: the container's own is read-only."""
    descriptor = os.memfd_create("nimblet-signature")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(text.encode())
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _invalid(why: str) -> SourceError:
    return SourceError(
        Reason.SignatureInvalid,
        f"Expected a valid signature by OpenSSF model-signing v1; {why}. Sign the model again (nimblet sign).",
    )


def _mismatch(expected: str, found: str) -> SourceError:
    return SourceError(
        Reason.SignerMismatch,
        f"Expected {expected}; found {found}. Give the signature of whom you trust, or correct "
        "integrity.signature.",
    )


def _bad_trust(what: str) -> SourceError:
    return SourceError(
        Reason.SignatureInvalid,
        f"Expected {what} to verify the signature with; found something else. Correct the ConfigMap that "
        "integrity.signature names.",
    )
