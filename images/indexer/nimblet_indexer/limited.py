# SPDX-License-Identifier: Apache-2.0
"""Runs one function in a process of its own with limits on memory and time, for input that can't be trusted.

What comes back passes through a pipe, so that arguments and results must be picklable. It knows no sources.
"""

import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Died(Exception):  # noqa: N818 - what happened
    """The process ended without a result, or had to be ended. The message says how."""


@dataclass(frozen=True, kw_only=True)
class Work(Generic[A, R]):
    """A function and its argument, and how much memory (address space) and time it may take."""

    function: Callable[[A], R]
    argument: A
    memory_bytes: int
    seconds: float


def fork_server() -> ForkServerContext:
    """Return how all limited processes are made: forked from one that has the parsers already loaded.

    So a process that had to be ended is made anew at once. The server itself reads nothing and has no threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nimblet_indexer.parse.file"])
    return context


def start_fork_server() -> None:
    """Have it load the parsers while others are loading, too; whoever forks from it first waits for the rest."""
    fork_server()
    forkserver.ensure_running()


def run_limited(work: Work[A, R]) -> R:
    """Return what the function returns. Died when it takes too much, or raises."""
    context = fork_server()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(work.seconds):
            raise Died(f"it did not end within {work.seconds:g} s")
        result: R = ours.recv()
    except EOFError:
        process.join()
        raise Died(f"its process ended with exit code {process.exitcode}, out of memory perhaps") from None
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
    return result


def _serve(pipe: Connection, work: Work[A, R]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (work.memory_bytes, work.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send(work.function(work.argument))
