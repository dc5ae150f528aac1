# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a store on servers: taken after a swap and by the clock, bounded, told, and restored."""

import io
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio

from nimblet_retriever import restore
from nimblet_retriever.snapshots import SnapshotKeeper
from nimblet_retriever.store.connection import FixedKey, connect
from nimblet_retriever.store.generation import Notes
from nimblet_retriever.store.server import ServerStore
from nimblet_retriever.store.serversnapshots import ServerSnapshots
from nimblet_retriever.store.snapshot import Snapshot, listed, spare, taken_at
from retriever_testing.restserver import RestServer
from retriever_testing.stores import asked, chunk, document, found, on_rest, sealed

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
PUMP = chunk("pump", "The pump X200 runs at 45 bar.")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST, SECOND = "http://qdrant-0:6333", "http://qdrant-1:6333"


class Cluster:
    """Two servers with the same collections, and a store that takes snapshots of them."""

    def __init__(self) -> None:
        self.servers = [RestServer(url=FIRST, key="secret")]
        self.servers.append(self.servers[0].peer(SECOND))
        self.at(NOON)
        self.store = self.opened()

    def taker(self) -> ServerSnapshots:
        clients = {
            server.url: connect(server.url, FixedKey("secret"), transport=server.transport())
            for server in self.servers
        }
        return ServerSnapshots(clients, retain=2, every=timedelta(days=1), folder="/qdrant/snapshots")

    def opened(self) -> ServerStore:
        server = self.servers[0]
        client = connect(server.url, FixedKey("secret"), transport=server.transport())
        return ServerStore(client, prefix="docs", url="http://qdrant:6333", snapshots=self.taker())

    def at(self, now: datetime) -> None:
        """Set the clock of all."""
        self.now = now
        for server in self.servers:
            server.snapshots.now = now

    async def serve(self, number: int) -> str:
        name = await sealed(self.store, [PUMP], number=number)
        await self.store.note(name, Notes(served_at=self.now))
        await self.store.serve(name)
        return name

    async def round(self) -> tuple[Snapshot, ...]:
        told = await self.store.snapshots(self.now)
        assert told is not None
        assert told.failure == ""
        return told.held

    def names(self, at: int = 0) -> list[str]:
        """Return what one server holds, in the order it was taken."""
        return [name for files in self.servers[at].snapshots.files.values() for name in files]


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    await made.store.close()
    await made.servers[0].local.close()


def collections(held: Sequence[Snapshot], server: str) -> set[str]:
    return {item.collection for item in held if item.server == server}


@pytest.mark.asyncio
async def test_swap_has_every_server_take_its_own(cluster: Cluster) -> None:
    assert await cluster.store.snapshots(cluster.now) is None, "nothing serves yet"
    await cluster.serve(1)
    await (await cluster.store.overlay()).put(document("note", "A valve."))
    held = await cluster.round()
    (pushed,) = (item.id for item in await (await cluster.store.overlay()).spaces())
    expected = {"docs-g000001-a", "docs-push", f"docs-push-{pushed}"}
    assert collections(held, FIRST) == collections(held, SECOND) == expected
    assert {item.taken_at for item in held} == {NOON}
    assert {item.bytes for item in held if item.collection == "docs-g000001-a"} == {1001}
    # nothing is due again: not at once, and not for a store that was opened anew
    before = cluster.names()
    again = cluster.opened()
    for store in (cluster.store, again):
        told = await store.snapshots(cluster.now + timedelta(hours=23))
        assert told is not None
        assert (told.held, cluster.names()) == (held, before)
    await again.close()


@pytest.mark.asyncio
async def test_pushed_documents_are_taken_by_the_clock_and_old_ones_go(cluster: Cluster) -> None:
    await cluster.serve(1)
    await (await cluster.store.overlay()).put(document("note", "A valve."))
    await cluster.round()
    for day in range(1, 4):
        cluster.at(NOON + timedelta(days=day, minutes=day))
        held = await cluster.round()
    entries = [item.taken_at for item in held if item.place == ("docs-push", FIRST)]
    assert entries == [NOON + timedelta(days=day, minutes=day) for day in (3, 2)]
    # a sealed generation never changes
    assert [item.taken_at for item in held if item.place == ("docs-g000001-a", FIRST)] == [NOON]
    # a list that is cut has the newest of each place
    assert {item.place for item in held[:6]} == {item.place for item in held}


@pytest.mark.asyncio
async def test_server_whose_clock_is_behind_is_asked_once(cluster: Cluster) -> None:
    cluster.servers[1].snapshots.now = NOON - timedelta(minutes=10)
    await cluster.serve(1)
    await cluster.round()
    before = cluster.names(1)
    await cluster.round()
    assert cluster.names(1) == before


@pytest.mark.asyncio
async def test_snapshots_go_with_their_generation(cluster: Cluster) -> None:
    await cluster.serve(1)
    await cluster.round()
    cluster.at(NOON + timedelta(hours=1))
    await cluster.serve(2)
    held = await cluster.round()
    assert {"docs-g000001-a", "docs-g000002-a"} <= collections(held, SECOND)
    await cluster.store.drop("g000001")
    left = {name for server in cluster.servers for name, files in server.snapshots.files.items() if files}
    assert left == {"docs-g000002-a", "docs-push"}


