# SPDX-License-Identifier: Apache-2.0
"""When everything is read anew; against a server on loopback."""

import asyncio

import pytest
from aiohttp import web

from nimblet.cluster.mirror import Mirror
from nimblet.cluster.trim import WATCHED
from nimblet.shell.metrics import Metrics
from nimblet.shell.queue import Queue
from nimblet.shell.resync import Resync
from tests.unit.loopback import connected
from tests.unit.shell.virtual import dice

pytestmark = pytest.mark.asyncio
LATE = 30.0
"""Seconds after which something that must happen has not."""


async def test_what_went_before_the_watches_were_there_is_found_long_before_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an operator that has read the cluster, and watches that tell of nothing that went until they were there
    monkeypatch.setattr("nimblet.shell.resync.SETTLE_SECONDS", 0.05)
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def lists(request: web.Request) -> web.Response:
        asked.put_nowait(request.path)
        return web.json_response({"metadata": {"resourceVersion": "7"}, "items": []})

    async with connected(lists) as client:
        resync = Resync(
            client=client,
            mirror=Mirror(),
            queue=Queue(rng=dice(), rest=0.0),
            namespaces=(),
            interval=600.0,
            rng=dice(),
            clock=asyncio.get_running_loop().time,
            metrics=Metrics(),
        )
        await resync.once(spread=0.0)
        assert asked.qsize() == len(WATCHED)
        # When it goes on, then everything is read again
        running = asyncio.create_task(resync.run())
        async with asyncio.timeout(LATE):
            seen = {await asked.get() for _ in range(2 * len(WATCHED))}
            # And once more when a watch begins anew
            resync.soon()
            again = {await asked.get() for _ in range(len(WATCHED))}
        running.cancel()
        await asyncio.wait((running,))
    assert len(seen) == len(WATCHED)
    assert again == seen
