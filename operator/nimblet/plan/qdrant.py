# SPDX-License-Identifier: Apache-2.0
"""The servers of a Dedicated store: their size, and how one set of servers gives way to another. Pure.

More servers join the set that is there and get parts of the next generation. Fewer servers, another size,
another StorageClass or memory mode, TLS switched on or off mean a new set beside the old: the next generation is
built there, and once it serves and the retriever has let go of the old set, that is deleted. Nothing moves a part
of a generation that is being searched, and no server that answers is restarted for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import Manifest, Part
from nimblet.manifests.qdrant import QdrantKeys, QdrantSet, qdrant_keys_manifest, qdrant_manifests
from nimblet.plan.facts import ChildRef
from nimblet.plan.transport import Transport
from nimblet.quantity import MEBIBYTE, bytes_of, human_bytes, mebibytes, millicores, millicores_of

FLOAT_BYTES: Final = 4
GRAPH: Final = 1.5
"""Vectors and their HNSW graph over the vectors alone (Qdrant's capacity planning)."""
COMPRESSION: Final = {"None": 0.0, "Scalar": 1 / 4, "Binary": 1 / 32}
"""Size of the compressed copy over 4-byte floats: int8, and one bit."""
MAPPED: Final = 0.1
"""Share of mapped vectors that is taken as being in use, where nothing is kept in memory: an assumption."""
LEXICAL_BYTES: Final = 2048
"""Words of a passage of 256 tokens: up to some 130 of 8 bytes (index and weight), stored and inverted."""
INDEX_BYTES: Final = 512
"""Entries of a passage in five keyword indexes: an assumption."""
PAYLOAD_BYTES: Final = 2048
"""Text, title and place of a passage on the volume: an assumption."""
BASE_BYTES: Final = 256 * MEBIBYTE
"""Program, threads, segments and buffers of an idle server: an assumption."""
RESIDENT: Final = 0.8
"""Share of the limit that may be resident before a server is in trouble (Qdrant's capacity planning)."""
DISK_FACTOR: Final = 2
"""Data, and the copy that the optimizer writes beside it."""
WAL_BYTES: Final = 2 * 32 * MEBIBYTE
"""Write-ahead log of one part: its capacity of 32 MiB, and the segment after it."""
BASE_MILLICORES: Final = 250
CHUNKS_PER_CORE: Final = 1_000_000
"""Passages of a server for each core: an assumption."""
MAX_MILLICORES: Final = 16000

Memory = Literal["InMemory", "OnDisk"]
Quantization = Literal["None", "Scalar", "Binary"]


@dataclass(frozen=True, kw_only=True)
class QdrantShape:
    """What the spec asks for."""

    replicas: int = 1
    shards: int = 1
    replication_factor: int = 1
    memory: Memory = "InMemory"
    quantization: Quantization = "None"
    size: str = "10Gi"
    storage_class: str | None = None
    retained: bool = False
    server_memory: str | None = None
    """Memory of each server as somebody wrote it; computed when None."""
    server_cpu: str | None = None
    tls: bool = False
    """The servers speak TLS, to the retriever and to each other."""


@dataclass(frozen=True, kw_only=True)
class QdrantLoad:
    """What the servers hold: passages of the largest generation, and how many generations at once."""

    chunks: int
    dimension: int
    generations: int = 3
    """The serving one, the one before, and the one that is being built."""


@dataclass(frozen=True, kw_only=True)
class SetFacts:
    """A set of servers that is there, read off its StatefulSet."""

    number: int
    replicas: int
    memory: str
    cpu: str
    size: str
    storage_class: str | None
    retained: bool
    image: str = ""
    mode: str = ""
    """Memory mode that it was made for; empty where it does not say."""
    tls: bool = False
    certificate: str = ""
    """First digits of the one that its pods have, where it says so."""
    children: Sequence[ChildRef] = ()
    """All that goes when the set goes."""


@dataclass(frozen=True, kw_only=True)
class QdrantOwner:
    """Whose servers they are, and what they are made of."""

    name: str
    namespace: str
    kind_label: str
    kind: str
    image: str
    pull_policy: str
    keys: QdrantKeys
    callers: Sequence[Manifest]
    metrics_namespaces: Sequence[str] = ()
    scheduling: Scheduling = field(default_factory=Scheduling)
    suspended: bool = False
    transports: Mapping[int, Transport] = field(default_factory=dict)
    """How sets are spoken to, by their numbers; in plain HTTP where nothing is said."""

    def transport(self, number: int) -> Transport:
        """Return how a set is spoken to."""
        return self.transports.get(number, Transport())


@dataclass(frozen=True, kw_only=True)
class QdrantSizing:
    """Of one server; `formula` is the arithmetic for people."""

    memory: str
    cpu: str
    disk_bytes: int
    formula: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class CollectionShape:
    """How a generation's collection is created: what the retriever's configuration says."""

    shards: int
    replication_factor: int
    write_consistency_factor: int
    memory: Memory
    quantization: Quantization


@dataclass(frozen=True, kw_only=True)
class QdrantPlan:
    """What to apply, what to delete, and what the retriever must know."""

    number: int
    """Of the set that builds go to."""
    children: tuple[Manifest, ...]
    retiring: tuple[Manifest, ...]
    """What is applied before `deletions`, once the retriever has let go of sets that are needed no more."""
    deletions: tuple[ChildRef, ...]
    """What goes then."""
    target: str
    """Address of the servers that builds go to."""
    former: tuple[str, ...]
    """Addresses of those that answer until the target serves."""
    collection: CollectionShape
    sizing: QdrantSizing
    moving: str = ""
    """Why there are two sets, in words."""
    short: str = ""
    """Why the claims are too small for the load, in words."""


@dataclass(frozen=True, kw_only=True)
class QdrantSets:
    """The sets that are there."""

    live: Sequence[SetFacts] = ()
    serving: int | None
    """The one that answers: 0 for none yet, None while nobody knows."""
    first: int = 1
    """Number of a set where there is none, which takes up the claims that one of that number left."""
    swapping: frozenset[int] = frozenset()
    """Those that are asked while a build may swap to one that was made after the one that answers, or has."""


def plan_qdrant(owner: QdrantOwner, shape: QdrantShape, load: QdrantLoad, sets: QdrantSets) -> QdrantPlan:
    """Return the servers to have.

    While nobody knows which set answers it is taken to be the oldest, all may be asked, and nothing is deleted.
    """
    sizing = size_server(shape, load)
    live, serving = sets.live, sets.serving
    answering = min((item.number for item in live), default=0) if serving is None else serving
    number = _target(shape, live, answering=answering) if live else sets.first
    current = next((item for item in live if item.number == number), None)
    target = _wanted(owner, shape, number, sizing=sizing, current=current)
    others = [item for item in live if item.number != number]
    kept = [item for item in others if serving is None or _may_answer(item, answering, sets.swapping)]
    leaving = [item for item in others if item not in kept]
    children = [qdrant_keys_manifest(_keys_part(owner), owner.keys)]
    resting = leaving if owner.suspended else []  # else they would be made again while they go
    for servers in (target, *(_left_alone(owner, item) for item in (*kept, *resting))):
        children += _made(owner, servers)
    # a set's claims go with it only if it says so before it goes
    told = [_left_alone(owner, replace(item, retained=False)) for item in leaving if item.retained]
    return QdrantPlan(
        number=number,
        children=tuple(children),
        retiring=tuple(child for servers in told for child in _made(owner, servers)),
        deletions=tuple(
            child
            for item in leaving
            if not item.retained
            for child in (*owner.transport(item.number).asked, *item.children)
        ),
        target=target.url,
        former=tuple(_left_alone(owner, item).url for item in kept),
        collection=collection_shape(shape),
        sizing=sizing,
        moving=_moving(target, kept),
        short=_short(shape, sizing),
    )


def _may_answer(live: SetFacts, answering: int, swapping: frozenset[int]) -> bool:
    """Tell whether a set answers, or may before the retriever has let go of it, and would be out of reach then."""
    return live.number == answering or (live.number in swapping and live.number > answering)


def collection_shape(shape: QdrantShape) -> CollectionShape:
    """Return how collections are created; a majority of the copies must have a write."""
    return CollectionShape(
        shards=shape.shards,
        replication_factor=shape.replication_factor,
        write_consistency_factor=shape.replication_factor // 2 + 1,
        memory=shape.memory,
        quantization=shape.quantization,
    )


def size_server(shape: QdrantShape, load: QdrantLoad) -> QdrantSizing:
    """Return what one server needs: its share of every generation, by the constants above."""
    dense = load.dimension * FLOAT_BYTES
    compressed = COMPRESSION[shape.quantization]
    if shape.memory == "InMemory":
        per_chunk = dense * (1 + compressed) * GRAPH + LEXICAL_BYTES
    else:
        per_chunk = dense * compressed * GRAPH or dense * MAPPED
    copies = load.chunks * load.generations * shape.replication_factor
    share = -(-copies // shape.replicas)
    resident = BASE_BYTES + int(share * (per_chunk + INDEX_BYTES))
    memory = stepped(int(resident / RESIDENT))
    stored = dense * (1 + compressed) * GRAPH + LEXICAL_BYTES + INDEX_BYTES + PAYLOAD_BYTES
    parts = -(-shape.shards * shape.replication_factor * load.generations // shape.replicas)
    disk = int(share * stored) * DISK_FACTOR + parts * WAL_BYTES
    cpu = min(BASE_MILLICORES + share * 1000 // CHUNKS_PER_CORE, MAX_MILLICORES)
    held = f"{load.chunks} passages x {load.generations} generations x {shape.replication_factor} copies"
    need = f"({human_bytes(BASE_BYTES)} + {share} x {per_chunk + INDEX_BYTES:.0f} bytes) / {RESIDENT:g}"
    return QdrantSizing(
        memory=mebibytes(memory),
        cpu=millicores(-(-cpu // 50) * 50),
        disk_bytes=disk,
        formula=(
            f"one server: {held} / {shape.replicas} servers = {share} passages",
            f"memory: {need}, in steps = {human_bytes(memory)}",
            f"disk: {share} x {stored:.0f} bytes x {DISK_FACTOR} + logs = {human_bytes(disk)}",
        ),
    )


def stepped(count: int) -> int:
    """Return bytes rounded up to one of four steps an octave, so that a growing index rolls its servers rarely."""
    step = max(1 << max(count.bit_length() - 3, 0), MEBIBYTE)
    return -(-count // step) * step


def next_set(shape: QdrantShape, live: Sequence[SetFacts], *, first: int = 1) -> int | None:
    """Return the number of the set that is to be made; None where one that is there fits."""
    if any(_fits(item, shape) for item in live):
        return None
    return max((item.number for item in live), default=first - 1) + 1


def _made(owner: QdrantOwner, servers: QdrantSet) -> tuple[Manifest, ...]:
    """Return the children of a set; no server starts before its certificate is there."""
    transport, made = owner.transport(servers.number), qdrant_manifests(servers)
    started = made if transport.ready else tuple(item for item in made if item["kind"] != "StatefulSet")
    return (*transport.children, *started)


def _target(shape: QdrantShape, live: Sequence[SetFacts], *, answering: int) -> int:
    """Return the number of the set that builds go to: the answering one where it fits, else another, else new."""
    fitting = [item.number for item in live if _fits(item, shape)]
    if answering in fitting:
        return answering
    return next_set(shape, live) or max(fitting)


def _fits(live: SetFacts, shape: QdrantShape) -> bool:
    """Tell whether a set can become what is asked for; of claims, memory mode, TLS and fewer servers it can't."""
    same_class = shape.storage_class is None or shape.storage_class == live.storage_class
    same_size = bytes_of(live.size) == bytes_of(shape.size)
    same_mode = live.mode in ("", shape.memory)
    same_way = live.tls == shape.tls
    return live.replicas <= shape.replicas and same_class and same_size and same_mode and same_way


def _wanted(
    owner: QdrantOwner, shape: QdrantShape, number: int, *, sizing: QdrantSizing, current: SetFacts | None
) -> QdrantSet:
    """Return the target; what it has of memory and CPU is never taken away, since that would restart it."""
    memory, cpu = sizing.memory, sizing.cpu
    size, storage_class, replicas = shape.size, shape.storage_class, shape.replicas
    if current is not None:
        enough = bytes_of(current.memory) >= bytes_of(memory)
        if enough:
            # in our own form: the API server writes 1024Mi as 1Gi
            memory = mebibytes(bytes_of(current.memory))
            cpu = millicores(millicores_of(current.cpu))
        size = size if bytes_of(current.size) == bytes_of(size) else current.size
        storage_class = current.storage_class
        replicas = max(replicas, current.replicas)
    return _servers(
        owner,
        SetFacts(
            number=number,
            replicas=replicas,
            memory=shape.server_memory or memory,
            cpu=shape.server_cpu or cpu,
            size=size,
            storage_class=storage_class,
            retained=shape.retained,
            image=owner.image,
            mode=shape.memory,
        ),
    )


def _left_alone(owner: QdrantOwner, live: SetFacts) -> QdrantSet:
    """Return a set as it is, in our own form of quantities: none of its pods restarts."""
    memory, cpu = mebibytes(bytes_of(live.memory)), millicores(millicores_of(live.cpu))
    return _servers(owner, replace(live, memory=memory, cpu=cpu, image=live.image or owner.image))


def _keys_part(owner: QdrantOwner) -> Part:
    return Part(owner=owner.name, namespace=owner.namespace, component="qdrant-keys", kind_label=owner.kind_label)


def _servers(owner: QdrantOwner, values: SetFacts) -> QdrantSet:
    return QdrantSet(
        owner=owner.name,
        namespace=owner.namespace,
        kind_label=owner.kind_label,
        kind=owner.kind,
        number=values.number,
        replicas=values.replicas,
        memory=values.memory,
        cpu=values.cpu,
        size=values.size,
        storage_class=values.storage_class,
        retained=values.retained,
        image=values.image,
        mode=values.mode,
        pull_policy=owner.pull_policy,
        keys=owner.keys,
        callers=owner.callers,
        metrics_namespaces=owner.metrics_namespaces,
        scheduling=owner.scheduling,
        suspended=owner.suspended,
        tls=owner.transport(values.number).secured,
    )


def _moving(target: QdrantSet, kept: Sequence[SetFacts]) -> str:
    if not kept:
        return ""
    return (
        f"{sum(item.replicas for item in kept)} server(s) answer until a generation was built on {target.name} "
        f"({target.replicas} server(s)) and serves; then they are deleted."
    )


def _short(shape: QdrantShape, sizing: QdrantSizing) -> str:
    if sizing.disk_bytes <= bytes_of(shape.size):
        return ""
    need, have = human_bytes(sizing.disk_bytes), human_bytes(bytes_of(shape.size))
    return f"Each server's claim has {have}; this index needs about {need}."
