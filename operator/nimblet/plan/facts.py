# SPDX-License-Identifier: Apache-2.0
"""Everything a plan may look at, gathered beforehand: frozen values, no objects of any client.

`cluster/facts.py` fills these from the mirror; `nimblet plan -f` fills them from a file; tests build them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from nimblet.plan.teefacts import TEEFacts
from nimblet.plan.transportfacts import TransportFacts


@dataclass(frozen=True, kw_only=True)
class ChildRef:
    """Identity of an observed child whose controller ownerRef is this CR."""

    kind: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    """resourceVersion by which it was judged, where it may only be deleted as it was seen."""


@dataclass(frozen=True, kw_only=True)
class JobFacts:
    """A resolver or fill Job of this CR. `result` is the termination message of its pod, when one has ended."""

    name: str
    uid: str
    source_hash: str
    credentials_hash: str
    attempt: int
    succeeded: bool = False
    failed: bool = False
    finished_at: datetime | None = None
    exit_code: int | None = None
    result: str | None = None
    failure: "ContainerFailure | None" = None
    """Why its pod does not start: image, scheduling, refusal by quota."""
    message: str = ""
    """The Job controller's own words, where it failed without a result."""
    folder: str = ""
    """Folder of the cache that a fill Job fills."""
    claim_uid: str = ""
    """Claim that a fill Job was made for."""
    created_at: datetime | None = None
    download_percent: int | None = None
    """Progress of a fill Job's pod in whole percent while it runs."""

    @property
    def ended(self) -> bool:
        """It succeeded or failed."""
        return self.succeeded or self.failed


@dataclass(frozen=True, kw_only=True)
class ArtifactFacts:
    """An artifact ConfigMap of this CR, as stored: `text` is the resolver's JSON, unparsed."""

    name: str
    uid: str
    source_hash: str
    text: str


@dataclass(frozen=True, kw_only=True)
class SecretFacts:
    """A user's Secret: presence, permission and a keyed hash of its content; never a value."""

    name: str
    usable: bool
    hosts: tuple[str, ...]
    keys: tuple[str, ...]
    content_hash: str
    for_weights: bool = False
    """Its annotation lets it decrypt weights."""


@dataclass(frozen=True, kw_only=True)
class KeyFacts:
    """The endpoint's own key Secret: which version of the key it holds, and since when; never a key."""

    version: int
    published_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """A ConfigMap that the spec names: its keys, and a hash of the text under the named one, "" if it is empty."""

    name: str
    keys: tuple[str, ...]
    content_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class TrustTextFacts:
    """A text of a ConfigMap that integrity names: digests, a signature or a public key. None is secret."""

    usable: bool
    text: str


FIRST_KEY: Final = (1,)
"""Versions of the key that pods accept whose key was never rotated."""


class FailureKind(StrEnum):
    """What the cluster recorded about a pod that does not run, in the kubelet's and scheduler's terms."""

    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    MOUNT = "Mount"
    SANDBOX = "Sandbox"
    CONFIG = "ContainerConfig"
    OOM_KILLED = "OOMKilled"
    CRASH_LOOP = "CrashLoop"
    EXITED = "Exited"
    EVICTED = "Evicted"
    LOADER = "Loader"
    REFUSED = "Refused"


@dataclass(frozen=True, kw_only=True)
class ContainerFailure:
    """One recorded failure. `at` is the cluster's time of it, where it gives one."""

    kind: FailureKind
    container: str
    message: str
    exit_code: int | None = None
    at: datetime | None = None
    running_again: bool = False
    """The container runs again since; the failure is history that must first prove stable."""


class Answer(StrEnum):
    """Outcome of asking a pod for a proof that it serves."""

    ANSWERED = "Answered"
    PARTLY = "Partly"
    """It serves, but not all that its spec asks for."""
    UNPROVEN = "Unproven"
    """It works, and has not found out yet whether it serves."""
    BUSY = "Busy"
    """Timed out or said 429/503 while the kubelet calls it ready: says nothing against a pod that answered."""
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a pod said when asked, valid for one run of its container (pod uid and container id)."""

    answer: Answer
    detail: str = ""
    reason: str = ""
    """The pod's own word for it, where it has one."""
    text: str = field(default="", repr=False)
    """What of its answer facts are read from; a busy pod's last words stand."""
    answered: bool = False
    """It is busy, and gave its proof before in this run of its container."""
    age: float = field(default=0.0, compare=False)
    """Seconds since it was asked for what `text` tells, where its pod is asked again and again."""


@dataclass(frozen=True, kw_only=True)
class PodFacts:
    """A pod of the model server."""

    name: str
    uid: str
    revision: str
    source_hash: str
    ready: bool
    terminating: bool
    ended: bool = False
    """Its phase is Succeeded or Failed: it never runs again, and stays listed until somebody deletes it."""
    created_at: datetime | None = None
    node: str = ""
    ip: str = ""
    container_id: str = ""
    failure: ContainerFailure | None = None
    observation: Observation | None = None
    download_percent: int | None = None
    """Progress of its init container in whole percent while it runs."""
    loading: bool = False
    """The loader (init container) is running."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by path of the files as the loader brought them, once it has ended well."""
    weights_image: str = ""
    """First digits of the image that its weights are mounted from; empty where a loader fetches them."""
    cache_folder: str = ""
    """Folder of the cache that it uses; empty where it fetches into a volume of its own."""
    further_folders: Mapping[str, str] = field(default_factory=dict)
    """The same of its adapters and its drafting model, by the container that checks each."""
    beside: frozenset[str] = frozenset()
    """Containers that bring or check its adapters and its drafting model, once the kubelet tells of them."""
    key_versions: tuple[int, ...] = FIRST_KEY
    """Versions of the endpoint's key that it accepts, ascending."""
    adapters: str = ""
    """Label that tells which adapters it was made with; empty for none."""
    tls_host: str = ""
    """Name that its certificate is good for; empty where it speaks plain HTTP."""


