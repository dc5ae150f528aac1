# SPDX-License-Identifier: Apache-2.0
"""Public keys as JSON Web Keys (RFC 7517): those of the verifier, pinned beforehand, and that of a guest.

Only keys with which signatures are checked, of strengths that are no question; never one that a token brings along
as its own signer's.
"""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

MAX_TEXT: Final = 65_536
MIN_RSA_BITS: Final = 2048
CURVES: Final[Mapping[str, str]] = {"P-256": "ES256", "P-384": "ES384"}
"""Curve → the one algorithm that signs with it (RFC 7518, 3.4)."""
RSA_ALGORITHMS: Final = ("PS256", "PS384", "RS256", "RS384")
ALGORITHMS: Final = frozenset({*CURVES.values(), *RSA_ALGORITHMS})
"""Never `none`, and never an HMAC: with one, a public key would do as the secret."""
_PEM: Final = "-----BEGIN PUBLIC KEY-----"

Number = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,1400}$")]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Jwk(BaseModel):
    """A public key, of a curve or RSA. What else a key's JSON has is not read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kty: Literal["EC", "RSA"]
    crv: Literal["P-256", "P-384"] | None = None
    x: Number | None = None
    y: Number | None = None
    n: Number | None = None
    e: Number | None = None

    @model_validator(mode="after")
    def _usable(self) -> "Jwk":
        key = self.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of {key.key_size} bits is too weak: at least {MIN_RSA_BITS}")
        return self

    @property
    def members(self) -> Mapping[str, str]:
        """Return what makes the key (RFC 7638, 3.2)."""
        found = (
            {"crv": self.crv, "kty": self.kty, "x": self.x, "y": self.y}
            if self.kty == "EC"
            else {"e": self.e, "kty": self.kty, "n": self.n}
        )
        return {name: value for name, value in found.items() if value is not None}

    @property
    def thumbprint(self) -> str:
        """Return the key's SHA-256 thumbprint (RFC 7638): its name where it has none."""
        text = json.dumps(self.members, sort_keys=True, separators=(",", ":"))
        return encoded(hashlib.sha256(text.encode()).digest())

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Return what may sign with it, the one that we use first."""
        return (CURVES[self.crv],) if self.crv is not None and self.kty == "EC" else RSA_ALGORITHMS

    def public_key(self) -> PublicKey:
        """Return the key; ValueError where its numbers make none."""
        try:
            made = (
                ECAlgorithm.from_jwk(dict(self.members))
                if self.kty == "EC"
                else RSAAlgorithm.from_jwk(dict(self.members))
            )
        except (PyJWTError, ValueError, KeyError, TypeError) as error:
            raise ValueError("its numbers make no key") from error
        if not isinstance(made, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise ValueError("it is no public key")  # noqa: TRY004 - pydantic tells ValueErrors
        return made


class VerifierKey(Jwk):
    """A key of the verifier. `kid` is the name that its tokens call it by, where they do."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kid: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None

    @property
    def name(self) -> str:
        """Return what it is called in a status."""
        return self.kid or self.thumbprint


class _KeySet(BaseModel):
    keys: Annotated[list[VerifierKey], Field(min_length=1, max_length=8)]


def parse_keys(text: str) -> tuple[VerifierKey, ...] | str:
    """Return the keys of a JWK set (RFC 7517, 5), of one JWK or of a PEM; a text says what is wrong."""
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    if text.lstrip().startswith(_PEM):
        return _from_pem(text)
    try:
        if '"keys"' in text:
            return tuple(_KeySet.model_validate_json(text).keys)
        return (VerifierKey.model_validate_json(text),)
    except ValidationError as error:
        flaws = [f"{'.'.join(str(part) for part in e['loc']) or 'JSON'}: {e['msg']}" for e in error.errors()]
        return f"is no set of public EC (P-256, P-384) or RSA keys: {'; '.join(flaws[:3])}"
    except RecursionError:
        return "is nested too deeply"


def _from_pem(text: str) -> tuple[VerifierKey, ...] | str:
    try:
        key = serialization.load_pem_public_key(text.encode())
        if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            return (VerifierKey.model_validate(jwk_of(key).model_dump()),)
    except (ValueError, ValidationError):
        return "is no PEM of one public EC (P-256, P-384) or RSA key"
    return "is a PEM of another kind of key than EC or RSA"


def jwk_of(key: PublicKey) -> Jwk:
    """Return a public key as JWK; ValueError for one that is too weak or of another curve."""
    made = (
        ECAlgorithm.to_jwk(key, as_dict=True)
        if isinstance(key, ec.EllipticCurvePublicKey)
        else RSAAlgorithm.to_jwk(key, as_dict=True)
    )
    return Jwk.model_validate(made)


def encoded(raw: bytes) -> str:
    """Return base64url without padding (RFC 7515, 2)."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
