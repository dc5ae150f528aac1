# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_gateway --config FILE`: serves one assistant until SIGTERM. Wires the parts."""

import argparse
import asyncio
import logging
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from nimblet_gateway.answering import Answering
from nimblet_gateway.app import Api, application
from nimblet_gateway.config import GatewayConfig, read_config
from nimblet_gateway.generation import Generator
from nimblet_gateway.guard import Guard
from nimblet_gateway.health import Health
from nimblet_gateway.keys import KeyRing
from nimblet_gateway.limits import Rates, Turnstile
from nimblet_gateway.model import Model
from nimblet_gateway.replicas import Replicas
from nimblet_gateway.retriever import Index
from nimblet_gateway.search import Indexes
from nimblet_gateway.selftest import Examiner
from nimblet_gateway.telemetry import Metrics, Tracing, tracing
from nimblet_gateway.web import Client, opened
from nimblet_tls.folder import TLSError, TLSFolder

log = logging.getLogger("nimblet_gateway")


def main(argv: Sequence[str]) -> int:
    """Serve; exit code 0 after SIGTERM, 2 for a wrong configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m nimblet_gateway",
        description="Serves one assistant. Exit codes: 0 stopped, 2 wrong configuration.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="JSON, rendered by the operator"
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - the pod's own
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 8080 by default")
    parser.add_argument(
        "--tls", type=Path, metavar="FOLDER", help="serve HTTPS, and trust, by the files mounted there"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = read_config(options.config)
    except (OSError, ValidationError) as error:
        log.error("%s: %s", options.config, error)  # noqa: TRY400 - the message says it all
        return 2
    place = Place(host=options.host, port=options.port, tls=TLSFolder(options.tls) if options.tls else None)
    with asyncio.Runner(loop_factory=uvicorn.Config(app="", loop="auto").get_loop_factory()) as runner:
        try:
            runner.run(run(options.config, config, place))
        except TLSError as error:
            log.error("%s", error)  # noqa: TRY400 - the message says it all
            return 2
    return 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it listens; in plain HTTP without `tls`."""

    host: str
    port: int
    tls: TLSFolder | None = None


async def run(path: Path, config: GatewayConfig, place: Place) -> None:
    """Open everything and serve until a signal."""
    async with AsyncExitStack() as stack:
        tls = place.tls
        client = await stack.enter_async_context(opened(tls.client() if tls is not None else True))
        traces = tracing(config.tracing, assistant=config.assistant)
        stack.callback(traces.close)
        replicas = Replicas(path, known=config.replicas, clock=time.monotonic)
        api = assembled(config, client=client, traces=traces, replicas=replicas)
        examining = asyncio.ensure_future(api.examiner.run())
        stack.push_async_callback(_ended, examining)
        settings = uvicorn.Config(
            application(api), host=place.host, port=place.port, access_log=False, log_config=None, lifespan="off"
        )
        if tls is not None:
            settings.load()
            settings.ssl = tls.server()
            stack.push_async_callback(_ended, asyncio.ensure_future(tls.watch()))
        server = uvicorn.Server(settings)
        # only a defect ends it: what is told of the dependencies would stay as it is for ever
        examining.add_done_callback(lambda _: setattr(server, "should_exit", True))
        # uvicorn raises the signal again once it has drained: what is closed below would never be, spans be lost
        signal.signal(signal.SIGTERM, lambda *_: None)
        await server.serve()


def assembled(config: GatewayConfig, *, client: Client, traces: Tracing, replicas: Replicas) -> Api:
    """Return the parts put together."""
    clock, metrics = time.monotonic, Metrics()
    names = ["model", *(f"index/{index.name}" for index in config.indexes)]
    names += ["guard"] if config.guard is not None else []
    names += ["fallback"] if config.fallback is not None else []
    health = Health(names, metrics=metrics, clock=clock)
    chat = partial(Model, client=client, seconds=config.limits.request_seconds)
    model = chat(config=config.model)
    fallback = chat(config=config.fallback) if config.fallback is not None else None
    guard = Guard(client=client, config=config.guard) if config.guard is not None else None
    each = tuple(Index(client=client, config=index, clock=clock) for index in config.indexes)
    indexes = Indexes(
        indexes=each, wait_seconds=config.retrieval.wait_seconds, health=health, metrics=metrics, clock=clock
    )
    generator = Generator(model=model, fallback=fallback, health=health, metrics=metrics)
    turnstile = Turnstile(concurrency=config.limits.concurrency, queue=config.limits.queue)
    metrics.running.set_function(lambda: turnstile.running)
    metrics.waiting.set_function(lambda: len(turnstile.waiting))
    now = partial(datetime.now, UTC)
    return Api(
        config=config,
        answering=Answering(
            config=config, generator=generator, indexes=indexes, guard=guard, health=health, metrics=metrics
        ),
        indexes=indexes,
        examiner=Examiner(
            config=config, model=model, fallback=fallback, indexes=each, guard=guard, health=health, now=now
        ),
        keys=KeyRing(config.keys_dir, now=now, clock=clock),
        rates=Rates(config.limits, replicas=replicas, clock=clock),
        turnstile=turnstile,
        metrics=metrics,
        tracing=traces,
        clock=clock,
        wall=time.time,
        mint=lambda: f"chatcmpl-{uuid.uuid4().hex}",
    )


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
