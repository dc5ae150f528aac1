# SPDX-License-Identifier: Apache-2.0
"""How a pod shows its token to the operator: together with a proof that it holds the key the token is bound to.

The operator's nonce can't be in the hardware's report, whose challenge the key broker gives. The guest signs it
instead, with the key that the report is bound to: who can sign holds that key now.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.exceptions import PyJWTError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from nimblet_attestation.claims import Seconds
from nimblet_attestation.demands import Contract, Demands
from nimblet_attestation.flaws import Flaw, Refused
from nimblet_attestation.keys import jwk_of
from nimblet_attestation.token import MAX_TOKEN, Proven, checked, read_header, verify_token

NONCE_PATTERN: Final = r"^[A-Za-z0-9_-]{43}$"
"""32 bytes as base64url."""
PROOF_TYPE: Final = "nimblet-proof+jwt"
"""What the key signs is nothing else: no signature of it can be taken for another purpose (RFC 8725, 3.11)."""
MAX_REPORT: Final = 2 * MAX_TOKEN

Nonce = Annotated[str, StringConstraints(pattern=NONCE_PATTERN)]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class _Expiry(BaseModel):
    exp: Seconds


class Report(Contract):
    """The answer of a pod's `/attestation`."""

    version: Literal[1] = 1
    token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN)]
    proof: Annotated[str, Field(min_length=1, max_length=8192)]


class _Proof(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    nonce: Nonce
    ath: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    pod: Annotated[str, StringConstraints(max_length=64)]


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What the operator asks one pod: a nonce of its own making, and whose answer it wants."""

    nonce: str
    pod_uid: str


def make_report(token: str, key: PrivateKey, challenge: Challenge) -> Report:
    """Return a token with the proof that `key` answers the challenge."""
    claims = {"nonce": challenge.nonce, "ath": _hash(token), "pod": challenge.pod_uid}
    algorithm = jwk_of(key.public_key()).algorithms[0]
    proof = jwt.encode(claims, key, algorithm=algorithm, headers={"typ": PROOF_TYPE})
    return Report(token=token, proof=proof)


def verify_report(text: str, demands: Demands, challenge: Challenge, *, now: datetime) -> Proven:
    """Return what a pod's report proves; Refused names the first thing that is missing or wrong."""
    try:
        report = Report.model_validate_json(text if len(text) <= MAX_REPORT else "")
    except (ValidationError, RecursionError) as error:
        message = "The pod's answer is no report of a token and its proof."
        raise Refused(Flaw.TOKEN_MALFORMED, message) from error
    proven = verify_token(report.token, demands, now=now)
    algorithm, _ = read_header(report.proof)
    fits = algorithm in proven.key.algorithms and jwt.get_unverified_header(report.proof).get("typ") == PROOF_TYPE
    payload = checked(report.proof, proven.key, algorithm) if fits else None
    if payload is None:
        raise Refused(Flaw.KEY_MISMATCH, "The pod does not hold the key that the token is bound to.")
    try:
        proof = _Proof.model_validate(payload)
    except (ValidationError, RecursionError) as error:
        raise Refused(Flaw.TOKEN_MALFORMED, "The pod's proof is not one of ours.") from error
    if proof.nonce != challenge.nonce or proof.pod != challenge.pod_uid:
        raise Refused(Flaw.NONCE_MISMATCH, "The pod's proof answers another challenge.")
    if proof.ath != _hash(report.token):
        raise Refused(Flaw.KEY_MISMATCH, "The pod's proof is of another token.")
    return proven


def told_expiry(text: str) -> int | None:
    """Return when a report says that its token ends; nobody has judged it."""
    try:
        token = Report.model_validate_json(text).token
        return _Expiry.model_validate(jwt.decode(token, options={"verify_signature": False})).exp
    except (ValidationError, PyJWTError, RecursionError, ValueError):
        return None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
