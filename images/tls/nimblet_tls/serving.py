# SPDX-License-Identifier: Apache-2.0
"""A server of ours as a process: options, configuration, and an application that is served until SIGTERM.

It needs the extra `serve`. What a program is made of, and what it opens beside, is the program's own.
"""

import argparse
import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import uvicorn
from starlette.types import ASGIApp

from nimblet_tls.folder import TLSError, TLSFolder
from nimblet_tls.heads import BoundedHeads

STOPPED: Final = 0
MISCONFIGURED: Final = 2
"""Exit codes."""

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it listens; in plain HTTP without `tls`."""

    host: str
    port: int
    tls: TLSFolder | None = None


def options_of(program: str, description: str) -> argparse.ArgumentParser:
    """Return the options that each of them has; a program may add to them."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="JSON, rendered by the operator"
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - the pod's own
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 8080 by default")
    parser.add_argument(
        "--tls", type=Path, metavar="FOLDER", help="serve HTTPS, and trust, by the files mounted there"
    )
    return parser


def run_until_stopped(
    options: argparse.Namespace,
    *,
    read: Callable[[Path], Config],
    run: Callable[[Config, Place], Coroutine[Any, Any, None]],
    log: logging.Logger,
) -> int:
    """Run a program by its options; return its exit code: STOPPED, or MISCONFIGURED with the flaw in the log.

    `read` raises OSError or ValueError, as pydantic's is one, for a configuration that it does not take.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = read(options.config)
    except (OSError, ValueError) as error:
        log.error("%s: %s", options.config, error)  # noqa: TRY400 - the message says it all
        return MISCONFIGURED
    place = Place(host=options.host, port=options.port, tls=TLSFolder(options.tls) if options.tls else None)
    try:
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(run(config, place))
    except TLSError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return MISCONFIGURED
    return STOPPED


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop: the server's own choice, which is uvloop where that is installed."""
    return uvicorn.Config(app="", loop="auto").get_loop_factory()


def server_at(place: Place, app: ASGIApp) -> uvicorn.Server:
    """Return a server of the application; it logs no request, since paths and queries hold what users wrote."""
    settings = uvicorn.Config(
        app,
        host=place.host,
        port=place.port,
        http=BoundedHeads,
        access_log=False,
        log_config=None,
        lifespan="off",
    )
    if place.tls is not None:
        settings.load()
        settings.ssl = place.tls.server()
    return uvicorn.Server(settings)


async def serve(server: uvicorn.Server, tls: TLSFolder | None, stack: AsyncExitStack) -> None:
    """Serve until a signal, by the certificate as it is at the time."""
    if tls is not None:
        alongside(stack, tls.watch())
    # uvicorn raises the signal again once it has drained: what the stack closes would never be, spans be lost
    signal.signal(signal.SIGTERM, lambda *_: None)
    await server.serve()


def alongside(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Start work that is ended with the stack."""
    task = asyncio.ensure_future(work)
    stack.push_async_callback(_ended, task)
    return task


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
