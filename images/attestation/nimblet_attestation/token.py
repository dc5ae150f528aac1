# SPDX-License-Identifier: Apache-2.0
"""Whether a token proves what is asked: signed by a pinned key, in time, of good evidence, and of this guest.

Everything is refused that is not shown. Keys and addresses that the token itself brings (jwk, jku, x5c, x5u) are
not looked at.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import jwt
from jwt.exceptions import InvalidSignatureError, PyJWTError
from pydantic import ValidationError

from nimblet_attestation.claims import AFFIRMING, CPU, Appraisal, Claims, RuntimeData, appraisal, pointed
from nimblet_attestation.demands import Demands
from nimblet_attestation.flaws import Flaw, Refused
from nimblet_attestation.keys import ALGORITHMS, Jwk, VerifierKey

MAX_TOKEN: Final = 65_536
"""Characters. Trustee's tokens have some thousands, each device adds as much."""
LEEWAY_SECONDS: Final = 60
"""By how much two clocks may differ."""
UNCHECKED: Final = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
"""What the library would judge by its own clock, or knows nothing of."""


@dataclass(frozen=True, kw_only=True)
class Proven:
    """What a token showed. `key` is the guest's, to which the hardware's report is bound."""

    verifier: str
    tee: str
    key: Jwk
    nonce: str
    issued: int
    expires: int
    evidence_sha256: str
    """Digest of all that the verifier tells of the evidence."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What the guest itself put into the report; None where only somebody else can know it."""

    nonce: str | None = None
    key: Jwk | None = None


UNBOUND: Final = Bound()


