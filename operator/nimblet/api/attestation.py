# SPDX-License-Identifier: Apache-2.0
"""How a TEEPolicy has a place proved, and what of that stands in a status. Shape and local validity only."""

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import ConfigMapKeyRef, Sha256, SpecModel, StatusModel
from nimblet.api.definition import Rule, rules

Mode = Literal["Hardware", "Simulated"]

VERIFIER_RULE: Final = Rule(
    rule="has(self.keys) != has(self.configMapRef)",
    message="verifier names its keys in keys or in configMapRef, one of them",
)

ClaimValue = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Initdata(SpecModel):
    """A pre-built initdata document, put unchanged on every pod that a policy binds."""

    config_map_ref: ConfigMapKeyRef = Field(
        description="The annotation's value as it is, base64 of gzip of TOML, in a ConfigMap of the operator's "
        "own namespace."
    )
    sha256: Sha256 = Field(
        description="SHA-256 of the TOML document; another document is refused, and the digest stands in the "
        "status of what is bound."
    )


class Verifier(SpecModel):
    """Whose signature a token must have. Keys that a token brings along, or names by an address, count nothing."""

    model_config = ConfigDict(json_schema_extra=rules(VERIFIER_RULE))

    keys: Annotated[str, StringConstraints(min_length=1, max_length=16384)] | None = Field(
        default=None, description="Public keys, EC (P-256, P-384) or RSA: a JWK set, one JWK, or one PEM."
    )
    config_map_ref: ConfigMapKeyRef | None = Field(
        default=None, description="The same in a ConfigMap of the operator's own namespace."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.keys is None) == (self.config_map_ref is None):
            raise ValueError(VERIFIER_RULE.message)
        return self


class KeyBroker(SpecModel):
    """A Key Broker Service (Trustee, KBS protocol 0.4.0) that hands evidence to the verifier."""

    url: Annotated[
        str, StringConstraints(pattern=r"^https?://[^\s/?#@]{1,253}(/[^\s?#]{0,200})?$", max_length=512)
    ] = Field(description="Its address as the guests reach it. Over http anybody on the way may refuse for it.")
    ca_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description="Roots of its certificate as PEM, in a ConfigMap of the operator's own namespace; the public "
        "ones when absent.",
    )


class ReferenceValue(SpecModel):
    """A claim of the evidence, and the values of it that are good."""

    device: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}[0-9]{1,2}$", max_length=18)] = Field(
        default="cpu0", description="Device as the token calls it: cpu0 is the guest itself, gpu0 its first GPU."
    )
    claim: Annotated[str, StringConstraints(pattern=r"^(/[^/]+){1,8}$", max_length=1032)] = Field(
        description="JSON pointer into the verifier's claims about the device, such as /quote/body/mr_td of TDX "
        "or /measurement of SNP."
    )
    values: Annotated[list[ClaimValue], Field(min_length=1, max_length=16)] = Field(
        description="Good values; letter case does not count."
    )


class Attestation(SpecModel):
    """How the place is proved."""

    mode: Mode = Field(
        description="Hardware: no pod starts in its place without a token of the verifier about real hardware; "
        "needs verifier, and initdata or referenceValues. Simulated: nothing is proved and everything says so; "
        "with a verifier the gate runs, and takes tokens of sample evidence too."
    )
    initdata: Initdata | None = Field(
        default=None, description="Initdata of the pods; none when absent. A token must name its digest."
    )
    verifier: Verifier | None = Field(
        default=None, description="Who signs tokens. With it the pods of a Required policy get a gate."
    )
    kbs: KeyBroker | None = Field(
        default=None,
        description="Where the gate has its evidence judged. When absent it takes the token of the guest's own "
        "Attestation Agent, which asks the broker that its initdata names.",
    )
    reference_values: Annotated[list[ReferenceValue], Field(max_length=32)] = Field(
        default_factory=list, description="What the verifier must have found, each of them."
    )


class AttestationStatus(StatusModel):
    """What the operator itself checked of the pods' tokens. In the status of what is bound."""

    mode: str = Field(default="", description="Simulated: whatever else stands here proves no hardware.")
    verifier: str = Field(default="", description="Key that signed: its kid, else its SHA-256 thumbprint.")
    evidence_sha256: str = Field(
        default="", description="SHA-256 of what the verifier tells of the evidence of the first pod by name."
    )
    nonce_time: datetime | None = Field(
        default=None, description="When the operator issued the oldest nonce that a pod has answered."
    )
    expiry_time: datetime | None = Field(default=None, description="When the first of the tokens expires.")
    proved_pods: int = Field(default=0, description="Pods whose token passed all checks.")
