# SPDX-License-Identifier: Apache-2.0
"""A full read goes on where one list is refused; against a server on loopback."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web

from nimblet.cluster.client import Client
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.resync import rebuild
from nimblet.cluster.trim import WATCHED
from tests.unit.loopback import connected

pytestmark = pytest.mark.asyncio


@dataclass
class Lists:
    """Empty lists of every kind; the n-th request (from 1) is refused with `refusals[n]`."""

    refusals: dict[int, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        status = self.refusals.get(len(self.asked), 200)
        return web.json_response({"metadata": {"resourceVersion": "7"}, "items": []}, status=status)


@pytest.fixture
def lists() -> Lists:
    return Lists()


@pytest_asyncio.fixture
async def client(lists: Lists) -> AsyncIterator[Client]:
    async with connected(lists.handle) as client:
        yield client


async def test_a_refused_list_is_tried_again_and_the_others_are_not(client: Client, lists: Lists) -> None:
    lists.refusals = {3: 503}
    await rebuild(client, Mirror())
    assert len(lists.asked) == len(WATCHED) + 1
    assert lists.asked[2] == lists.asked[3]


async def test_what_trying_again_can_not_heal_ends_the_read(client: Client, lists: Lists) -> None:
    lists.refusals = {1: 403}
    with pytest.raises(Forbidden):
        await rebuild(client, Mirror())
    assert len(lists.asked) == 1
