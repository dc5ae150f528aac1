# SPDX-License-Identifier: Apache-2.0
"""Our client, connected to an API server of the test's own making on loopback."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from kubernetes.aio.client import Configuration

from nimblet.cluster.client import Client
from nimblet.cluster.transport import Transport
from tests.loopback import served

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def connected(handle: Handle) -> AsyncIterator[Client]:
    """Serve every path by `handle` and yield a client of it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    async with served(app) as url:
        configuration = Configuration()
        configuration.host = url
        client = Client(Transport(configuration))
        try:
            yield client
        finally:
            await client.close()
