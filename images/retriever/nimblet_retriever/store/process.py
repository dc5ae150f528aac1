# SPDX-License-Identifier: Apache-2.0
"""The retriever's end of a builder process: starts it, asks it, ends it. Decides nothing about generations."""

import asyncio
import sys
from pathlib import Path
from typing import Final

from nimblet_retriever.store.chunk import StoreError
from nimblet_retriever.store.frames import HEADER, Answer, frame
from nimblet_retriever.store.generation import Manifest, StoredModel

END_SECONDS: Final = 10.0
"""How long a builder may take to close its shard after its stdin ended; then it is killed."""
BUILDER_MEMORY: Final = 2 * 2**30
"""Bytes of its own that a builder may have; files that it maps don't count. Not a resource limit: the engine
hangs when an allocation fails (seen with RLIMIT_DATA), so that the process is watched and killed."""
LOOK_SECONDS: Final = 0.25
LAST_WORDS: Final = 2000
"""Bytes of the process's stderr that an error quotes."""


class BuilderProcess:
    """One running builder. Requests are asked one after another."""

    def __init__(self, process: asyncio.subprocess.Process, *, memory: int) -> None:
        self._process = process
        self._memory = memory
        self._turn = asyncio.Lock()
        self._starved = False
        self._watch = asyncio.create_task(self._keep_small())

    @classmethod
    async def start(cls, folder: Path, manifest: Manifest, *, memory: int) -> "BuilderProcess":
        """Start a builder on a folder; it ends when it wants more memory than that."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nimblet_retriever.store.builder",
            str(folder),
            manifest.model_dump_json(by_alias=True),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process, memory=memory)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def ask(self, request: StoredModel) -> Answer:
        """Return the answer. StoreError when the process ended or the engine failed."""
        async with self._turn:
            answer = await self._exchange(request)
        if answer.error:
            raise StoreError(f"the engine failed: {answer.error}")
        return answer

    async def _exchange(self, request: StoredModel) -> Answer:
        incoming, outgoing = self._process.stdout, self._process.stdin
        if incoming is None or outgoing is None:
            raise RuntimeError("expected a process with pipes")
        if outgoing.is_closing():  # the process has ended: uvloop takes a write then for the caller's mistake
            raise StoreError(await self._obituary())
        try:
            outgoing.write(frame(request))
            await outgoing.drain()
            (length,) = HEADER.unpack(await incoming.readexactly(HEADER.size))
            return Answer.model_validate_json(await incoming.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise StoreError(await self._obituary()) from error

    async def _obituary(self) -> str:
        code = await self._process.wait()
        stderr = self._process.stderr
        words = (await stderr.read())[-LAST_WORDS:].decode(errors="replace").strip() if stderr is not None else ""
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        if self._starved:
            cause = f"more than the {self._memory // 2**20} MiB of memory that it may have"
        return f"the builder process ended with {cause}; begin the build again, it resumes. {words}".rstrip()

    async def _keep_small(self) -> None:
        """Kill the process when it has more memory of its own than it may."""
        while self._process.returncode is None:
            if _own_memory(self._process.pid) > self._memory:
                self._starved = True
                self._process.kill()
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """End the process: it closes its shard, or is killed."""
        self._watch.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def _own_memory(pid: int) -> int:
    """Return the bytes that are a process's own; none for one that ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(sizes[0]) * 1024 if sizes else 0
