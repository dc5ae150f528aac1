# SPDX-License-Identifier: Apache-2.0
"""The snapshots of a make-believe Qdrant server: a folder that outlives its collections."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final

from qdrant_client import AsyncQdrantClient, models

FOLDER: Final = "/qdrant/snapshots"
FULL: Final = "Service internal error: No space left on device (os error 28)"
ALL: Final = 100_000
STAMP: Final = "%Y-%m-%d-%H-%M-%S"


class Refused(Exception):  # noqa: N818 - carries an answer
    """A request that is answered with an error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


@dataclass(frozen=True, kw_only=True)
class _File:
    told: models.SnapshotDescription
    config: models.CollectionConfig
    points: tuple[models.PointStruct, ...]
    indexed: frozenset[str]


@dataclass(kw_only=True)
class SnapshotFolder:
    """The files, by collection and name, and what a test makes of the volume and the clock."""

    peer: int = 1
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    full: bool = False
    files: dict[str, dict[str, _File]] = field(default_factory=dict)

    def listed(self, collection: str) -> list[models.SnapshotDescription]:
        """Return the descriptions."""
        return [file.told for file in self.files.get(collection, {}).values()]

    async def take(
        self, local: AsyncQdrantClient, indexed: dict[str, set[str]], collection: str
    ) -> models.SnapshotDescription:
        """Keep what a collection is now."""
        if self.full:
            raise Refused(500, FULL)
        records, _ = await local.scroll(collection, limit=ALL, with_payload=True, with_vectors=True)
        points = [
            models.PointStruct(id=item.id, payload=item.payload, vector=item.vector or {}) for item in records
        ]
        name = f"{collection}-{self.peer}-{self.now:{STAMP}}.snapshot"
        told = models.SnapshotDescription(
            name=name, creation_time=self.now.strftime("%Y-%m-%dT%H:%M:%S"), size=1000 + len(points)
        )
        config = (await local.get_collection(collection)).config
        file = _File(told=told, config=config, points=tuple(points), indexed=frozenset(indexed[collection]))
        self.files.setdefault(collection, {})[name] = file
        return told

    def remove(self, collection: str, name: str) -> bool:
        """Delete a file."""
        if self.files.get(collection, {}).pop(name, None) is None:
            raise Refused(404, f"Not found: Snapshot {name} not found")
        return True

    async def recover(
        self,
        local: AsyncQdrantClient,
        indexed: dict[str, set[str]],
        collection: str,
        wanted: models.SnapshotRecover,
    ) -> bool:
        """Make a collection what it was in a file of this folder; one that is gone is made again."""
        path = PurePosixPath(wanted.location.removeprefix("file://"))
        if not wanted.location.startswith(f"file://{FOLDER}/") or wanted.priority is None:
            raise Refused(403, f"Forbidden: snapshot location {wanted.location} is not allowed")
        file = self.files.get(path.parent.name, {}).get(path.name)
        if file is None:
            raise Refused(400, f"Bad request: Snapshot file {path} does not exist")
        if wanted.priority is not models.SnapshotPriority.SNAPSHOT:
            raise Refused(400, "a test restores what is lost: the snapshot counts more than what is there")
        if await local.collection_exists(collection):
            await local.delete_collection(collection)
        await local.create_collection(
            collection,
            vectors_config=file.config.params.vectors,
            sparse_vectors_config=file.config.params.sparse_vectors,
            metadata=file.config.metadata,
        )
        indexed[collection] = set(file.indexed)
        if file.points:
            await local.upsert(collection, list(file.points))
        return True
