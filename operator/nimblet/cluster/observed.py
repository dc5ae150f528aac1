# SPDX-License-Identifier: Apache-2.0
"""Objects as the API server shows them, reduced to the fields that facts need. Parsing only.

Lenient on purpose: unknown fields are ignored, absent ones get an empty value, since these are other people's
types. Everything of the cluster that the facts use goes through here, so that no dict is picked at later.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Observed(BaseModel):
    """Base: frozen, camelCase, lenient."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


T = TypeVar("T")


def _no_null(value: object) -> object:
    return {} if value is None else value


def _no_null_list(value: object) -> object:
    return () if value is None else value


StringMap = Annotated[dict[str, str], BeforeValidator(_no_null)]
Listed = Annotated[tuple[T, ...], BeforeValidator(_no_null_list)]


class OwnerReference(Observed):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(Observed):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: StringMap = Field(default_factory=dict)
    annotations: StringMap = Field(default_factory=dict)
    owner_references: Listed[OwnerReference] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None

    def controller(self) -> OwnerReference | None:
        """Return the controlling owner, if there is one."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class ObjectMeta(Observed):
    """Any object, reduced to its metadata."""

    kind: str = ""
    metadata: Metadata = Metadata()


class StatusCondition(Observed):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Waiting(Observed):
    reason: str = ""
    message: str = ""


class Running(Observed):
    started_at: datetime | None = None


class Terminated(Observed):
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    finished_at: datetime | None = None


class ContainerState(Observed):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Observed):
    name: str = ""
    ready: bool = False
    restart_count: int = 0
    container_id: str = Field(default="", alias="containerID")
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodSpec(Observed):
    node_name: str = ""
    runtime_class_name: str = ""
    node_selector: StringMap = Field(default_factory=dict)


class PodStatus(Observed):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = Field(default="", alias="podIP")
    conditions: Listed[StatusCondition] = ()
    init_container_statuses: Listed[ContainerStatus] = ()
    container_statuses: Listed[ContainerStatus] = ()


class Pod(Observed):
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    def condition(self, type_: str) -> StatusCondition | None:
        """Return the condition of a type, or None."""
        return next((item for item in self.status.conditions if item.type == type_), None)

    def container(self, name: str) -> ContainerStatus | None:
        """Return the status of a container or init container, or None while there is none."""
        statuses = (*self.status.init_container_statuses, *self.status.container_statuses)
        return next((item for item in statuses if item.name == name), None)


class JobStatus(Observed):
    active: int = 0
    conditions: Listed[StatusCondition] = ()


class Job(Observed):
    metadata: Metadata = Metadata()
    status: JobStatus = JobStatus()


class TemplateContainer(Observed):
    image: str = ""


class TemplateSpec(Observed):
    init_containers: Listed[TemplateContainer] = ()
    containers: Listed[TemplateContainer] = ()


class PodTemplate(Observed):
    metadata: Metadata = Metadata()
    spec: TemplateSpec = TemplateSpec()

    @property
    def images(self) -> frozenset[str]:
        """Return the images of its containers."""
        return frozenset(item.image for item in (*self.spec.init_containers, *self.spec.containers))


class DeploymentSpec(Observed):
    template: PodTemplate = PodTemplate()


class DeploymentStatus(Observed):
    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    conditions: Listed[StatusCondition] = ()


class Deployment(Observed):
    metadata: Metadata = Metadata()
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class ResourceList(Observed):
    storage: str = ""


class VolumeResources(Observed):
    requests: ResourceList = ResourceList()


class ClaimSpec(Observed):
    access_modes: Listed[str] = ()
    storage_class_name: str | None = None
    resources: VolumeResources = VolumeResources()


class ClaimStatus(Observed):
    phase: str = ""
    capacity: ResourceList = ResourceList()


class Claim(Observed):
    """A PersistentVolumeClaim."""

    metadata: Metadata = Metadata()
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class Amounts(Observed):
    cpu: str = "0"
    memory: str = "0"


class ContainerResources(Observed):
    requests: Amounts = Amounts()


class Container(Observed):
    image: str = ""
    resources: ContainerResources = ContainerResources()


class ContainersSpec(Observed):
    containers: Listed[Container] = ()


class ContainersTemplate(Observed):
    metadata: Metadata = Metadata()
    spec: ContainersSpec = ContainersSpec()


class ClaimRetention(Observed):
    when_deleted: str = "Retain"


class StatefulSetSpec(Observed):
    replicas: int = 1
    template: ContainersTemplate = ContainersTemplate()
    volume_claim_templates: Listed[Claim] = ()
    persistent_volume_claim_retention_policy: ClaimRetention = ClaimRetention()


class StatefulSet(Observed):
    """A StatefulSet with claims of its own."""

    metadata: Metadata = Metadata()
    spec: StatefulSetSpec = StatefulSetSpec()


class StorageClass(Observed):
    metadata: Metadata = Metadata()
    allow_volume_expansion: bool = False
    volume_binding_mode: str = "Immediate"


class RunningTemplate(Observed):
    spec: PodSpec = PodSpec()


class WorkloadSpec(Observed):
    template: RunningTemplate = RunningTemplate()
    volume_claim_templates: Listed[Claim] = ()


class Workload(Observed):
    """Whatever makes pods, reduced to where they run."""

    metadata: Metadata = Metadata()
    spec: WorkloadSpec = WorkloadSpec()


class Overhead(Observed):
    pod_fixed: StringMap = Field(default_factory=dict)


class ClassScheduling(Observed):
    node_selector: StringMap = Field(default_factory=dict)


class RuntimeClass(Observed):
    metadata: Metadata = Metadata()
    overhead: Annotated[Overhead, BeforeValidator(_no_null)] = Overhead()
    scheduling: Annotated[ClassScheduling, BeforeValidator(_no_null)] = ClassScheduling()


class ConfigMap(Observed):
    metadata: Metadata = Metadata()
    data: StringMap = Field(default_factory=dict)
    binary_data: StringMap = Field(default_factory=dict)


class Secret(Observed):
    """A Secret as read; `data` is base64 and stays inside the gatherer."""

    metadata: Metadata = Metadata()
    data: StringMap = Field(default_factory=dict, repr=False)


class CertificateCondition(StatusCondition):
    observed_generation: int = 0


class CertificateStatus(Observed):
    conditions: Listed[CertificateCondition] = ()


class Certificate(Observed):
    """A Certificate of cert-manager."""

    metadata: Metadata = Metadata()
    status: CertificateStatus = CertificateStatus()

    def condition(self, type_: str) -> CertificateCondition | None:
        """Return the condition of a type, or None."""
        return next((item for item in self.status.conditions if item.type == type_), None)


class EventSeries(Observed):
    last_observed_time: datetime | None = None


class Event(Observed):
    """An Event of events.k8s.io; older reporters fill the deprecated time."""

    reason: str = ""
    note: str = ""
    event_time: datetime | None = None
    series: EventSeries | None = None
    deprecated_last_timestamp: datetime | None = None


class Taint(Observed):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Observed):
    unschedulable: bool = False
    taints: Listed[Taint] = ()


class NodeStatus(Observed):
    allocatable: StringMap = Field(default_factory=dict)


class Node(Observed):
    metadata: Metadata = Metadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ConditionsStatus(Observed):
    conditions: Listed[StatusCondition] = ()


class Conditioned(Observed):
    """Any object, reduced to its conditions."""

    status: ConditionsStatus = ConditionsStatus()


class IndexedStatus(Observed):
    last_indexed_time: datetime | None = None


class IndexedObject(Observed):
    """A RetrievalIndex, reduced to how old it is."""

    metadata: Metadata = Metadata()
    status: IndexedStatus = IndexedStatus()


def conditions_of(body: Mapping[str, object]) -> tuple[StatusCondition, ...]:
    """Return the conditions of any object."""
    return Conditioned.model_validate(body).status.conditions


def metadata_of(body: Mapping[str, object]) -> Metadata:
    """Return the parsed metadata of any object."""
    return ObjectMeta.model_validate(body).metadata
