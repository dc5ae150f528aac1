# SPDX-License-Identifier: Apache-2.0
"""What only the embedded store must do: survive kills, keep its lock, stop before the disk is full."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from nimblet_retriever.store.ballast import BALLAST_BYTES, Ballast
from nimblet_retriever.store.chunk import GenerationUnknown, StoreBusy, StoreError, StoreFull
from nimblet_retriever.store.embedded import EmbeddedStore
from nimblet_retriever.store.layout import write_durably
from retriever_testing.bench import eventually
from retriever_testing.stores import asked, chunk, found, manifest, sealed

pytestmark = pytest.mark.asyncio

MANY = [chunk(f"doc{number}", f"Passage number {number} of the pump.", angle=number / 50) for number in range(50)]


async def test_killed_builder_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    # Given a serving generation and a build whose process is killed between two batches
    store = EmbeddedStore(tmp_path, reserve=0)
    serving = await sealed(store, MANY[:1])
    await store.serve(serving)
    build = await store.begin(manifest(2, token="one"))
    await build.add(MANY[:25])
    os.kill(build.pid, signal.SIGKILL)
    # When the build goes on, then it is told what happened, and the queries never notice
    with pytest.raises(StoreError, match=r"signal 9.*it resumes"):
        await build.add(MANY[25:])
    assert await found(store, serving, asked("pump")) == ["doc0"]
    # When it begins again, then the acknowledged batch is there
    again = await store.begin(manifest(2, token="one"))
    assert len(await again.vectors([item.reuse_key for item in MANY])) == 25
    await again.add(MANY[25:])
    assert (await again.seal()).chunks == 50
    await store.close()


async def test_killed_while_it_seals_leaves_a_build_that_resumes(tmp_path: Path) -> None:
    # Given a build that is killed while it is sealed
    store = EmbeddedStore(tmp_path, reserve=0)
    build = await store.begin(manifest(token="one"))
    await build.add(MANY)
    os.kill(build.pid, signal.SIGSTOP)  # or it might be done before it is killed
    sealing = asyncio.create_task(build.seal())
    await asyncio.sleep(0)
    os.kill(build.pid, signal.SIGKILL)
    with pytest.raises(StoreError, match="signal 9"):
        await sealing
    # Then it is not sealed, and begins again whole
    assert [item.sealed for item in await store.generations()] == [False]
    again = await store.begin(manifest(token="one"))
    assert (await again.seal()).chunks == 50
    await store.close()


async def test_another_process_finds_what_was_sealed_and_served(tmp_path: Path) -> None:
    # Given a store that was used and closed
    store = EmbeddedStore(tmp_path, reserve=0)
    await store.serve(await sealed(store, MANY))
    await store.close()
    # When it is opened again, then it serves at once
    again = EmbeddedStore(tmp_path, reserve=0)
    name = await again.serving()
    assert name is not None
    assert len(await again.search(name, asked("pump", limit=50))) == 50
    await again.close()


async def test_volume_serves_one_retriever(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, reserve=0)
    with pytest.raises(StoreBusy, match="one retriever"):
        EmbeddedStore(tmp_path, reserve=0)
    await store.close()
    await EmbeddedStore(tmp_path, reserve=0).close()


async def test_builds_stop_before_the_disk_is_full(tmp_path: Path) -> None:
    # Given a volume that fills up while a build runs
    left = [1000]
    store = EmbeddedStore(tmp_path, reserve=500, free=lambda _: left[0])
    serving = await sealed(store, MANY[:1])
    await store.serve(serving)
    build = await store.begin(manifest(2))
    await build.add(MANY[:10])
    left[0] = 499
    # Then nothing more is written, no build begins, and queries are answered
    with pytest.raises(StoreFull, match="reserve"):
        await build.add(MANY[10:])
    with pytest.raises(StoreFull):
        await store.begin(manifest(3))
    assert await found(store, serving, asked("pump")) == ["doc0"]
    # When there is space again, then the build goes on
    left[0] = 1000
    await build.add(MANY[10:])
    assert (await build.seal()).chunks == 50
    await store.close()


async def test_generation_that_can_not_be_opened_is_not_served(tmp_path: Path) -> None:
    # Given a serving generation and a newer one whose shard is damaged
    store = EmbeddedStore(tmp_path, reserve=0)
    good, bad = await sealed(store, MANY[:1]), await sealed(store, MANY, number=2)
    await store.serve(good)
    (tmp_path / "generations" / bad / "shard" / "edge_config.json").write_text("{")
    # When it is to be served, then the old one stays
    with pytest.raises(StoreError, match="drop it and build it anew"):
        await store.serve(bad)
    assert await store.serving() == good
    await store.close()


async def test_dropped_while_it_is_searched(tmp_path: Path) -> None:
    # Given searches under way on the old generation
    store = EmbeddedStore(tmp_path, reserve=0)
    old, new = await sealed(store, MANY), await sealed(store, MANY, number=2)
    await store.serve(old)
    searches = [asyncio.create_task(store.search(old, asked("pump", limit=50))) for _ in range(20)]
    await asyncio.sleep(0)
    # When it is swapped away and dropped, then they all end well, on that generation
    await store.serve(new)
    await store.drop(old)
    assert [len(hits) for hits in await asyncio.gather(*searches)] == [50] * 20
    with pytest.raises(GenerationUnknown):
        await store.search(old, asked("pump"))
    await store.close()


@pytest.mark.parametrize("name", ["../g000001", "g1", "", "g000001/..", "G000001"])
async def test_name_that_is_no_generation_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    store = EmbeddedStore(tmp_path, reserve=0)
    for call in (store.search(name, asked("x")), store.serve(name), store.drop(name)):
        with pytest.raises(GenerationUnknown, match="expected a generation"):
            await call
    await store.close()


async def test_pointer_is_replaced_whole(tmp_path: Path) -> None:
    # Given a pointer and a writer that is killed before its rename
    store = EmbeddedStore(tmp_path, reserve=0)
    name = await sealed(store, MANY[:1])
    await store.serve(name)
    (tmp_path / ".serving.left-over").write_text("g9")
    # Then the old pointer holds, and the next swap works
    assert await store.serving() == name
    write_durably(tmp_path / "serving", name)
    assert await store.serving() == name
    await store.close()


async def test_builder_that_wants_too_much_memory_dies_alone(tmp_path: Path) -> None:
    # Given a serving generation, and from now on builders with less memory than they need
    store = EmbeddedStore(tmp_path, reserve=0)
    serving = await sealed(store, MANY[:1])
    await store.serve(serving)
    await store.close()
    starved = EmbeddedStore(tmp_path, reserve=0, memory=2**20)
    # When a build begins, then it fails with what happened, and queries are answered
    build = await starved.begin(manifest(2))

    async def is_killed() -> bool:
        return not psutil.pid_exists(build.pid)

    await eventually(is_killed)
    with pytest.raises(StoreError, match=r"more than the 1 MiB of memory.*begin the build again"):
        await build.add(MANY)
    assert await found(starved, serving, asked("pump")) == ["doc0"]
    await starved.close()


async def test_ballast_makes_room_and_is_taken_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path)
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES
    with ballast.given_up():
        assert not (tmp_path / "ballast").exists()
    assert (tmp_path / "ballast").stat().st_size == BALLAST_BYTES
