# SPDX-License-Identifier: Apache-2.0
"""A real server under steady load in a memory cgroup of exactly the computed size: it must not be killed.

The model's file is a copy that nobody else has mapped, so that its pages count against the limit as in a pod.
Needs root and the memory controller, of version 1 or 2. `python -m tests.bench.soak GROUP ARGV…` is the way in.
"""

import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from e2e.cluster import cgroups
from nimblet.plan.sizing import size_model
from nimblet.quantity import MEBIBYTE, bytes_of
from tests.bench.localserver import BenchError, LocalServer, run_server
from tests.bench.sizing import (
    GENERATED_TOKENS,
    SHORT_TEXT_TOKENS,
    Case,
    Completion,
    client_of,
    complete,
    embed,
    prompts,
    server_args,
    tokens_of,
)

PARTS = (1.0, 0.1, 0.5, 0.25)
"""Of the context, in turn: the length of each prompt."""


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What a soak saw; bytes."""

    case: Case
    limit_bytes: int
    highest_bytes: int
    requests: int
    seconds: float
    kills: int
    died: bool

    @property
    def survived(self) -> bool:
        """Whether nothing was killed and the same process answered to the end."""
        return not (self.kills or self.died)


class Group:
    """One memory cgroup with a limit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._v2 = (folder / "memory.max").is_file()

    def limit(self, size: int) -> None:
        """Let no more than this be used, swap included."""
        if self._v2:
            self._write("memory.max", size)
            self._write("memory.swap.max", 0)
        else:
            self._write("memory.limit_in_bytes", size)
            self._write("memory.swappiness", 0)

    def highest(self) -> int:
        """Return the highest use so far, page cache included."""
        return int(self._read("memory.peak" if self._v2 else "memory.max_usage_in_bytes"))

    def kills(self) -> int:
        """Return how many processes the kernel killed for memory."""
        text = self._read("memory.events" if self._v2 else "memory.oom_control")
        words = dict(line.split() for line in text.splitlines())
        return int(words["oom_kill"])

    def _write(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value), encoding="ascii")

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="ascii")


@contextmanager
def memory_group() -> Iterator[Group]:
    """Give an empty group of our own; it is removed with all that is in it."""
    name = f"nimblet-soak-{secrets.token_hex(4)}"
    tree = next((tree for tree in cgroups.trees() if tree.name == "memory" or tree == cgroups.ROOT), None)
    if tree is None:
        raise BenchError(f"expected a memory cgroup below {cgroups.ROOT}, found none; a soak needs one")
    cgroups.create(name)
    try:
        yield Group(tree / name)
    finally:
        cgroups.kill(name)
        cgroups.remove(name)


def soak(case: Case, *, binary: Path, seconds: float) -> Soak:
    """Keep every slot busy for some time at the limit that a pod would have."""
    sizing = size_model(case.header(), case.demand)
    with TemporaryDirectory(prefix="nimblet-soak-") as folder, memory_group() as group:
        copy = _uncached_copy(case.model, into=Path(folder))
        group.limit(bytes_of(sizing.memory))
        confine = [sys.executable, "-m", "tests.bench.soak", str(group.folder)]
        args = server_args(replace(case, model=copy), sizing)
        with run_server(binary, args, model=copy, folder=Path(folder), before=confine) as server:
            started = time.monotonic()
            requests, died = _load(server, case, seconds=seconds)
            return Soak(
                case=case,
                limit_bytes=bytes_of(sizing.memory),
                highest_bytes=group.highest(),
                requests=requests,
                seconds=time.monotonic() - started,
                kills=group.kills(),
                died=died,
            )


def _uncached_copy(model: Path, *, into: Path) -> Path:
    """Copy the file and drop its pages: who reads them next is charged for them."""
    copy = into / model.name
    shutil.copyfile(model, copy)
    with copy.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return copy


def _load(server: LocalServer, case: Case, *, seconds: float) -> tuple[int, bool]:
    """Send from one thread more than there are slots until the time is over; return requests and a death."""
    deadline = time.monotonic() + seconds
    done: list[int] = []
    died = threading.Event()
    numbers = count()
    with client_of(server) as client:
        tokens = tokens_of(client)

        def work() -> None:
            while time.monotonic() < deadline and not died.is_set():
                try:
                    _one(client, case, tokens, next(numbers))
                except httpx.TransportError:
                    died.set()
                    return
                done.append(1)

        workers = [threading.Thread(target=work, name=f"soak-{n}") for n in range(case.demand.parallel + 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return len(done), died.is_set()


def _one(client: httpx.Client, case: Case, tokens: Sequence[int], number: int) -> None:
    """Send the prompt of this number: each begins differently, so that none is found in a cache."""
    whole = case.demand.context_length - (GENERATED_TOKENS if case.demand.task == "Chat" else 0)
    length = max(SHORT_TEXT_TOKENS, int(whole * PARTS[number % len(PARTS)]))
    prompt = next(prompts(tokens, [length], first=number))
    if case.demand.task == "Chat":
        complete(client, prompt, Completion())
    else:
        embed(client, prompt)


def soak_table(soaks: Sequence[Soak]) -> str:
    """Return the figures for people; sizes in MiB."""
    head = f"{'model':<18}{'limit':>9}{'highest':>9}{'requests':>10}{'seconds':>9}{'kills':>7}  outcome"
    return "\n".join([head, *(_row(item) for item in soaks)])


def _row(item: Soak) -> str:
    sizes = f"{item.limit_bytes / MEBIBYTE:>9.1f}{item.highest_bytes / MEBIBYTE:>9.1f}"
    counts = f"{item.requests:>10}{item.seconds:>9.0f}{item.kills:>7}"
    return f"{item.case.name:<18}{sizes}{counts}  {'survived' if item.survived else 'killed'}"


def main(argv: Sequence[str]) -> None:
    """Enter the group, then become the program."""
    group, *program = argv
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    os.execv(program[0], program)  # noqa: S606 - the caller's own argv, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
