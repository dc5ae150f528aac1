# SPDX-License-Identifier: Apache-2.0
"""The kind of hardware that a model asks for, and what was chosen for it. Shape and local validity only.

Which profiles there are, and whether a node has what one needs, is decided in plan/.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import SpecModel, StatusModel
from nimblet.api.definition import Rule, rules

PROFILE_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
MAX_DEVICES: Final = 16
MAX_ALTERNATIVES: Final = 12

HardwareClass = Literal["cpu", "xeon", "nvidia", "gaudi", "intel-gpu", "amd"]
Sharing = Literal["Whole", "Partition", "Shared"]
ProfileName = Annotated[str, StringConstraints(pattern=PROFILE_PATTERN, max_length=40)]

DEVICELESS_RULE = Rule(
    rule="!(self.profile in ['cpu', 'xeon']) || (!has(self.count) && !has(self.sharing))",
    message="cpu and xeon have no devices: remove count and sharing, or name another profile",
)
SEVERAL_RULE = Rule(
    rule="!has(self.count) || self.count == 1 || !has(self.sharing) || self.sharing == 'Whole'",
    message="only whole devices come in numbers: a server uses one partition, and shares one device",
)


class Hardware(SpecModel):
    """The kind of node, and the devices of it."""

    model_config = ConfigDict(json_schema_extra=rules(DEVICELESS_RULE, SEVERAL_RULE))

    profile: ProfileName = Field(
        default="auto",
        description="`cpu`, `xeon` (AVX-512 by the nodes' labels; whole cores), `nvidia`, `gaudi`, `intel-gpu`, "
        "`amd`, or one of the administrator's own. `auto` takes the least that holds the model at its speed; it "
        "is decided once for a spec, shown with what was not chosen in status.resolved.hardware, and kept.",
    )
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_DEVICES)] | None = Field(
        default=None,
        description="Devices of each replica, on one node. One when absent; with it `auto` takes a device.",
    )
    sharing: Sharing | None = Field(
        default=None,
        description="Whole devices, a Partition (MIG) of one, or a device Shared with other pods (time slices, "
        "MPS: memory is not kept apart). Whole or a Partition when absent: the least that holds the model.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.profile in ("cpu", "xeon") and (self.count is not None or self.sharing is not None):
            raise ValueError(DEVICELESS_RULE.message)
        if (self.count or 1) > 1 and self.sharing not in (None, "Whole"):
            raise ValueError(SEVERAL_RULE.message)
        return self


class Alternative(StatusModel):
    """A profile that was not chosen."""

    profile: str = Field(description="Name of the profile.")
    resource: str = Field(default="", description="Extended resource that was looked at; empty without devices.")
    fits: bool = Field(default=False, description="It would do: a runner-up.")
    why: str = Field(description="Why it was not chosen.")


class NodeLabelStatus(StatusModel):
    """A condition on a label of nodes, as in a pod's node affinity."""

    key: str = Field(description="Label that is looked at.")
    operator: Literal["In", "NotIn", "Gt"] = Field(description="How `values` are compared.")
    values: Annotated[list[str], Field(max_length=16)] = Field(description="Values that are compared.")


class HardwareStatus(StatusModel):
    """The hardware that was chosen, once for a spec: the pods follow this record, not the labels of today."""

    why: str = Field(default="", description="Why it was chosen.")
    hardware_class: str = Field(default="", alias="class", description="Kind of hardware of the profile.")
    resource: str = Field(default="", description="Extended resource that a replica has; empty without devices.")
    count: int = Field(default=0, description="Devices of a replica.")
    sharing: str = Field(default="", description="Whole, Partition or Shared; empty without devices.")
    node_labels: Annotated[list[NodeLabelStatus], Field(max_length=4)] = Field(
        default_factory=list,
        description="What nodes must show beside the profile's labels, such as device memory.",
    )
    needs: Annotated[list[str], Field(max_length=8)] = Field(
        default_factory=list,
        description="What the profile asks for beyond restricted Pod Security; empty where it needs no more.",
    )
    alternatives: Annotated[list[Alternative], Field(max_length=MAX_ALTERNATIVES)] = Field(
        default_factory=list, description="What was not chosen and why, the runners-up first."
    )
    proof: str = Field(
        default="", description="`Planned`: the project has run nothing on this kind of hardware; empty on CPU."
    )
    decided_for: str = Field(default="", description="Hash of the spec that this was decided for.")
    kept: bool = Field(
        default=False,
        description="Pods of it have had a node: it stays until the spec changes, whatever labels say.",
    )
