# SPDX-License-Identifier: Apache-2.0
"""A model whose spec can't be read: nothing of it is touched, and who names it is told whether it serves."""

import pytest
from aiohttp import web

from nimblet.cluster.modelref import gather_model_reference
from nimblet.plan.modelfacts import ModelReference
from tests.unit.cluster_facts.builders import Json, condition
from tests.unit.loopback import connected

pytestmark = pytest.mark.asyncio


async def told(*conditions: Json, **metadata: object) -> ModelReference:
    """Return what is told of a model of these conditions, with a spec of another operator's."""
    body: Json = {
        "apiVersion": "nimblet.dev/v1alpha1",
        "kind": "CompactModel",
        "metadata": {"name": "small", "namespace": "team", "uid": "uid-small", "generation": 2, **metadata},
        "spec": {"source": {"uri": "hf://a/b"}, "someday": True},
        "status": {"observedGeneration": 2, "conditions": [{**item, "message": "m"} for item in conditions]},
    }

    async def handle(_: web.Request) -> web.Response:
        return web.json_response(body)

    async with connected(handle) as client:
        return await gather_model_reference(client, namespace="team", name="small")


@pytest.mark.parametrize(("status", "serves"), [("True", True), ("False", False)])
async def test_a_model_that_cannot_be_read_is_told_to_serve_where_it_does(status: str, serves: bool) -> None:
    found = await told(condition("Serving", status, "Answering"))
    assert (found.found, found.serving, found.ready, found.task) == (True, serves, False, None)
    assert (found.reason, "someday" in found.message) == ("InvalidSpec", True)


async def test_one_that_is_being_deleted_or_was_never_looked_at_does_not_serve() -> None:
    serving = condition("Serving", "True", "Answering")
    assert not (await told(serving, deletionTimestamp="2026-01-01T10:00:00Z")).serving
    assert not (await told()).serving
