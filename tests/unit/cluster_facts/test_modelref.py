# SPDX-License-Identifier: Apache-2.0
"""A model whose spec can't be read: nothing of it is touched, and who names it is told whether it serves."""

import pytest
from aiohttp import web

from nimblet.api.common import Condition, ConditionStatus
from nimblet.api.compactmodel import CompactModelStatus
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.cluster.indexref import reference_of
from nimblet.cluster.modelref import gather_model_reference, model_reference
from nimblet.plan.modelfacts import ModelReference, not_serving
from nimblet.plan.stage import Problem
from tests.builders import NOW, a_model
from tests.unit.cluster_facts.builders import Json, condition
from tests.unit.loopback import connected

SERVING = Condition(
    type="Serving",
    status=ConditionStatus.TRUE,
    reason="Answering",
    message="1 of 1 pods gave a token when asked.",
    observed_generation=1,
    last_transition_time=NOW,
)


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


@pytest.mark.asyncio
@pytest.mark.parametrize(("status", "serves"), [("True", True), ("False", False)])
async def test_a_model_that_cannot_be_read_is_told_to_serve_where_it_does(status: str, serves: bool) -> None:
    found = await told(condition("Serving", status, "Answering"))
    assert (found.found, found.serving, found.ready, found.task) == (True, serves, False, None)
    assert (found.reason, "someday" in found.message) == ("InvalidSpec", True)


@pytest.mark.asyncio
async def test_one_that_is_being_deleted_or_was_never_looked_at_does_not_serve() -> None:
    serving = condition("Serving", "True", "Answering")
    assert not (await told(serving, deletionTimestamp="2026-01-01T10:00:00Z")).serving
    assert not (await told()).serving


def test_what_is_being_deleted_is_not_told_as_not_serving_because_it_answers() -> None:
    # given a model and an index that serve, and are on their way out by a deletion in the foreground
    ready = RetrievalIndexStatus(conditions=[SERVING])
    model = a_model().model_copy(update={"deleting": True, "status": CompactModelStatus(conditions=[SERVING])})
    # when they are referred to
    index, waits = (
        reference_of("docs", ready, deleting=True),
        not_serving(model_reference(model), field="modelRef"),
    )
    # then who names them tells why they are missed
    assert isinstance(waits, Problem)
    assert "is not Serving: Deleting: it is being deleted." in waits.message
    assert (index.serving, index.reason, index.message) == (False, "Deleting", "it is being deleted.")
