# SPDX-License-Identifier: Apache-2.0
"""kopf's watches end when they should, soon, and without a word: against an API server on loopback."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping

import kopf
import pytest

from nimblet.cluster.login import Login
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.resources import Resource
from nimblet.cluster.trim import WATCHED
from nimblet.shell.handlers import Intake, registry_for, watch, watch_settings
from nimblet.shell.queue import Queue
from tests.unit.shell.apiserver import Watch, api_server, changes, failure, silence
from tests.unit.shell.virtual import dice

pytestmark = [pytest.mark.asyncio]
END_SECONDS = 30.0
STOPS = 5


class Watched:
    """Counts watches, and tells when so many were opened: by default one of each kind."""

    def __init__(self, events: Watch, *, count: int = len(WATCHED)) -> None:
        self.opened = 0
        self.reached = asyncio.Event()
        self._events = events
        self._count = count

    async def __call__(self, resource: Resource) -> AsyncIterator[Mapping[str, object]]:
        self.opened += 1
        if self.opened >= self._count:
            self.reached.set()
        async for event in self._events(resource):
            yield event


def watching(
    login: Login,
    stop: asyncio.Event,
    settings: kopf.OperatorSettings,
    *,
    listing: Callable[[], None] = lambda: None,
) -> "asyncio.Task[None]":
    async def log_in() -> Login:
        await asyncio.sleep(0)
        return login

    registry = registry_for(Intake(mirror=Mirror(), queue=Queue(rng=dice()), listing=listing), login=log_in)
    return asyncio.create_task(
        watch(registry, settings=settings, namespaces=(), stop=stop, started=lambda: None), name="watches"
    )


async def ends(task: "asyncio.Task[None]") -> None:
    done, _ = await asyncio.wait((task,), timeout=END_SECONDS)
    assert done, f"expected the watches to end within {END_SECONDS:g} s"


async def expired(_: Resource) -> AsyncIterator[Mapping[str, object]]:
    """End a watch at once by an event, as a server does that knows no such old version."""
    await asyncio.sleep(0)
    yield failure(410)


async def busy(resource: Resource) -> AsyncIterator[Mapping[str, object]]:
    for event in changes(resource):
        yield event
        await asyncio.sleep(0.01)


async def test_quiet_watches_end_when_told(caplog: pytest.LogCaptureFixture) -> None:
    watched, stop = Watched(silence), asyncio.Event()
    async with api_server(watched) as login:
        before = asyncio.all_tasks()
        task = watching(login, stop, watch_settings())
        await watched.reached.wait()
        stop.set()
        await ends(task)
        await task
        assert {left.get_name() for left in asyncio.all_tasks() - before if "watcher" in left.get_name()} == set()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_watches_that_begin_anew_all_the_time_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """The end by kopf itself hung here in most tries: a cancelled stream that was just being restarted ran on."""
    settings = watch_settings()
    settings.watching.reconnect_backoff = 0.0
    for number in range(STOPS):
        watched, stop = Watched(expired, count=5 * len(WATCHED) + number), asyncio.Event()
        async with api_server(watched) as login:
            task = watching(login, stop, settings)
            await watched.reached.wait()
            stop.set()
            await ends(task)
            await task
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_watch_that_begins_anew_is_told_of_since_it_may_have_missed_what_went() -> None:
    told: asyncio.Queue[None] = asyncio.Queue()
    settings = watch_settings()
    settings.watching.reconnect_backoff = 0.0
    watched, stop = Watched(expired), asyncio.Event()
    async with api_server(watched) as login:
        task = watching(login, stop, settings, listing=lambda: told.put_nowait(None))
        async with asyncio.timeout(END_SECONDS):
            for _ in range(3):
                await told.get()
        stop.set()
        await ends(task)
        await task


async def test_a_fatal_error_ends_busy_watches_at_once() -> None:
    go = asyncio.Event()

    async def broken(resource: Resource) -> AsyncIterator[Mapping[str, object]]:
        if resource.kind == "Node":
            await go.wait()
            yield failure(500)
        async for event in busy(resource):
            yield event

    watched, stop = Watched(broken), asyncio.Event()
    async with api_server(watched) as login:
        task = watching(login, stop, watch_settings())
        await watched.reached.wait()
        go.set()
        await ends(task)
    assert "it says 500" in str(task.exception())


async def test_cancelled_watches_end() -> None:
    watched, stop = Watched(busy), asyncio.Event()
    async with api_server(watched) as login:
        task = watching(login, stop, watch_settings())
        await watched.reached.wait()
        task.cancel()
        await ends(task)
    assert task.cancelled()