@pytest.mark.asyncio
async def test_a_server_that_fails_is_told_and_keeps_no_other_from_its_own(cluster: Cluster) -> None:
    keeper = SnapshotKeeper(cluster.store, now=lambda: cluster.now)
    await keeper.round()
    assert keeper.status() is None
    await cluster.serve(1)
    cluster.servers[0].snapshots.full = True
    await keeper.round()
    told = keeper.status()
    assert told is not None
    assert (told.ok, told.reason) == (False, "SnapshotFailed")
    assert told.message.startswith(f"{FIRST}: the volume for snapshots has no room left")
    assert {item.server for item in told.held} == {SECOND}
    # a wrong key is told by the store's own words, and what was there stays known
    for server in cluster.servers:
        server.key = "other"
    await keeper.round()
    told = keeper.status()
    assert told is not None
    assert "refuses the key" in told.message
    assert {item.server for item in told.held} == {SECOND}
    # and once all is well, the missing ones are taken
    for server in cluster.servers:
        server.key = "secret"
    cluster.servers[0].snapshots.full = False
    await keeper.round()
    told = keeper.status()
    assert told is not None
    assert (told.ok, {item.server for item in told.held}) == (True, {FIRST, SECOND})
    keeper.start()
    await keeper.close()


@pytest.mark.asyncio
async def test_lost_collections_come_back_from_their_snapshots(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    name = await cluster.serve(1)
    overlay = await cluster.store.overlay()
    await overlay.put(document("note", "A valve."))
    cluster.at(NOON + timedelta(days=2))
    text = json.dumps(
        [
            {
                "server": item.server,
                "collection": item.collection,
                "name": item.name,
                "takenAt": "2026-01-01T12:00:00Z",
            }
            for item in await cluster.round()
        ]
    )
    # Given servers whose storage is lost, with the volumes of their snapshots there
    for listed_ in (await cluster.servers[0].local.get_collections()).collections:
        await cluster.servers[0].local.delete_collection(listed_.name)
    # When what status.snapshots held is restored
    code = await restore.restore(cluster.taker(), restore.read_snapshots(text.encode()))
    assert (code, capsys.readouterr().out.count("restored docs-")) == (0, 6)
    # Then a retriever that starts has all: the generation, once it is told to serve it, and what was pushed
    again = cluster.opened()
    await again.serve(name)
    assert await found(again, name, asked("pump")) == ["pump"]
    assert (await (await again.overlay()).totals()).documents == 1
    assert await (await again.overlay()).entry(document("note").id) is not None
    await again.close()


@pytest.mark.asyncio
async def test_restore_stops_at_what_a_server_does_not_take(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    await cluster.serve(1)
    held = await cluster.round()
    cluster.servers[1].snapshots.files.clear()
    assert await restore.restore(cluster.taker(), held) == 1
    assert "HTTP 400" in capsys.readouterr().err
    strange = Snapshot(
        server="http://elsewhere:6333", collection="docs-push", name="x.snapshot", bytes=0, taken_at=None
    )
    assert await restore.restore(cluster.taker(), [strange]) == 1
    assert "http://elsewhere:6333 is no server of this index" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["[]", "{", '[{"server": "http://q:1", "collection": "../x", "name": "y"}]', '[{"name": "y"}]']
)
def test_restore_reads_nothing_but_a_status(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert restore.main(["--config", str(tmp_path / "config.json")]) == 2
    assert "can't restore" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_store_without_snapshots_takes_none() -> None:
    server = RestServer(key="secret")
    store = on_rest(server, FixedKey("secret"))
    await store.serve(await sealed(store, [PUMP]))
    assert await store.snapshots(NOON) is None
    assert server.snapshots.files == {}
    await store.close()
    await server.local.close()


def test_time_is_read_off_the_name_before_the_files_own() -> None:
    name = "docs-push-123-2026-01-01-12-00-00.snapshot"
    assert taken_at(name, "2027-05-05T05:05:05") == NOON
    assert taken_at("by-hand.snapshot", "2026-01-01T12:00:00") == NOON
    assert taken_at("by-hand.snapshot", "soon") is None
    assert taken_at("by-hand-9999-99-99-99-99-99.snapshot", None) is None


def test_spare_are_the_oldest_of_each_place() -> None:
    def taken(server: str, day: int | None) -> Snapshot:
        at = NOON + timedelta(days=day) if day is not None else None
        return Snapshot(server=server, collection="c", name=f"{server}-{day}", bytes=1, taken_at=at)

    held = [taken(FIRST, 2), taken(FIRST, None), taken(FIRST, 1), taken(SECOND, 1)]
    assert [item.name for item in spare(held, retain=1)] == [f"{FIRST}-None", f"{FIRST}-1"]
    assert [item.name for item in listed(held)][:2] == [f"{FIRST}-2", f"{SECOND}-1"]
