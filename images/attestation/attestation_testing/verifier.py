# SPDX-License-Identifier: Apache-2.0
"""Signs attestation results in the form that Trustee's attestation service documents. It checks no evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from nimblet_attestation.demands import Demands
from nimblet_attestation.keys import Jwk, VerifierKey, jwk_of

LIFETIME: Final = 300
"""Seconds: Trustee's default."""
MEASURED: Final = {"quote": {"body": {"mr_td": "ab" * 48, "debug": False}}, "svn": [3, 5]}


@cache
def new_key(name: str) -> ec.EllipticCurvePrivateKey:  # noqa: ARG001 - tests name the keys that they mean
    """Return a key, the same one for the same name within a run."""
    return ec.generate_private_key(ec.SECP256R1())


def public(name: str) -> Jwk:
    """Return the public half of the key of that name."""
    return jwk_of(new_key(name).public_key())


def tee_pubkey(key: Jwk) -> dict[str, str]:
    """Return a guest's public key as the KBS protocol has it."""
    return {**key.members, "alg": "ECDH-ES+A256KW"}


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Who signs, and what it finds."""

    name: str = "verifier"
    tee: str = "tdx"
    status: str = "affirming"
    claims: Mapping[str, Any] = field(default_factory=lambda: MEASURED)
    init_data: str | None = None
    layout: Literal["annotated", "split"] = "annotated"
    devices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> VerifierKey:
        """Return what is pinned."""
        return VerifierKey.model_validate(public(self.name).model_dump())

    def demands(self, **more: Any) -> Demands:
        """Return demands that its tokens meet."""
        return Demands.model_validate({"keys": [self.key.model_dump()], "tees": [self.tee], **more})

    def payload(self, runtime_data: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
        """Return the claims about a guest with this runtime data."""
        at = int(now.timestamp())
        given = {"init_data": self.init_data} if self.init_data is not None else {}
        if self.layout == "annotated":
            evidence = {
                self.tee: dict(self.claims),
                "report_data": "00" * 64,
                "runtime_data_claims": dict(runtime_data),
                **given,
            }
            told: dict[str, Any] = {"ear.veraison.annotated-evidence": evidence}
        else:
            told = {
                "ear_attester_claims": {"tee": self.tee, "claims": dict(self.claims), **given},
                "ear_verifier_claims": {"runtime_data": dict(runtime_data)},
            }
        return {
            "eat_profile": "tag:github.com,2024:confidential-containers/Trustee",
            "iat": at,
            "exp": at + LIFETIME,
            "submods": {"cpu0": {"ear.status": self.status, **told}, **self.devices},
        }

    def token(self, runtime_data: Mapping[str, Any], *, now: datetime) -> str:
        """Return a signed token; the key stands in its header, as Trustee puts it there."""
        return self.sign(self.payload(runtime_data, now=now))

    def sign(self, payload: Mapping[str, Any], **header: Any) -> str:
        """Sign any claims."""
        return jwt.encode(
            dict(payload),
            new_key(self.name),
            algorithm="ES256",
            headers={"jwk": dict(self.key.members), **header},
        )