def verify_token(token: str, demands: Demands, *, now: datetime, bound: Bound = UNBOUND) -> Proven:
    """Return what a token proves; Refused names the first thing that is missing or wrong."""
    key, payload = _signed(token, demands.keys)
    claims = _claims(payload)
    _in_time(claims, now=int(now.timestamp()))
    devices = {name: appraisal(item) for name, item in claims.submods.items()}
    guest = _affirming(devices, demands)
    _matches(devices, guest, demands)
    told = _bound(guest, bound)
    text = json.dumps(claims.submods, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Proven(
        verifier=key.name,
        tee=guest.tee,
        key=told.tee_pubkey,
        nonce=told.nonce,
        issued=claims.iat,
        expires=claims.exp,
        evidence_sha256=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(),
    )


def _signed(token: str, keys: tuple[VerifierKey, ...]) -> tuple[VerifierKey, Mapping[str, object]]:
    """Return the key that signed, and the payload, which nobody has looked at before."""
    algorithm, kid = read_header(token)
    named = [key for key in keys if kid is None or kid in (key.kid, key.thumbprint)]
    if not named:
        raise Refused(Flaw.VERIFIER_UNKNOWN, "The token names a key that is none of the pinned ones.")
    fitting = [key for key in named if algorithm in key.algorithms]
    if not fitting:
        raise Refused(Flaw.ALGORITHM_REFUSED, f"The token is signed by {algorithm}, which no pinned key can do.")
    for key in fitting:
        payload = checked(token, key, algorithm)
        if payload is not None:
            return key, payload
    raise Refused(Flaw.TOKEN_SIGNATURE_INVALID, "No pinned key has signed the token.")


def read_header(token: str) -> tuple[str, str | None]:
    """Return a token's algorithm and the name of its key, if it gives one; Refused where it can't be used."""
    if len(token) > MAX_TOKEN:
        raise Refused(Flaw.TOKEN_MALFORMED, f"The token is longer than {MAX_TOKEN} characters.")
    try:
        header = jwt.get_unverified_header(token)
    except (PyJWTError, RecursionError, ValueError) as error:
        raise Refused(Flaw.TOKEN_MALFORMED, "What should be a token is no signed JSON Web Token.") from error
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        allowed = ", ".join(sorted(ALGORITHMS))
        raise Refused(Flaw.ALGORITHM_REFUSED, f"The token's algorithm is none of {allowed}.")
    if "crit" in header or header.get("b64", True) is not True or not (kid is None or isinstance(kid, str)):
        raise Refused(Flaw.TOKEN_MALFORMED, "The token's header asks for what is not understood.")
    return algorithm, kid


def checked(token: str, key: Jwk, algorithm: str) -> Mapping[str, object] | None:
    """Return the payload of a token that the key has signed, None where it has not."""
    try:
        found = jwt.decode(token, key.public_key(), algorithms=[algorithm], options=dict(UNCHECKED))  # type: ignore[arg-type]
    except InvalidSignatureError:
        return None
    except (PyJWTError, RecursionError, ValueError) as error:
        raise Refused(Flaw.TOKEN_MALFORMED, "The token's payload is no JSON object.") from error
    return found


def _claims(payload: Mapping[str, object]) -> Claims:
    try:
        return Claims.model_validate(payload)
    except (ValidationError, RecursionError) as error:
        found = error.errors()[0]["loc"][0] if isinstance(error, ValidationError) else "its nesting"
        message = f"The token is no attestation result with iat, exp and submods: see {found}."
        raise Refused(Flaw.TOKEN_MALFORMED, message) from error


def _in_time(claims: Claims, *, now: int) -> None:
    if claims.exp <= now - LEEWAY_SECONDS or claims.exp <= claims.iat:
        raise Refused(Flaw.TOKEN_EXPIRED, "The token has expired.")
    if max(claims.iat, claims.nbf or 0) > now + LEEWAY_SECONDS:
        raise Refused(Flaw.TOKEN_NOT_YET_VALID, "The token is of the future; compare the clocks.")


def _affirming(devices: Mapping[str, Appraisal], demands: Demands) -> Appraisal:
    """Return the guest's own appraisal, where the verifier affirms all devices and they are what is asked for."""
    bad = sorted(name for name, device in devices.items() if device.status not in AFFIRMING)
    guest = devices.get(CPU)
    if bad or guest is None:
        found = f"the verifier does not affirm {', '.join(bad[:5])}" if bad else f"it tells nothing of {CPU}"
        raise Refused(Flaw.NOT_AFFIRMING, f"The token proves no good state: {found}.")
    if guest.tee not in demands.tees:
        message = f"The evidence is not of {' or '.join(demands.tees)}."
        raise Refused(Flaw.TECHNOLOGY_MISMATCH, message)
    others = [device for name, device in devices.items() if name != CPU]
    if demands.devices and not any(device.tee in demands.devices for device in others):
        message = f"The token tells of no device of {' or '.join(demands.devices)}."
        raise Refused(Flaw.TECHNOLOGY_MISMATCH, message)
    return guest


def _matches(devices: Mapping[str, Appraisal], guest: Appraisal, demands: Demands) -> None:
    """Compare with the reference values and the initdata."""
    for wanted in demands.references:
        device = devices.get(wanted.device)
        found = pointed(device.claims, wanted.pointer) if device is not None else None
        if found is None or found.lower() not in {value.lower() for value in wanted.values}:
            what = "is missing" if found is None else "is none of the reference values"
            message = f"{wanted.device}{wanted.pointer} {what}."
            raise Refused(Flaw.REFERENCE_MISMATCH, message)
    if demands.initdata is not None and not _same_initdata(guest.init_data, demands.initdata):
        raise Refused(Flaw.INITDATA_MISMATCH, "The guest was not started with the policy's initdata.")


FIELDS: Final = frozenset({64, 96, 128})
"""Digits of the hardware's fields: SNP's hostdata, TDX's mr_config_id, SGX's CONFIGID (Trustee, initdata.md)."""


def _same_initdata(found: object, wanted: str) -> bool:
    """Compare a hardware field with a digest, which is cut or filled with zeros at its end to fit."""
    if not isinstance(found, str) or len(found) not in FIELDS:
        return False
    return found.lower() == wanted[: len(found)].ljust(len(found), "0")


def _bound(guest: Appraisal, bound: Bound) -> RuntimeData:
    try:
        told = RuntimeData.model_validate(guest.runtime_data)
    except ValidationError as error:
        message = "The token has no nonce and public key of the guest that its report is bound to."
        raise Refused(Flaw.KEY_MISMATCH, message) from error
    if bound.nonce is not None and told.nonce != bound.nonce:
        raise Refused(Flaw.NONCE_MISMATCH, "The token answers another challenge.")
    if bound.key is not None and told.tee_pubkey.members != bound.key.members:
        raise Refused(Flaw.KEY_MISMATCH, "The token is bound to another key than this guest's.")
    return told
