# SPDX-License-Identifier: Apache-2.0
"""What stands only in Events: asked for by uid, of what is stuck, quoted so that it stays still."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from aiohttp import web

from nimblet.cluster.observed import Job, Pod
from nimblet.cluster.podfailure import is_being_set_up
from nimblet.cluster.stuck import blocked_job, eviction, next_job_look, next_setup_look, setup_failure, still
from nimblet.plan.facts import FailureKind
from tests.unit.cluster_facts.builders import (
    END,
    Json,
    condition,
    container,
    metadata,
    owner,
    pod,
    running,
    terminated,
    waiting,
)
from tests.unit.loopback import connected

pytestmark = pytest.mark.asyncio
NOW = datetime.fromisoformat(END) + timedelta(seconds=10)
QUOTA = "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0"
SECRET = 'MountVolume.SetUp failed for volume "credentials" : secret "hub" not found'
SETTING_UP = {
    "conditions": [condition("PodScheduled", "True"), condition("PodReadyToStartContainers", "False")],
    "containerStatuses": [container("server", waiting("PodInitializing"))],
}


def event(reason: str, note: str, *, at: str = END) -> Json:
    return {"reason": reason, "note": note, "type": "Warning", "deprecatedLastTimestamp": at}


@dataclass
class Cluster:
    """Answers every list of Events with these, or refuses it, and remembers the questions."""

    events: list[Json]
    status: int = 200
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.path}?{request.query.get('fieldSelector', '')}")
        body: Json = {"metadata": {"resourceVersion": "1"}, "items": self.events}
        return web.json_response(body, status=self.status)


def job(*conditions: Json, active: int = 0) -> Job:
    status = {"active": active, "conditions": list(conditions)}
    return Job.model_validate({"metadata": metadata("small-resolve-1"), "status": status})


async def test_a_job_without_a_pod_quotes_the_api_server_without_the_pods_name() -> None:
    note = f'Error creating: pods "small-resolve-1-x7k2p" is forbidden: {QUOTA}'
    cluster = Cluster([event("FailedCreate", note), event("Other", "newer", at="2026-01-01T10:05:30Z")])
    async with connected(cluster.handle) as client:
        failure = await blocked_job(client, job(), [], now=NOW)
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.REFUSED, QUOTA)
    path = "/apis/events.k8s.io/v1/namespaces/team/events"
    assert cluster.asked == [f"{path}?regarding.uid=uid-small-resolve-1,type=Warning"]


async def test_a_job_that_failed_without_ever_having_a_pod_still_tells_what_refused_it() -> None:
    async with connected(Cluster([event("FailedCreate", QUOTA)]).handle) as client:
        failure = await blocked_job(client, job(condition("Failed", "True", "DeadlineExceeded")), [], now=NOW)
    assert failure is not None
    assert failure.message == QUOTA


async def test_nothing_is_asked_about_jobs_that_are_young_have_a_pod_or_are_done() -> None:
    young = datetime.fromisoformat("2026-01-01T10:00:02+00:00")
    own = Pod.model_validate(pod("p", owners=[owner("Job", "j", "uid-small-resolve-1", "batch/v1")]))
    cluster = Cluster([])
    async with connected(cluster.handle) as client:
        assert await blocked_job(client, job(), [], now=young) is None
        assert await blocked_job(client, job(active=1), [], now=NOW) is None
        assert await blocked_job(client, job(), [own], now=NOW) is None
        assert await blocked_job(client, job(condition("Complete", "True")), [], now=NOW) is None
    assert cluster.asked == []


async def test_a_pod_that_waits_for_its_volumes_quotes_the_kubelets_cause_not_its_summary() -> None:
    summary = "Unable to attach or mount volumes: unmounted volumes=[credentials]"
    events = [event("FailedMount", SECRET), event("FailedMount", summary, at="2026-01-01T10:05:30Z")]
    async with connected(Cluster(events).handle) as client:
        failure = await setup_failure(client, Pod.model_validate(pod(status=SETTING_UP)), now=NOW)
    assert failure is not None
    assert failure.kind is FailureKind.MOUNT
    assert failure.message == 'MountVolume.SetUp failed for volume "credentials": secret "hub" not found'


async def test_an_ended_pod_that_forgot_its_eviction_is_asked_about_for_a_while() -> None:
    words = 'Usage of EmptyDir volume "tmp" exceeds the limit "64Mi". '
    ended = {"phase": "Succeeded", "conditions": [condition("Ready", "False", "PodCompleted")]}
    ended["containerStatuses"] = [container("server", terminated(0, "Completed"))]
    cluster = Cluster([event("Evicted", words)])
    async with connected(cluster.handle) as client:
        body = Pod.model_validate(pod(status=ended))
        failure = await eviction(client, body, now=NOW)
        assert await eviction(client, body, now=NOW + timedelta(minutes=5)) is None
        assert await eviction(client, Pod.model_validate(pod(status={"phase": "Running"})), now=NOW) is None
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.EVICTED, words.strip())
    assert len(cluster.asked) == 1


async def test_a_pod_without_a_network_says_so() -> None:
    async with connected(Cluster([event("FailedCreatePodSandBox", "no route")]).handle) as client:
        failure = await setup_failure(client, Pod.model_validate(pod(status=SETTING_UP)), now=NOW)
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.SANDBOX, "no route")


async def test_events_that_may_not_be_read_leave_the_reconcile_alone() -> None:
    async with connected(Cluster([], status=403).handle) as client:
        assert await setup_failure(client, Pod.model_validate(pod(status=SETTING_UP)), now=NOW) is None


async def test_a_pod_is_being_set_up_until_its_volumes_and_network_are_there() -> None:
    ready = [condition("PodScheduled", "True"), condition("PodReadyToStartContainers", "True")]
    assert is_being_set_up(Pod.model_validate(pod(status=SETTING_UP)))
    assert is_being_set_up(Pod.model_validate(pod(status={"conditions": [condition("PodScheduled", "True")]})))
    others: tuple[Json, ...] = (
        {"phase": "Running"},
        {"conditions": []},
        {"conditions": ready},
        {"initContainerStatuses": [container("loader", running())]},
    )
    for other in others:
        assert not is_being_set_up(Pod.model_validate(pod(status={**SETTING_UP, **other})))


async def test_what_is_stuck_is_looked_at_again_without_an_event() -> None:
    setting_up = Pod.model_validate(pod(status=SETTING_UP))
    assert next_setup_look([setting_up], now=NOW - timedelta(seconds=8)) == 1.0
    assert next_setup_look([setting_up], now=NOW) == 8.0
    assert next_setup_look([], now=NOW) is None
    assert next_job_look(job(), [], now=NOW) == 8.0
    assert next_job_look(job(active=1), [], now=NOW) == 10.0


async def test_words_lose_what_differs_from_try_to_try() -> None:
    told = f'Failed to create pod sandbox: rpc error : setup network for sandbox "{"0a" * 32}": no route'
    assert still(told) == 'Failed to create pod sandbox: rpc error: setup network for sandbox "…": no route'
