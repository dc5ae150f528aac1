# SPDX-License-Identifier: Apache-2.0
"""What only the embedded overlay must do: survive kills and torn writes, tell damage, stop at a full disk."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nimblet_retriever.store.chunk import StoreError, StoreFull
from nimblet_retriever.store.overlay import DEAD_BYTES, EmbeddedOverlay
from nimblet_retriever.store.pushed import Totals
from retriever_testing.stores import SPACE, asked, document

pytestmark = pytest.mark.asyncio

WRITER = """
import asyncio, sys
from pathlib import Path
from nimblet_retriever.store.overlay import EmbeddedOverlay
from retriever_testing.stores import document

async def main():
    overlay = EmbeddedOverlay.open(Path(sys.argv[1]), check_space=lambda more: None)
    async def push(start):
        for number in range(start, 10**6, 8):
            await overlay.put(document(f"d{number}", f"crane {number}"))
            print(number, flush=True)
    await asyncio.gather(*(push(start) for start in range(8)))

asyncio.run(main())
"""


def opened(folder: Path, *, limit: int = 10_000) -> EmbeddedOverlay:
    """Open an overlay on a volume that is never short of space."""
    return EmbeddedOverlay.open(folder, check_space=lambda _: None, limit=limit)


async def found(overlay: EmbeddedOverlay) -> set[str]:
    """Return the texts that are found by the word crane."""
    hits = await overlay.search(asked("crane", candidates=10**6), SPACE.id)
    return {hit.text for hit in hits.lexical}


async def test_acknowledged_pushes_survive_sigkill(tmp_path: Path) -> None:
    # Given a process that pushes and tells each number that was acknowledged
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # nothing else runs in this loop
    with subprocess.Popen(  # noqa: ASYNC220
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(200)]
        # When it is killed in the middle
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().split()
    # Then whatever was told is there
    overlay = opened(tmp_path)
    acknowledged = {f"crane {number}" for number in told if number}
    assert len(acknowledged) >= 200
    assert acknowledged <= await found(overlay)
    await overlay.close()


@pytest.mark.parametrize("lost", [1, 5, 30, 200])
async def test_write_that_was_cut_off_is_as_if_it_never_was(tmp_path: Path, lost: int) -> None:
    # Given a log whose last batch is not whole
    overlay = opened(tmp_path)
    await overlay.put(document("a", "crane one"))
    await overlay.put(document("b", "crane two"))
    await overlay.close()
    with (tmp_path / "log").open("r+b") as file:
        file.truncate((tmp_path / "log").stat().st_size - lost)
    # Then what came before holds, and pushes go on
    again = opened(tmp_path)
    assert await found(again) == {"crane one"}
    await again.put(document("c", "crane three"))
    await again.close()
    last = opened(tmp_path)
    assert await found(last) == {"crane one", "crane three"}
    await last.close()


def open_files() -> set[Path]:
    """Return what this process has open."""
    return {descriptor.resolve() for descriptor in Path("/proc/self/fd").iterdir()}


async def test_damaged_log_is_told_and_not_cut(tmp_path: Path) -> None:
    # Given a log with a byte changed in its first batch
    overlay = opened(tmp_path)
    await overlay.put(document("a", "crane one"))
    await overlay.put(document("b", "crane two"))
    await overlay.close()
    log = tmp_path / "log"
    content = bytearray(log.read_bytes())
    content[40] ^= 1
    log.write_bytes(content)
    # Then nothing of it is thrown away
    with pytest.raises(StoreError, match="damaged at byte 0"):
        opened(tmp_path)
    assert log.read_bytes() == content
    # And nobody holds it
    assert log not in open_files()


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`: writes fail as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_write_that_fails_half_way_leaves_the_log_whole(tmp_path: Path) -> None:
    # Given a log that can't grow further than the middle of the next batch
    overlay = opened(tmp_path)
    await overlay.put(document("a", "crane one"))
    size = (tmp_path / "log").stat().st_size
    with small_disk(size + 100), pytest.raises(StoreError, match="look at the volume"):
        await overlay.put(document("b", "crane two"))
    # Then the push is not there, the log is as it was, and the next one is taken
    assert (tmp_path / "log").stat().st_size == size
    assert await found(overlay) == {"crane one"}
    await overlay.put(document("b", "crane two"))
    await overlay.close()
    again = opened(tmp_path)
    assert await found(again) == {"crane one", "crane two"}
    assert (await again.totals()).sequence == 2
    await again.close()


async def test_pushes_that_wait_together_are_synced_together(tmp_path: Path) -> None:
    overlay = opened(tmp_path)
    await asyncio.gather(*(overlay.put(document(f"d{number}", f"crane {number}")) for number in range(100)))
    await overlay.close()
    assert (tmp_path / "log").read_bytes().count(b"NPL1") <= 5
    again = opened(tmp_path)
    assert len(await found(again)) == 100
    await again.close()


async def test_one_that_is_refused_does_not_touch_the_others(tmp_path: Path) -> None:
    overlay = opened(tmp_path, limit=3)
    pushes = [overlay.put(document("big", *["crane"] * 4)), overlay.put(document("a", "crane one"))]
    refused, taken = await asyncio.gather(*pushes, return_exceptions=True)
    assert isinstance(refused, StoreFull)
    assert not isinstance(taken, BaseException)
    assert await overlay.totals() == Totals(sequence=1, documents=1, passages=1, tombstones=0)
    await overlay.close()


async def test_replaced_and_deleted_documents_leave_the_disk(tmp_path: Path) -> None:
    # Given a log in which most was replaced or deleted
    overlay = opened(tmp_path)
    await overlay.put(document("gone", "secret crane"))
    await overlay.remove("push:app/gone", None)
    await overlay.remove("wiki/pump", None)
    for number in range(9):
        await overlay.put(document("a", "crane " + "long " * (DEAD_BYTES // 25) + str(number)))
    size = (tmp_path / "log").stat().st_size
    assert size < 2 * DEAD_BYTES
    assert b"secret crane" not in (tmp_path / "log").read_bytes()
    # Then what counts is there after a restart, the last number, and what was hidden
    await overlay.put(document("b", "crane b"))
    await overlay.remove("push:app/b", None)
    await overlay.close()
    again = opened(tmp_path)
    assert b"crane b" not in (tmp_path / "log").read_bytes()
    assert await again.totals() == Totals(sequence=14, documents=1, passages=1, tombstones=1)
    assert (await again.search(asked("x"), SPACE.id)).hidden == {"wiki/pump"}
    with pytest.raises(StoreError, match="was deleted"):
        await again.put(document("gone", "secret crane", version=1))
    await again.close()


async def test_many_replacements_keep_the_index_small_and_right(tmp_path: Path) -> None:
    overlay = opened(tmp_path)
    for turn in range(4):
        pushes = [overlay.put(document(f"d{number}", f"crane {number} {turn}")) for number in range(100)]
        await asyncio.gather(*pushes)
    assert await found(overlay) == {f"crane {number} 3" for number in range(100)}
    await overlay.close()
