# SPDX-License-Identifier: Apache-2.0
"""Everything the plan of a RetrievalIndex may look at, gathered beforehand: frozen values, no client's objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nimblet.plan.facts import (
    ClaimFacts,
    ContainerFailure,
    DeploymentFacts,
    PodFacts,
    SecretFacts,
    StorageClassFacts,
    WorkloadFacts,
)
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.qdrant import SetFacts
from nimblet.plan.transportfacts import TransportFacts


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """The generated keys of one version. HMACs under the master key; empty when planning offline."""

    search: str = field(default="", repr=False)
    build: str = field(default="", repr=False)
    push: str = field(default="", repr=False)
    operate: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class AcceptedKeys:
    """What the retriever's key Secret says of itself: which versions it holds, and since when."""

    versions: tuple[int, ...]
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """How a part of the retriever is, in its own words."""

    ok: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class GateFacts:
    """What the golden questions gave for a generation."""

    passed: bool
    asked: int = 0
    recall: float = 0.0
    mrr: float = 0.0
    ndcg: float = 0.0
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PointFacts:
    """From which score on is answered from a generation, as golden questions told the retriever."""

    threshold: float
    basis: str
    asked: int
    answered: float
    refused: float


@dataclass(frozen=True, kw_only=True)
class GenerationFacts:
    """A generation in the store; one that is not sealed is being built."""

    name: str
    embedding: str
    sealed: bool
    documents: int = 0
    chunks: int = 0
    bytes: int = 0
    gate: GateFacts | None = None
    point: PointFacts | None = None
    """None where no golden question was asked of it, or by a retriever that did not calibrate yet."""


@dataclass(frozen=True, kw_only=True)
class StoreServerFacts:
    """An address of the store's servers, as the retriever tells of it."""

    url: str
    used: bool
    """The serving generation or the pushed documents are there."""
    version: str = ""
    collections: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SnapshotFacts:
    """A snapshot on one of the store's servers."""

    server: str
    collection: str
    name: str
    bytes: int = 0
    taken_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SnapshotsFacts:
    """How the last round of snapshots went, and what is kept: the newest of each place first."""

    last: PartFacts = PartFacts(ok=True)
    held: tuple[SnapshotFacts, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RetrieverFacts:
    """What a retriever told of itself when asked."""

    serving: str | None
    generations: tuple[GenerationFacts, ...] = ()
    embedding: PartFacts = PartFacts(ok=True)
    store: PartFacts = PartFacts(ok=True)
    full: bool = False
    """The store takes no build and no push: what is free is needed as a reserve."""
    trouble: PartFacts | None = None
    """What is wrong with the store though questions are answered."""
    servers: tuple[StoreServerFacts, ...] = ()
    """Where the store is, if it is on servers."""
    note: str = ""
    """What there is to say of servers that are in order."""
    unembedded: int = 0
    """Pushed documents that the serving generation's model can't embed."""
    snapshots: SnapshotsFacts | None = None
    """None where none are taken, or none have been yet."""
    age: float = field(default=0.0, compare=False)
    """Seconds since it was asked for this: one that is busy may have told it long ago."""

    def generation(self, name: str | None) -> GenerationFacts | None:
        """Return a generation by its name."""
        return next((item for item in self.generations if item.name == name), None)


@dataclass(frozen=True, kw_only=True)
class BuildFacts:
    """A build Job of this index. `result` is the termination message of its pod, when one has ended."""

    name: str
    uid: str
    generation: str
    inputs: str
    """Hash of what it reads and how."""
    request: str
    """The request for a build that it answers."""
    attempt: int
    swaps: bool = True
    """What it built serves when it ends well, whatever is pinned by then."""
    credentials_hash: str = ""
    created_at: datetime | None = None
    succeeded: bool = False
    failed: bool = False
    finished_at: datetime | None = None
    exit_code: int | None = None
    result: str | None = None
    failure: ContainerFailure | None = None
    """Why its pod does not start."""
    message: str = ""
    """The Job controller's own words, where it failed without a result."""
    percent: int | None = None
    """Progress of its pod in whole percent while it runs."""

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.succeeded or self.failed


@dataclass(frozen=True, kw_only=True)
class NamedFacts:
    """A ConfigMap or claim that the spec names: permission, its keys, and a hash of a ConfigMap's content."""

    name: str
    usable: bool
    keys: tuple[str, ...] = ()
    content_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class ServersFacts:
    """The Qdrant servers of a Dedicated store, and their keys: HMACs, empty when planning offline."""

    sets: tuple[SetFacts, ...] = ()
    workloads: Mapping[int, DeploymentFacts] = field(default_factory=dict)
    """StatefulSets by the numbers of their sets."""
    pods: Mapping[int, tuple[PodFacts, ...]] = field(default_factory=dict)
    """Servers by the numbers of their sets."""
    retained: int | None = None
    """Where there is no set: the number of the one whose claims were kept for this index."""
    transports: Mapping[int, TransportFacts] = field(default_factory=dict)
    """Certificates by the numbers of their sets: of those that have one, and of the next that will."""
    key: str = field(default="", repr=False)
    reader: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class IndexFacts(WorkloadFacts):
    """All that `plan_retrievalindex` may look at besides the CR, the settings and the time.

    `deployment` is the retriever's StatefulSet or Deployment, `key` the search key's Secret.
    """

    builds: tuple[BuildFacts, ...] = ()
    claim: ClaimFacts | None = None
    storage_classes: tuple[StorageClassFacts, ...] | None = None
    """None where they can't be read or are not asked for."""
    retriever: RetrieverFacts | None = None
    """None while no pod of it answers."""
    embedding: ModelReference | None = None
    """The CompactModel that embeds, where the spec names one."""
    reranker: ModelReference | None = None
    secrets: Mapping[str, SecretFacts] = field(default_factory=dict)
    """The Secrets that the spec names and that are there, by name."""
    config_maps: Mapping[str, NamedFacts] = field(default_factory=dict)
    claims: Mapping[str, NamedFacts] = field(default_factory=dict)
    keys: Mapping[int, KeySet] = field(default_factory=dict)
    """Generated keys by version: the wanted, and those that are still accepted."""
    accepted: AcceptedKeys | None = None
    """The retriever's key Secret; None where it is absent, or was never rotated and is not looked at."""
    servers: ServersFacts = ServersFacts()
