# SPDX-License-Identifier: Apache-2.0
"""The claims of an EAT Attestation Result (EAR, draft-ietf-rats-ear) as Trustee's attestation service writes them.

Two layouts of the evidence are known: one object with the hardware's name as key
(`ear.veraison.annotated-evidence`), and the later split into what the attester claims and what the verifier
established. Both become one form here; nothing is judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from nimblet_attestation.keys import Jwk

CPU: Final = "cpu0"
"""The submodule of the guest itself; further devices are gpu0 and so on (Trustee, attestation_token.md)."""
AFFIRMING: Final = frozenset({"affirming", "2"})
"""The tier of an appraisal that found nothing wrong, as word or number (EAR, 3.2)."""
NOT_HARDWARE: Final = frozenset({"report_data", "runtime_data_claims", "init_data", "init_data_claims"})
"""Keys beside the one that names the hardware."""

Seconds = Annotated[int, Field(strict=True, ge=0, le=2**40)]


class Claims(BaseModel):
    """What is read of a token before it is believed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    iat: Seconds
    exp: Seconds
    nbf: Seconds | None = None
    submods: Annotated[dict[str, dict[str, JsonValue]], Field(min_length=1, max_length=64)]


class RuntimeData(BaseModel):
    """What the guest put into the report: the challenge and its own public key (KBS protocol, Attestation)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    nonce: Annotated[str, Field(min_length=1, max_length=8192)]
    tee_pubkey: Annotated[Jwk, Field(alias="tee-pubkey")]


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """What the verifier tells of one device. `tee` is the hardware's name, "" where none is told."""

    status: str
    tee: str
    claims: JsonValue
    init_data: JsonValue
    runtime_data: JsonValue


def appraisal(submodule: Mapping[str, JsonValue]) -> Appraisal:
    """Return one submodule of a token, of either layout."""
    status = str(submodule.get("ear.status", ""))
    attester, verifier = submodule.get("ear_attester_claims"), submodule.get("ear_verifier_claims")
    if isinstance(attester, dict):
        known = verifier if isinstance(verifier, dict) else {}
        return Appraisal(
            status=status,
            tee=str(attester.get("tee", "")),
            claims=attester.get("claims"),
            init_data=attester.get("init_data"),
            runtime_data=known.get("runtime_data"),
        )
    evidence = submodule.get("ear.veraison.annotated-evidence")
    known = evidence if isinstance(evidence, dict) else {}
    names = sorted(set(known) - NOT_HARDWARE)
    name = names[0] if len(names) == 1 else ""
    return Appraisal(
        status=status,
        tee=name,
        claims=known.get(name),
        init_data=known.get("init_data"),
        runtime_data=known.get("runtime_data_claims"),
    )


def pointed(claims: JsonValue, pointer: str) -> str | None:
    """Return the text, number or truth at a JSON pointer, as text; None where there is none."""
    at = claims
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict) and key in at:
            at = at[key]
        elif isinstance(at, list) and key.isascii() and key.isdigit() and int(key) < len(at):
            at = at[int(key)]
        else:
            return None
    if isinstance(at, bool):
        return "true" if at else "false"
    return str(at) if isinstance(at, str | int | float) else None
