# SPDX-License-Identifier: Apache-2.0
"""What the operator and the scraper are told of an index: GET /v1/status and the gauges. Changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from nimblet_retriever.config import ConfigModel
from nimblet_retriever.health import EmbeddingProbes, Health
from nimblet_retriever.overlaid import Refused
from nimblet_retriever.snapshots import SnapshotsStatus
from nimblet_retriever.store.chunk import Room, StoreError, StoreUnavailable
from nimblet_retriever.store.generation import Gate, Generation
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.look import ALONE, Look

STATUS_SECONDS: Final = 8.0
"""How long a status waits for the store: an outage is told within 15 seconds."""
SILENT: Final = f"the Qdrant server did not answer within {STATUS_SECONDS:.0f} s; is it overloaded, or cut off?"

MAX_REFUSALS: Final = 20
"""Documents that a status names."""


class GenerationStatus(ConfigModel):
    """One generation. Counts are 0 until it is sealed; `bytes` is null where only the store's server knows."""

    name: str
    embedding: str
    documents: int
    chunks: int
    bytes: int | None
    sealed: bool
    gate: Gate | None


class ServerStatus(ConfigModel):
    """One address of the store's servers; `used`: the serving generation or the pushed documents are there."""

    url: str
    used: bool
    version: str
    collections: tuple[str, ...]


class StoreStatus(Health):
    """The store and its disk; free bytes are null where only the store's server knows.

    `trouble` is what is wrong though questions are answered, `note` what there is to say of what is in order.
    """

    free_bytes: int | None = None
    reserve_bytes: int = 0
    full: bool = False
    servers: tuple[ServerStatus, ...] = ()
    trouble: Health | None = None
    note: str = ""


class PushRefusal(ConfigModel):
    """A pushed document that the serving generation's model can't embed: it is found by its words only."""

    document: str
    message: str


class PushStatus(ConfigModel):
    """What was pushed: the last sequence number, and what it amounts to; of `unembedded` the first are named."""

    sequence: int = 0
    documents: int = 0
    tombstones: int = 0
    unembedded: int = 0
    refusals: tuple[PushRefusal, ...] = ()


class StatusAnswer(ConfigModel):
    """GET /v1/status."""

    index: str
    serving: str | None
    push: int
    generations: tuple[GenerationStatus, ...]
    embedding: Health
    store: StoreStatus
    pushes: PushStatus
    last_served_time: datetime | None
    snapshots: SnapshotsStatus | None = None


def none_refused() -> Sequence[Refused]:
    """Return what an index has whose pushed documents are all embedded."""
    return ()


def none_taken() -> SnapshotsStatus | None:
    """Return what an index has that takes no snapshots."""
    return None


async def nothing_pushed() -> PushStatus:
    """Return what an index without pushed documents has."""
    return PushStatus()


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a store holds at one moment."""

    generations: tuple[Generation, ...]
    serving: str | None
    room: Room

    @property
    def served(self) -> Generation | None:
        """The serving generation."""
        return next((item for item in self.generations if item.name == self.serving and item.sealed), None)


NOTHING: Final = Contents(generations=(), serving=None, room=Room(free=None, reserve=0))


@dataclass(frozen=True, kw_only=True)
class Observer:
    """Looks at one index."""

    index: str
    store: Store
    embedding: EmbeddingProbes
    pushes: Callable[[], Awaitable[PushStatus]] = field(default=nothing_pushed)
    refused: Callable[[], Sequence[Refused]] = field(default=none_refused)
    snapshots: Callable[[], SnapshotsStatus | None] = field(default=none_taken)

    async def contents(self) -> Contents:
        """Return what the store holds. StoreError where it does not tell."""
        generations = await self.store.generations()
        return Contents(generations=generations, serving=await self.store.serving(), room=await self.store.room())

    async def status(self) -> StatusAnswer:
        """Return everything; what can't be reached is told as such and fails nothing else."""
        try:
            async with asyncio.timeout(STATUS_SECONDS):
                look = await self.store.look()
                held = await self.contents()
                listed = [await self._generation(item) for item in held.generations]
        except TimeoutError:
            held, listed = NOTHING, []
            store = StoreStatus(ok=False, reason=StoreUnavailable.__name__, message=SILENT)
        except StoreError as error:
            held, listed = NOTHING, []
            store = StoreStatus(ok=False, reason=type(error).__name__, message=str(error))
        else:
            store = store_status(held.room, look)
        served = held.served
        pushes = await self._pushes()
        return StatusAnswer(
            index=self.index,
            serving=held.serving,
            push=pushes.sequence,
            generations=tuple(listed),
            embedding=await self.embedding.look(served.manifest if served is not None else None),
            store=store,
            pushes=pushes,
            last_served_time=served.notes.served_at if served is not None else None,
            snapshots=self.snapshots(),
        )

    async def _pushes(self) -> PushStatus:
        refused = self.refused()
        named = tuple(PushRefusal(document=item.document, message=item.message) for item in refused[:MAX_REFUSALS])
        return (await self.pushes()).model_copy(update={"unembedded": len(refused), "refusals": named})

    async def _generation(self, item: Generation) -> GenerationStatus:
        return GenerationStatus(
            name=item.name,
            embedding=item.manifest.embedding,
            documents=item.counts.documents if item.counts is not None else 0,
            chunks=item.counts.chunks if item.counts is not None else 0,
            bytes=await self.store.size(item.name),
            sealed=item.sealed,
            gate=item.notes.gate,
        )


class Readiness:
    """Ready once the store has answered: a wrong address or key holds a rollout back.

    From then on an outage is told by answers and by the status, which say more than a pod without traffic.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answered = False

    async def check(self) -> None:
        """Return when ready. StoreError says why not."""
        if not self._answered:
            await self._store.serving()
            self._answered = True


def store_status(room: Room, look: Look = ALONE) -> StoreStatus:
    """Return how a store is that answers."""
    full = room.free is not None and room.free < room.reserve
    trouble = look.trouble
    return StoreStatus(
        ok=True,
        free_bytes=room.free,
        reserve_bytes=room.reserve,
        full=full or look.full,
        servers=tuple(
            ServerStatus(url=item.url, used=item.used, version=item.version, collections=item.collections)
            for item in look.servers
        ),
        trouble=Health(ok=False, reason=type(trouble).__name__, message=str(trouble)) if trouble else None,
        note=look.note,
    )
