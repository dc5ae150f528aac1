# SPDX-License-Identifier: Apache-2.0
"""`nimblet index purge`: what it deletes, and what it never does. A make-believe Qdrant server on loopback."""

from dataclasses import dataclass, field

import pytest
from aiohttp import web

from nimblet.cli.errors import CommandError
from nimblet.cli.purge import Server, own_collections, parse_uid, purge
from tests.unit.cli.test_ask import serving

pytestmark = pytest.mark.asyncio
UID = "6ac1f1a2-0d63-4a8e-9b0b-0f6f2f8e2f11"
OTHER = "6ac1f1a2-0d63-4a8e-9b0b-0f6f2f8e2f12"
OWN = [f"{UID}-g000001-abc123", f"{UID}-g000002-abc123", f"{UID}-push", f"{UID}-push-0123456789abcdef"]
OTHERS = [f"{OTHER}-g000001-abc123", f"{UID}-mine", f"x{UID}-push", UID, "documents"]


@dataclass
class Qdrant:
    """Collections behind a key."""

    key: str = "nk-q"
    held: list[str] = field(default_factory=lambda: [*OWN, *OTHERS])

    async def answer(self, request: web.Request) -> web.Response:
        """List or delete."""
        if request.headers.get("api-key") != self.key:
            return web.json_response({"status": {"error": "Must provide an API key"}}, status=401)
        if request.method == "GET":
            return web.json_response({"result": {"collections": [{"name": name} for name in self.held]}})
        self.held.remove(request.path.rpartition("/")[2])
        return web.json_response({"result": True})


async def test_only_the_indexs_own_collections_are_listed_and_then_deleted() -> None:
    qdrant = Qdrant()
    async with serving(qdrant.answer) as url:
        server = Server(url=url, key="nk-q")
        told = await purge(server, UID, confirmed=False)
        assert "Would delete 4 collection(s)" in told
        assert "give --yes" in told
        assert all(name in told for name in OWN)
        assert len(qdrant.held) == len(OWN) + len(OTHERS)
        assert "Deleted 4 collection(s)" in await purge(server, UID, confirmed=True)
        assert qdrant.held == OTHERS
        assert "nothing to delete" in await purge(server, UID, confirmed=True)


async def test_refused_key_and_other_servers_are_told() -> None:
    async with serving(Qdrant().answer) as url:
        with pytest.raises(CommandError, match="refuses the key"):
            await purge(Server(url=url), UID, confirmed=True)

    async def other(_: web.Request) -> web.Response:
        return web.json_response({"hello": "world"})

    async with serving(other) as url:
        with pytest.raises(CommandError, match="found something else"):
            await purge(Server(url=url), UID, confirmed=True)
    with pytest.raises(CommandError, match="expected a Qdrant server"):
        await purge(Server(url=url), UID, confirmed=True)


@pytest.mark.parametrize("text", ["", "docs", "6ac1f1a2", f"{UID}-g"])
async def test_prefix_that_is_no_uid_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="expected the uid"):
        parse_uid(text)
    assert parse_uid(UID) == UID


async def test_port_is_that_of_qdrant_unless_it_is_named() -> None:
    assert Server(url="https://q.example.com/").base == "https://q.example.com:6333"
    assert Server(url="http://q:8080/sub").base == "http://q:8080/sub"
    with pytest.raises(CommandError, match="expected http"):
        _ = Server(url="qdrant").base
    assert own_collections(UID, ["a", *OWN]) == sorted(OWN)
