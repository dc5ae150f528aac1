# SPDX-License-Identifier: Apache-2.0
"""What a proof must hold, and how the gate in a pod gets one: rendered by the operator, read in the guest.

Nothing in it is secret: it stands in the pod's environment.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from nimblet_attestation.keys import VerifierKey

VERSION: Final = 1
ENVIRONMENT: Final = "NIMBLET_ATTESTATION"
"""Variable of the gate's container that holds a `Gate` as JSON."""
MAX_KEYS: Final = 8
MAX_REFERENCES: Final = 32

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Contract(BaseModel):
    """What operator and guest agree on: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Reference(Contract):
    """A claim of the evidence and the values that are good.

    `pointer` is a JSON pointer (RFC 6901) into what the verifier tells of the device's evidence, such as
    `/quote/body/mr_td` of TDX or `/measurement` of SNP.
    """

    device: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}[0-9]{1,2}$")] = "cpu0"
    pointer: Annotated[str, StringConstraints(pattern=r"^(/[^/]+){1,8}$", max_length=1032)]
    values: Annotated[tuple[Text, ...], Field(min_length=1, max_length=16)]


class Demands(Contract):
    """What a token must hold to prove a place."""

    keys: Annotated[tuple[VerifierKey, ...], Field(min_length=1, max_length=MAX_KEYS)]
    """Keys of the verifier; a token signed by any other proves nothing."""
    tees: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Names by which the verifier may call the guest's hardware."""
    devices: tuple[Text, ...] = ()
    """Names by which it may call a further device; with any of them the token must tell of one."""
    references: Annotated[tuple[Reference, ...], Field(max_length=MAX_REFERENCES)] = ()
    initdata: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64,128}$")] | None = None
    """Digest of the initdata document by the algorithm that it names itself."""


class Kbs(Contract):
    """A Key Broker Service, and the roots that its certificate must have; without any, those of the public."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]{1,253}(/[^\s?#]{0,200})?$")]
    ca: Annotated[str, StringConstraints(max_length=32_768)] | None = None


class Gate(Contract):
    """What the gate of one pod is to do. Without `kbs` the token is asked of the guest's Attestation Agent."""

    version: Literal[1] = 1
    mode: Literal["Hardware", "Simulated"]
    demands: Demands
    kbs: Kbs | None = None
