# SPDX-License-Identifier: Apache-2.0
"""Wires one index's parts into the ASGI application, and lets go of them at the end. Decides nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx
from starlette.applications import Starlette

from nimblet_retriever.app import Api, application
from nimblet_retriever.config import RetrieverConfig, ServerConfig
from nimblet_retriever.embedding import Embedder
from nimblet_retriever.health import EmbeddingProbe, EmbeddingProbes
from nimblet_retriever.keys import KeyRing
from nimblet_retriever.metrics import Metrics
from nimblet_retriever.pushes import Pushes
from nimblet_retriever.record import Record
from nimblet_retriever.rerank import Reranker
from nimblet_retriever.retrieval import Extras, Retriever
from nimblet_retriever.snapshots import SnapshotKeeper
from nimblet_retriever.status import Observer, Readiness
from nimblet_retriever.store.interface import Store
from nimblet_retriever.telemetry import Telemetry, open_tracing, tracer_of
from nimblet_retriever.tools import Tools


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What comes from outside: connections to models, a clock that only goes forward, and the time."""

    client: httpx.AsyncClient
    clock: Callable[[], float]
    now: Callable[[], datetime]


@asynccontextmanager
async def service(
    config: RetrieverConfig, store: Store, around: Surroundings, *, embedder: Embedder | None = None
) -> AsyncIterator[Starlette]:
    """Return the application over a store, which is closed at the end. `embedder`: one other than configured."""
    async with AsyncExitStack() as stack:
        provider = open_tracing(config.tracing, index=config.index)
        telemetry = Telemetry(Metrics(), tracer_of(provider))
        if provider is not None:
            # it sends what it still has, and that may take its timeout
            stack.push_async_callback(asyncio.to_thread, provider.shutdown)
            around.client.event_hooks["request"] = [telemetry.inject]
        embedder = embedder or Embedder(around.client, config.embedding)
        reranker = None
        if config.reranker is not None:
            reranker = Reranker(around.client, config.reranker, clock=around.clock, watch=telemetry)
        former = tuple(Embedder(around.client, item) for item in config.former_embeddings)
        extras = Extras(reranker=reranker, watch=telemetry, former=former)
        retriever = Retriever(store, embedder, config.search, clock=around.clock, extras=extras)
        stack.push_async_callback(retriever.close)
        await retriever.open()
        pushes = Pushes(store, embedder, config.push, language=config.search.language)
        stack.push_async_callback(pushes.close)
        probe = EmbeddingProbes(
            EmbeddingProbe(embedder, clock=around.clock),
            {item.fingerprint: EmbeddingProbe(item, clock=around.clock) for item in former},
        )
        stack.push_async_callback(probe.close)
        keeper = SnapshotKeeper(store, now=around.now)
        if isinstance(config.store, ServerConfig) and config.store.snapshots is not None:
            keeper.start()
            stack.push_async_callback(keeper.close)
        keys = KeyRing(config.keys_file, now=around.now)
        api = Api(
            index=config.index,
            retriever=retriever,
            keys=keys,
            pushes=pushes,
            record=Record(store, retriever, now=around.now),
            observer=Observer(
                index=config.index,
                store=store,
                embedding=probe,
                pushes=pushes.status,
                refused=retriever.refused,
                snapshots=keeper.status,
            ),
            readiness=Readiness(store),
            telemetry=telemetry,
        )
        tools = Tools(config.index, api.call, keys=keys, telemetry=telemetry)
        stack.push_async_callback(tools.close)
        yield application(api, tools)
