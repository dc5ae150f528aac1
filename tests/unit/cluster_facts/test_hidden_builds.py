# SPDX-License-Identifier: Apache-2.0
"""A build that the status tells of and the mirror lacks is read before another one could take its place."""

from dataclasses import dataclass, field

import pytest
from aiohttp import web

from nimblet import labels
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.cluster.indexfacts import read_hidden_builds
from nimblet.cluster.key import Key
from tests.indexes import an_index
from tests.unit.cluster_facts.builders import Json, metadata, owner
from tests.unit.cluster_facts.test_gather_artifacts import Cluster, gatherer

pytestmark = pytest.mark.asyncio
HANDBOOK = Key("RetrievalIndex", "team", "handbook")
RUNNING = an_index(status=RetrievalIndexStatus(building_generation="g000002"))


def a_job(generation: str, *, version: int) -> Json:
    name = f"handbook-build-{generation}"
    marks = {labels.INDEX: "handbook", labels.BUILD_GENERATION: generation}
    of_index = owner("RetrievalIndex", "handbook", "uid-index", labels.API_VERSION)
    head = metadata(name, version=version, labels=marks, ownerReferences=[of_index])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": head, "status": {}}


@dataclass
class Listing(Cluster):
    """Lists two builds, and remembers what it was asked for."""

    stored: Json | None = None
    queries: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.queries.append(request.query["labelSelector"])
        items = [a_job("g000001", version=5), a_job("g000002", version=9)]
        return web.json_response({"metadata": {"resourceVersion": "10"}, "items": items})


async def test_a_build_that_a_stale_list_hid_is_read() -> None:
    cluster = Listing()
    async with gatherer(cluster) as made:
        made.mirror.put("Job", a_job("g000001", version=5))
        await read_hidden_builds(made, RUNNING, HANDBOOK)
        assert [body["metadata"]["name"] for body in made.mirror.owned(HANDBOOK, "Job")] == [  # type: ignore[index]
            "handbook-build-g000001",
            "handbook-build-g000002",
        ]
    assert cluster.asked == ["/apis/batch/v1/namespaces/team/jobs"]
    assert cluster.queries == [f"{labels.INDEX}=handbook"]


async def test_nothing_is_read_where_the_build_is_known_or_none_runs() -> None:
    cluster = Listing()
    async with gatherer(cluster) as made:
        await read_hidden_builds(made, an_index(), HANDBOOK)
        made.mirror.put("Job", a_job("g000002", version=9))
        await read_hidden_builds(made, RUNNING, HANDBOOK)
    assert cluster.asked == []
