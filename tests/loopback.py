# SPDX-License-Identifier: Apache-2.0
"""An application of a test's own, served on loopback in the test's event loop."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def served(app: web.Application, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve until the block ends; yield the base URL. Handlers end with who asked them."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port, ssl_context=tls).start()
        yield f"{'http' if tls is None else 'https'}://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
