# SPDX-License-Identifier: Apache-2.0
"""Has the store take its snapshots by the clock, and remembers what came of the last round for a status."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from nimblet_retriever.config import ConfigModel
from nimblet_retriever.health import Health
from nimblet_retriever.store.chunk import StoreError
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.snapshot import Snapshots

LOOK_SECONDS: Final = 30.0
"""Between two looks at what is due: a swap shows nowhere else than in the store."""
MAX_TOLD: Final = 128
"""Snapshots that a status names."""
FAILED: Final = "SnapshotFailed"

log = logging.getLogger(__name__)


class SnapshotStatus(ConfigModel):
    """A snapshot that is kept."""

    server: str
    collection: str
    name: str
    bytes: int
    taken_at: datetime | None


class SnapshotsStatus(Health):
    """How the last round ended, and what is kept: the newest of each collection and server first."""

    held: tuple[SnapshotStatus, ...] = ()


class SnapshotKeeper:
    """Looks at one store, again and again."""

    def __init__(self, store: Store, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._task: asyncio.Task[None] | None = None
        self._known: SnapshotsStatus | None = None

    def status(self) -> SnapshotsStatus | None:
        """Return how it stands; None before the first round of an index that serves."""
        return self._known

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End; a snapshot that a server has begun it ends by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def round(self) -> None:
        """Look once."""
        try:
            found = await self._store.snapshots(self._now())
        except StoreError as error:
            held = self._known.held if self._known is not None else ()
            self._know(SnapshotsStatus(ok=False, reason=FAILED, message=str(error), held=held))
            return
        if found is not None:
            self._know(_told(found))

    async def _run(self) -> None:
        while True:
            await self.round()
            await asyncio.sleep(LOOK_SECONDS)

    def _know(self, status: SnapshotsStatus) -> None:
        if status.message and (self._known is None or status.message != self._known.message):
            log.warning("snapshots: %s", status.message)
        self._known = status


def _told(found: Snapshots) -> SnapshotsStatus:
    """Return a round as it is told."""
    held = tuple(
        SnapshotStatus(
            server=item.server,
            collection=item.collection,
            name=item.name,
            bytes=item.bytes,
            taken_at=item.taken_at,
        )
        for item in found.held[:MAX_TOLD]
    )
    failed = bool(found.failure)
    return SnapshotsStatus(ok=not failed, reason=FAILED if failed else "", message=found.failure, held=held)
