# SPDX-License-Identifier: Apache-2.0
"""The parts of Kubernetes objects that the scenarios look at, parsed once at the border. Data only."""

from datetime import datetime
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from nimblet.api.common import Condition
from nimblet.api.compactmodel import CompactModelStatus


class Parsed(BaseModel):
    """Base: camelCase on the wire, unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class OwnerReference(Parsed):
    kind: str
    name: str
    uid: str


class Metadata(Parsed):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: list[OwnerReference] = Field(default_factory=list)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class Thing(Parsed):
    """Any object: its kind and metadata."""

    kind: str
    metadata: Metadata

    @property
    def key(self) -> str:
        """`Kind/name`."""
        return f"{self.kind}/{self.metadata.name}"


class Conditioned(Protocol):
    """The part of a status that every resource of ours has."""

    @property
    def observed_generation(self) -> int:
        """Generation that the status is about."""

    @property
    def conditions(self) -> list[Condition]:
        """Its conditions."""


def condition_of(metadata: Metadata, status: Conditioned, type_: str) -> Condition | None:
    """Return a condition of a status that is about the current spec, or None."""
    if status.observed_generation != metadata.generation:
        return None
    return next((item for item in status.conditions if item.type == type_), None)


def shown_of(condition: Condition | None) -> tuple[str, str]:
    """Return status and reason, ("", "") where there is none."""
    return (condition.status.value, condition.reason) if condition is not None else ("", "")


class Model(Thing):
    """A CompactModel with its status."""

    status: CompactModelStatus = Field(default_factory=CompactModelStatus)

    def condition(self, type_: str) -> Condition | None:
        """Return a condition of the status that is about the current spec, or None."""
        return condition_of(self.metadata, self.status, type_)

    def shown(self, type_: str) -> tuple[str, str]:
        """Return status and reason of a condition, ("", "") where there is none for the current spec."""
        return shown_of(self.condition(type_))


class Generation(Parsed):
    """A generation that an index keeps."""

    name: str
    documents: int = 0


class SourceRead(Parsed):
    """What the last good build read of a source."""

    name: str
    revision: str = ""
    documents: int = 0


class Gate(Parsed):
    """What the golden questions gave."""

    passed: bool = False
    asked: int = 0
    recall: float = 0.0
    failed: list[str] = Field(default_factory=list)


class ResourceStatus(Parsed):
    """What RetrievalIndex and Assistant tell that scenarios look at."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)
    endpoint: str = ""
    key_secret: str = ""
    serving_generation: str = ""
    documents: int = 0
    generations: list[Generation] = Field(default_factory=list)
    sources: list[SourceRead] = Field(default_factory=list)
    gate: Gate | None = None


class Resource(Thing):
    """A RetrievalIndex or an Assistant with its status."""

    status: ResourceStatus = Field(default_factory=ResourceStatus)

    def condition(self, type_: str) -> Condition | None:
        """Return a condition of the status that is about the current spec, or None."""
        return condition_of(self.metadata, self.status, type_)

    def shown(self, type_: str) -> tuple[str, str]:
        """Return status and reason of a condition, ("", "") where there is none for the current spec."""
        return shown_of(self.condition(type_))


class Ended(Parsed):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(Parsed):
    reason: str = ""
    message: str = ""


class Running(Parsed):
    started_at: datetime | None = None


class State(Parsed):
    terminated: Ended | None = None
    waiting: Waiting | None = None
    running: Running | None = None


class ContainerStatus(Parsed):
    name: str
    ready: bool = False
    restart_count: int = 0
    state: State = Field(default_factory=State)
    last_state: State = Field(default_factory=State)


class PodCondition(Parsed):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class PodStatus(Parsed):
    phase: str = ""
    pod_ip: str = Field(default="", alias="podIP")
    conditions: list[PodCondition] = Field(default_factory=list)
    init_container_statuses: list[ContainerStatus] = Field(default_factory=list)
    container_statuses: list[ContainerStatus] = Field(default_factory=list)


class PodSpec(Parsed):
    automount_service_account_token: bool = True
    runtime_class_name: str = ""
    overhead: dict[str, str] = Field(default_factory=dict)
    volumes: list[dict[str, object]] = Field(default_factory=list)


class Pod(Thing):
    spec: PodSpec = Field(default_factory=PodSpec)
    status: PodStatus = Field(default_factory=PodStatus)

    @property
    def ready(self) -> bool:
        """Whether the kubelet calls it ready."""
        found = self.condition("Ready")
        return found is not None and found.status == "True"

    @property
    def restarts(self) -> int:
        """Restarts of all its containers."""
        return sum(item.restart_count for item in self.containers)

    @property
    def containers(self) -> list[ContainerStatus]:
        """Its containers, the init containers first."""
        return [*self.status.init_container_statuses, *self.status.container_statuses]

    def condition(self, type_: str) -> PodCondition | None:
        """Return a condition of the pod, or None."""
        return next((item for item in self.status.conditions if item.type == type_), None)


class Event(Parsed):
    """A core/v1 event."""

    reason: str = ""
    message: str = ""
    type: str = ""
    first_timestamp: datetime | None = None
    event_time: datetime | None = None
    involved_object: dict[str, object] = Field(default_factory=dict)

    @property
    def at(self) -> datetime | None:
        """When it happened first."""
        return self.first_timestamp or self.event_time