@dataclass(frozen=True, kw_only=True)
class DeploymentFacts:
    """The model's Deployment as observed."""

    name: str
    uid: str
    generation: int
    observed_generation: int
    revision: str
    """Label of the live pod template."""
    source_hash: str
    replicas: int
    updated_replicas: int
    progress_deadline_exceeded: bool = False
    refused: str = ""
    """Message of ReplicaFailure: quota, LimitRange or Pod Security refused the pods."""
    images: frozenset[str] | None = None
    """Of the live template's containers, as they are and as they were applied; None where nobody looked."""
    weights_image: str = ""
    cache_folder: str = ""
    """Folder of the cache that the live pod template uses."""
    further_folders: Mapping[str, str] = field(default_factory=dict)
    """The same of its adapters and its drafting model, by the container that checks each."""
    key_versions: tuple[int, ...] = FIRST_KEY
    """Versions of the endpoint's key that pods of the live template accept, ascending."""
    restarted_at: str = ""
    """The request for a restart that the live template obeyed last."""
    keys_hash: str = ""
    """Keyed hash of the user's own keys in the live template."""
    certificate: str = ""
    """First digits of the certificate that the live template was made for."""

    def runs(self, *images: str) -> bool:
        """Tell whether its pods have these images: a status that says so may be of somebody else's hand."""
        return self.images is None or self.images.issuperset(images)


@dataclass(frozen=True, kw_only=True)
class ClaimFacts:
    """The cache's claim, where it is this CR's: owned by it, or retained for its name."""

    name: str
    uid: str
    phase: str
    access_modes: tuple[str, ...]
    storage_class: str
    """Empty where the claim names none."""
    requested: str
    """Size as a quantity."""
    capacity: str = ""
    """What it has, once bound."""
    deleting: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class StorageClassFacts:
    """A StorageClass, reduced to what a claim's planning asks."""

    name: str
    is_default: bool = False
    expandable: bool = False
    waits_for_pod: bool = False
    """WaitForFirstConsumer: a claim stays unbound until a pod wants it."""


@dataclass(frozen=True, kw_only=True)
class TaintFacts:
    """A lasting taint that keeps pods away which do not tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """A node reduced to what placement asks: totals, not what is free. `schedulable`: it is not cordoned."""

    name: str
    labels: Mapping[str, str]
    memory_bytes: int
    cpu_millicores: int
    schedulable: bool = True
    taints: tuple[TaintFacts, ...] = ()
    resources: Mapping[str, int] = field(default_factory=dict)
    """Totals of its extended resources, and bytes of its huge pages, by the resource's name."""
    reachable: bool = True
    """Its kubelet reports: the node controller taints nodes whose does not."""


@dataclass(frozen=True, kw_only=True)
class WriteFailure:
    """Why the last apply of a child was refused; kept by the shell until an apply succeeds."""

    kind: str
    name: str
    category: str
    """Conflict | Contested | ImmutableField | Refused"""
    message: str


@dataclass(frozen=True, kw_only=True)
class WorkloadFacts:
    """What is known of any resource of ours whose Deployment serves: what rollout and key rotation look at."""

    children: tuple[ChildRef, ...] = ()
    deployment: DeploymentFacts | None = None
    pods: tuple[PodFacts, ...] = ()
    nodes: tuple[NodeFacts, ...] = ()
    write_failures: tuple[WriteFailure, ...] = ()
    api_key: str = ""
    """The endpoint's key of the wanted version, an HMAC under the master key; empty when planning offline."""
    other_keys: Mapping[int, str] = field(default_factory=dict)
    """Keys of other versions that pods accept or the Secret holds: only while a rotation is under way."""
    key: KeyFacts | None = None
    """The key Secret; None where it is absent, or was never rotated and is not looked at."""
    tee: TEEFacts = field(default_factory=TEEFacts)
    transport: TransportFacts = field(default_factory=TransportFacts)
    """The certificate of what serves."""
    own_keys: SecretFacts | None = None
    """The Secret with the user's own keys, where the spec names one and it is there."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts(WorkloadFacts):
    """All that `plan_compactmodel` may look at besides the CR, the settings and the time."""

    jobs: tuple[JobFacts, ...] = ()
    artifacts: tuple[ArtifactFacts, ...] = ()
    secret: SecretFacts | None = None
    fills: tuple[JobFacts, ...] = ()
    """Jobs that fill the cache."""
    claim: ClaimFacts | None = None
    storage_classes: tuple[StorageClassFacts, ...] | None = None
    """None where they can't be read or are not asked for."""
    weights_key: SecretFacts | None = None
    """The Secret that decrypts the weights, where the spec names one and it is there."""
    chat_template: TextFacts | None = None
    """The ConfigMap with the chat template, where the spec names one and it is there."""
    adapter_secrets: Mapping[str, SecretFacts] = field(default_factory=dict)
    """Secrets of the further sources, and of the keys to these, by name; those that are not there are left out."""
    trust: Mapping[str, TrustTextFacts] = field(default_factory=dict)
    """Texts that integrity names, by `<ConfigMap>/<key>`; those that are not there are left out."""
    server_minor: int = 32
    """Minor version of the API server."""
    pod_security: str = ""
    """What the namespace's label enforces: privileged, baseline or restricted; empty where it has none."""
