# SPDX-License-Identifier: Apache-2.0
"""An artifact that the mirror lacks is read by name before another try is planned."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from nimblet.cluster.facts import Gatherer, WantedSources, gather_artifacts, gather_model_facts
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observe import Observer, Patience
from nimblet.cluster.poll import Poller, Ways
from nimblet.plan.facts import JobFacts
from tests.builders import NOW, a_model
from tests.unit.cluster_facts.builders import Json, child
from tests.unit.loopback import connected
from tests.unit.shell.virtual import dice

pytestmark = pytest.mark.asyncio
SMALL = Key("CompactModel", "team", "small")
MISSING: Json = {"kind": "Status", "reason": "NotFound", "message": "no such ConfigMap", "code": 404}


def artifact() -> Json:
    body = child("ConfigMap", "small-artifact-src1", version=9, data={"artifact.json": "{}"})
    body["metadata"]["labels"] |= {  # type: ignore[index]
        "app.kubernetes.io/component": "artifact",
        "nimblet.dev/source-hash": "src1",
    }
    return body


def job(*, succeeded: bool = False, failed: bool = False, result: str | None = None) -> JobFacts:
    return JobFacts(
        name="small-resolve-src1-1",
        uid="j",
        source_hash="src1",
        credentials_hash="",
        attempt=1,
        succeeded=succeeded,
        failed=failed,
        result=result,
    )


@dataclass
class Cluster:
    """Has one ConfigMap or none, and remembers what it was asked for."""

    stored: Json | None
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path.endswith("/teepolicies"):
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        return web.json_response(self.stored or MISSING, status=200 if self.stored else 404)


@asynccontextmanager
async def gatherer(cluster: Cluster) -> AsyncIterator[Gatherer]:
    woken: list[Key] = []
    failed: list[BaseException] = []
    async with connected(cluster.handle) as client, aiohttp.ClientSession() as session:
        observer = Observer(
            session=session, patience=Patience(timeout=1, retry=1), wake=woken.append, clock=lambda: 0.0
        )
        ways = Ways(wake=woken.append, fail=failed.append)
        yield Gatherer(
            client=client,
            mirror=Mirror(),
            observer=observer,
            poller=Poller(session=session, ways=ways, clock=lambda: 0.0, rng=dice()),
            master_key=b"k" * 32,
            server_minor=35,
            operator_namespace="nimblet-system",
        )
    assert failed == []


async def test_an_artifact_that_a_stale_list_hid_is_found_by_name() -> None:
    async with gatherer(Cluster(artifact())) as made:
        found = await gather_artifacts(made, SMALL, uid="uid-small", wanted="src1", jobs=())
    assert [item.name for item in found] == ["small-artifact-src1"]
    assert made.mirror.get("ConfigMap", "team", "small-artifact-src1") is not None


async def test_an_artifact_of_another_life_does_not_count() -> None:
    async with gatherer(Cluster(artifact())) as made:
        assert await gather_artifacts(made, SMALL, uid="uid-new", wanted="src1", jobs=()) == ()


async def test_an_artifact_that_is_nowhere_is_none() -> None:
    cluster = Cluster(None)
    async with gatherer(cluster) as made:
        assert await gather_artifacts(made, SMALL, uid="uid-small", wanted="src1", jobs=(job(failed=True),)) == ()
    assert cluster.asked == ["/api/v1/namespaces/team/configmaps/small-artifact-src1"]


async def test_an_artifact_is_looked_for_where_its_job_ended_well_and_can_tell_no_more() -> None:
    async with gatherer(Cluster(artifact())) as made:
        found = await gather_artifacts(made, SMALL, uid="uid-small", wanted="src1", jobs=(job(succeeded=True),))
    assert len(found) == 1


@pytest.mark.parametrize("jobs", [(job(),), (job(succeeded=True, result="{}"),)])
async def test_nothing_is_asked_while_a_try_is_on_its_way(jobs: tuple[JobFacts, ...]) -> None:
    cluster = Cluster(artifact())
    async with gatherer(cluster) as made:
        assert await gather_artifacts(made, SMALL, uid="uid-small", wanted="src1", jobs=jobs) == ()
    assert cluster.asked == []


async def test_nothing_is_asked_where_the_mirror_has_it() -> None:
    cluster = Cluster(None)
    async with gatherer(cluster) as made:
        made.mirror.put("ConfigMap", artifact())
        found = await gather_artifacts(made, SMALL, uid="uid-small", wanted="src1", jobs=())
    assert len(found) == 1
    assert cluster.asked == []


@pytest.mark.parametrize(("suspended", "seen"), [(True, ["small-artifact-src1"]), (False, [])])
async def test_a_suspended_model_waits_for_no_try_and_keeps_what_its_deployment_is_made_of(
    suspended: bool, seen: list[str]
) -> None:
    # given lists that lag: a Job that runs still, and no artifact
    model = a_model(name="small", suspend=suspended).model_copy(update={"uid": "uid-small"})
    async with gatherer(Cluster(artifact())) as made:
        marks = {"app.kubernetes.io/component": "resolver", "nimblet.dev/source-hash": "src1"}
        running = child("Job", "small-resolve-src1-1", version=3)
        running["metadata"]["labels"] |= marks  # type: ignore[index]
        made.mirror.put("Job", running)
        wanted = WantedSources(hashes=("src1",), trust={})
        gathered = await gather_model_facts(made, model, wanted, write_failures=(), now=NOW)
    assert [job.source_hash for job in gathered.facts.jobs] == ["src1"]
    assert [item.name for item in gathered.facts.artifacts] == seen
