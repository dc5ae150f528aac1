# SPDX-License-Identifier: Apache-2.0
"""Base models and shared fragments of the API. Shape and local validity only; no I/O."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
"""Subset of resource.Quantity that users write: no exponents, no signs."""
DURATION_PATTERN: Final = r"^[1-9][0-9]{0,4}(m|h|d)$"

Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN, max_length=6)]


class SpecModel(BaseModel):
    """Base of everything a user writes: frozen, camelCase on the wire, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, strict=False
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: object) -> object:
        """Drop nulls of known fields, as the API server does before it applies defaults."""
        if not isinstance(data, dict):
            return data
        known = {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


class StatusModel(BaseModel):
    """Base of everything we write and read back: lenient, since a newer operator may have written more."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Parsed(SpecModel):
    """A parsed resource of ours: what of its metadata planning may see; each kind adds spec and status."""

    model_config = ConfigDict(extra="ignore")

    name: str
    namespace: str
    uid: str
    generation: int
    deleting: bool = False
    restarted_at: str = ""
    """Value of the annotation that asks for a restart; any text, another text asks again."""


class PodsStatus(StatusModel):
    """The pods of a kind that has /scale."""

    replicas: int = Field(default=0, ge=0, description="Pods that exist.")
    ready_replicas: int = Field(default=0, ge=0, description="Pods that answer.")
    updated_replicas: int = Field(default=0, ge=0, description="Pods of the current spec.")
    selector: str = Field(default="", description="Label selector of the pods, for /scale.")


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One aspect of the observed state, as in the Kubernetes API conventions."""

    type: Annotated[str, StringConstraints(max_length=316)] = Field(description="Name of the aspect.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description="One CamelCase word for programs; docs/failure-modes.md lists them."
    )
    message: Annotated[str, StringConstraints(max_length=32768)] = Field(
        description="What was observed and what to do next, for people."
    )
    observed_generation: int = Field(
        default=0, ge=0, description="metadata.generation that this condition was decided for."
    )
    last_transition_time: datetime = Field(description="When status last changed.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
"""The conditions of a status, one of each type."""
Quantity = Annotated[str, StringConstraints(pattern=QUANTITY_PATTERN, max_length=20)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class ModelRef(SpecModel):
    """A CompactModel in the same namespace."""

    name: ObjectName = Field(description="Name of a CompactModel in the resource's own namespace.")


class PolicyRef(SpecModel):
    """A TEEPolicy."""

    name: ObjectName = Field(description="Name of a TEEPolicy; it must exist, else no pod is made.")


class SecretRef(SpecModel):
    """A Secret in the same namespace."""

    name: ObjectName = Field(description="Name of a Secret in the resource's own namespace.")


class ConfigMapKeyRef(SpecModel):
    """One key of a ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of a ConfigMap in the resource's own namespace.")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = Field(
        description="Key of the ConfigMap that holds the text."
    )


def duration_of(text: str) -> timedelta:
    """Return a duration such as 90m, 26h or 7d."""
    number = int(text[:-1])
    unit = text[-1]
    return timedelta(minutes=number) if unit == "m" else timedelta(hours=number * (24 if unit == "d" else 1))
