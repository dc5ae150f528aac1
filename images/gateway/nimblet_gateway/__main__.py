# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_gateway --config FILE`: serves one assistant until SIGTERM. Wires the parts."""

import logging
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from nimblet_gateway.answering import Answering
from nimblet_gateway.app import Api, application
from nimblet_gateway.config import GatewayConfig, read_config
from nimblet_gateway.generation import Generator
from nimblet_gateway.guard import Guard
from nimblet_gateway.health import Health
from nimblet_gateway.keys import KeyRing
from nimblet_gateway.limits import Rates, Room, Turnstile
from nimblet_gateway.model import Model
from nimblet_gateway.replicas import Replicas
from nimblet_gateway.retriever import Index
from nimblet_gateway.search import Indexes
from nimblet_gateway.selftest import Examiner
from nimblet_gateway.telemetry import Metrics, Tracing, tracing
from nimblet_gateway.web import Client, opened
from nimblet_tls.serving import Place, alongside, options_of, run_until_stopped, serve, server_at

log = logging.getLogger("nimblet_gateway")
BODIES_BYTES = 32 * 2**20
"""Of requests that are being read at the same time; two of the longest at least."""


def main(argv: Sequence[str]) -> int:
    """Serve; exit code 0 after SIGTERM, 2 for a wrong configuration."""
    parser = options_of("nimblet_gateway", "Serves one assistant. Exit codes: 0 stopped, 2 wrong configuration.")
    options = parser.parse_args(argv)
    return run_until_stopped(options, read=read_config, run=partial(run, options.config), log=log)


async def run(path: Path, config: GatewayConfig, place: Place) -> None:
    """Open everything and serve until a signal."""
    async with AsyncExitStack() as stack:
        tls = place.tls
        client = await stack.enter_async_context(opened(tls.client() if tls is not None else True))
        traces = tracing(config.tracing, assistant=config.assistant)
        stack.callback(traces.close)
        replicas = Replicas(path, known=config.replicas, clock=time.monotonic)
        api = assembled(config, client=client, traces=traces, replicas=replicas)
        examining = alongside(stack, api.examiner.run())
        server = server_at(place, application(api))
        # only a defect ends it: what is told of the dependencies would stay as it is for ever
        examining.add_done_callback(lambda _: setattr(server, "should_exit", True))
        await serve(server, tls, stack)


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
        room=Room(most=max(BODIES_BYTES, 2 * config.limits.body_bytes)),
        metrics=metrics,
        tracing=traces,
        clock=clock,
        wall=time.time,
        mint=lambda: f"chatcmpl-{uuid.uuid4().hex}",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
