# SPDX-License-Identifier: Apache-2.0
"""What users name is compared with what a pass read, by versions alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from nimblet import labels
from nimblet.cluster.client import Client
from nimblet.cluster.key import Key
from nimblet.cluster.referents import Referents
from nimblet.cluster.resources import CLAIM, CONFIG_MAP, SECRET
from tests.unit.cluster_facts.builders import Json
from tests.unit.loopback import connected

pytestmark = pytest.mark.asyncio
DOCS, MORE = Key("RetrievalIndex", "team", "docs"), Key("RetrievalIndex", "team", "more")
MISSING: Json = {"kind": "Status", "reason": "NotFound", "message": "no such object", "code": 404}


@dataclass
class Cluster:
    """Objects by plural and name, each with its version; lists show what is labelled for our use."""

    objects: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        metadata_only = "PartialObjectMetadata" in request.headers["Accept"]
        self.asked.append(f"{request.path} {'metadata' if metadata_only else 'whole'}")
        _, plural, *rest = request.path.removeprefix("/api/v1").removeprefix("/namespaces/team").split("/")
        if rest:
            return self._one(plural, rest[0])
        assert request.query["labelSelector"] == f"{labels.USE}=true"
        found = [
            body(name, at, usable=True)
            for (kind, name), (at, usable) in self.objects.items()
            if usable and kind == plural
        ]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": found})

    def _one(self, plural: str, name: str) -> web.Response:
        found = self.objects.get((plural, name))
        if found is None:
            return web.json_response(MISSING, status=404)
        return web.json_response(body(name, found[0], usable=found[1]))


def body(name: str, version: int, *, usable: bool) -> Json:
    marks = {labels.USE: "true"} if usable else {}
    return {"metadata": {"name": name, "namespace": "team", "resourceVersion": str(version), "labels": marks}}


@asynccontextmanager
async def served(cluster: Cluster) -> AsyncIterator[Client]:
    async with connected(cluster.handle) as client:
        yield client


async def test_a_changed_map_is_told_to_all_who_name_it_and_once() -> None:
    cluster, referents = Cluster({("configmaps", "handbook"): (5, True)}), Referents()
    async with served(cluster) as client:
        for key in (DOCS, MORE):
            assert await referents.reader(client, key).get(CONFIG_MAP, namespace="team", name="handbook")
        assert await referents.listed(client) == frozenset()
        cluster.objects["configmaps", "handbook"] = (6, True)
        assert await referents.listed(client) == {DOCS, MORE}
        assert await referents.listed(client) == frozenset()
        assert cluster.asked[-1] == "/api/v1/configmaps metadata"


async def test_what_changed_between_a_read_and_the_first_list_is_told() -> None:
    cluster, referents = Cluster({("configmaps", "handbook"): (5, True)}), Referents()
    async with served(cluster) as client:
        await referents.reader(client, DOCS).get(CONFIG_MAP, namespace="team", name="handbook")
        cluster.objects["configmaps", "handbook"] = (6, True)
        await referents.reader(client, MORE).get(CONFIG_MAP, namespace="team", name="handbook")
        assert await referents.listed(client) == {DOCS}


@pytest.mark.parametrize("away", [(6, False), None])
async def test_what_is_gone_or_not_for_our_use_is_told_and_its_coming_too(away: tuple[int, bool] | None) -> None:
    cluster, referents = Cluster({("persistentvolumeclaims", "files"): (5, True)}), Referents()
    async with served(cluster) as client:
        await referents.reader(client, DOCS).get(CLAIM, namespace="team", name="files")
        if away is None:
            del cluster.objects["persistentvolumeclaims", "files"]
        else:
            cluster.objects["persistentvolumeclaims", "files"] = away
        assert await referents.listed(client) == {DOCS}
        await referents.reader(client, DOCS).get(CLAIM, namespace="team", name="files")
        assert await referents.listed(client) == frozenset()
        cluster.objects["persistentvolumeclaims", "files"] = (7, True)
        assert await referents.listed(client) == {DOCS}


async def test_secrets_are_looked_at_by_name_and_without_what_they_hold() -> None:
    cluster, referents = Cluster({("secrets", "token"): (5, False)}), Referents()
    async with served(cluster) as client:
        await referents.reader(client, DOCS).get(SECRET, namespace="team", name="token")
        assert await referents.secrets(client) == frozenset()
        cluster.objects["secrets", "token"] = (6, False)
        assert await referents.secrets(client) == {DOCS}
        assert cluster.asked[-1] == "/api/v1/namespaces/team/secrets/token metadata"
        assert await referents.listed(client) == frozenset()
        assert cluster.asked[-1].endswith("/secrets/token metadata")  # nothing is listed that nobody names


async def test_who_names_it_no_more_or_is_gone_is_not_woken() -> None:
    cluster, referents = Cluster({("configmaps", "handbook"): (5, True)}), Referents()
    async with served(cluster) as client:
        for key in (DOCS, MORE):
            await referents.reader(client, key).get(CONFIG_MAP, namespace="team", name="handbook")
        referents.reader(client, DOCS)
        referents.forget(MORE)
        cluster.objects["configmaps", "handbook"] = (6, True)
        assert await referents.listed(client) == frozenset()
