# SPDX-License-Identifier: Apache-2.0
"""What a server, and several that are one cluster, do that local mode does not: limits, parts, late answers.

The server is a make-believe one; what is believed of it stands in Qdrant's sources.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from nimblet_retriever.store.server import ServerStore
from retriever_testing.process import serving
from retriever_testing.restserver import RestServer
from retriever_testing.stores import (
    KEY,
    URL,
    asked,
    chunk,
    document,
    found,
    opened,
    sealed,
)

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
]
PUMP = chunk("pump", "The pump X200 runs at 45 bar.")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RestServer]:
    """A server without a key."""
    made = RestServer()
    yield made
    await made.local.close()


@pytest.mark.parametrize("key", [None, "k3y"])
async def test_suite_leaves_a_named_server_as_it_was(
    server: RestServer, key: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a server that the environment names, with a collection and an alias of somebody else's
    server.key = key
    other = ServerStore(server.local, prefix="nimblet-test")
    await other.serve(await sealed(other, [PUMP]))
    with serving(server.app()) as url:
        monkeypatch.setenv(URL, url)
        monkeypatch.delenv(KEY, raising=False)
        if key is not None:
            monkeypatch.setenv(KEY, key)
        for _ in range(2):
            # When a store of the suite's own is used there and left
            async with opened("server", tmp_path) as store:
                name = await sealed(store, [PUMP])
                await store.serve(name)
                await (await store.overlay()).put(document("note", "A valve."))
                assert await found(store, name, asked("pump")) == ["pump"]
            # Then only theirs is there
            (left,) = (await server.local.get_collections()).collections
            assert left.name == "nimblet-test-g000001-a"
            (alias,) = (await server.local.get_aliases()).aliases
            assert alias.alias_name == "nimblet-test-serving"
