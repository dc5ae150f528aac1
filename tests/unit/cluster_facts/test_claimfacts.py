# SPDX-License-Identifier: Apache-2.0
"""The cache's objects as facts: whose claim it is, fill Jobs beside resolver Jobs, StorageClasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from aiohttp import web

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.cluster.claimfacts import claim_facts, filling_pods, storage_classes, with_progress
from nimblet.cluster.facts import pod_facts
from nimblet.cluster.jobfacts import is_fill, job_facts
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observed import Job, Pod
from nimblet.plan.facts import PodFacts, StorageClassFacts
from tests.builders import a_model
from tests.unit.cluster_facts.builders import Json, child, container, metadata, owner, pod, running, terminated
from tests.unit.loopback import connected

NOW = datetime(2026, 1, 1, 10, 6, tzinfo=UTC)
FOLDER = "f" * 32


def model() -> CompactModel:
    return a_model(name="small", cache={}).model_copy(update={"uid": "uid-small"})


def claim(**overrides: object) -> Json:
    body = child(
        "PersistentVolumeClaim",
        "small-cache",
        spec={
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "shared",
            "resources": {"requests": {"storage": "1Gi"}},
        },
        status={"phase": "Bound", "capacity": {"storage": "2Gi"}},
    )
    return {**body, **overrides}


def retained(name: str, *owners: Json) -> Json:
    marks = {labels.RETAINED_FOR: name}
    own = {"app.kubernetes.io/managed-by": "nimblet", "nimblet.dev/model": "small"}
    return claim(metadata=metadata("small-cache", annotations=marks, labels=own, ownerReferences=list(owners)))


def seen(body: Json) -> str | None:
    """Return the uid of the model's claim, as the mirror has it."""
    mirror = Mirror()
    mirror.put("PersistentVolumeClaim", body)
    found = claim_facts(mirror, model())
    return found.uid if found is not None else None


def test_a_claim_is_the_models_by_its_owner_or_by_its_mark() -> None:
    stranger = owner("CompactModel", "small", "uid-other", "nimblet.dev/v1alpha1")
    assert seen(claim()) == "uid-small-cache"
    assert seen(retained("CompactModel.small")) == "uid-small-cache"
    assert seen(retained("CompactModel.other")) is None
    assert seen(retained("RetrievalIndex.small")) is None
    assert seen(retained("CompactModel.small", stranger)) is None


def test_what_is_known_of_a_claim() -> None:
    mirror = Mirror()
    mirror.put("PersistentVolumeClaim", claim())
    found = claim_facts(mirror, model())
    assert found is not None
    assert (found.phase, found.access_modes, found.storage_class) == ("Bound", ("ReadWriteMany",), "shared")
    assert (found.requested, found.capacity, found.deleting) == ("1Gi", "2Gi", False)
    assert claim_facts(Mirror(), model()) is None


def fill_job() -> Json:
    body = child("Job", "small-fill-ffffffffff-2", status={"conditions": [{"type": "Complete", "status": "True"}]})
    meta = body["metadata"]
    assert isinstance(meta, dict)
    meta["labels"] |= {labels.COMPONENT: "filler", labels.CACHE_FOLDER: FOLDER}
    meta["annotations"] = {labels.ATTEMPT: "2", labels.CLAIM_UID: "uid-claim", labels.CREDENTIALS_HASH: "h"}
    return body


def fill_pod(state: Json) -> Json:
    return pod(
        "small-fill-x",
        status={"phase": "Running", "podIP": "192.0.2.7", "containerStatuses": [container("filler", state)]},
        labels={labels.COMPONENT: "filler", "batch.kubernetes.io/job-name": "small-fill-ffffffffff-2"},
        owners=[owner("Job", "small-fill-ffffffffff-2", "uid-small-fill-ffffffffff-2", "batch/v1")],
    )


def test_a_fill_job_tells_its_folder_and_claim_and_its_pods_words() -> None:
    job = Job.model_validate(fill_job())
    assert is_fill(job)
    ended = Pod.model_validate(fill_pod(terminated(0, "Completed", '{"version":1}')))
    facts = job_facts(job, [ended], now=NOW)
    assert (facts.folder, facts.claim_uid, facts.attempt) == (FOLDER, "uid-claim", 2)
    assert (facts.succeeded, facts.exit_code, facts.result) == (True, 0, '{"version":1}')
    assert facts.failure is None


def test_a_pod_tells_which_container_checks_which_folder() -> None:
    own = {labels.CACHE_FOLDER: FOLDER, labels.checked_folder("loader-legal"): "a" * 32, labels.MODEL: "small"}
    facts = pod_facts(Pod.model_validate(pod("small-1", labels=own)))
    assert (facts.cache_folder, facts.further_folders) == (FOLDER, {"loader-legal": "a" * 32})


def test_a_running_filler_is_asked_for_its_progress() -> None:
    [filler] = filling_pods([Pod.model_validate(fill_pod(running()))])
    assert (filler.name, filler.ip, filler.loading, filler.ready) == (
        "small-fill-ffffffffff-2",
        "192.0.2.7",
        True,
        False,
    )
    assert filling_pods([Pod.model_validate(fill_pod(terminated(0)))]) == ()
    told = PodFacts(**{**vars(filler), "download_percent": 40})
    [job] = with_progress([job_facts(Job.model_validate(fill_job()), [], now=NOW)], [told])
    assert job.download_percent == 40


CLASSES: tuple[Mapping[str, object], ...] = (
    {
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "volumeBindingMode": "WaitForFirstConsumer",
    },
    {"metadata": {"name": "shared"}, "volumeBindingMode": "Immediate", "allowVolumeExpansion": True},
)


@dataclass
class Cluster:
    """Has StorageClasses, or refuses to tell."""

    status: int
    answer: Json
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.json_response(self.answer, status=self.status)


@pytest.mark.asyncio
async def test_storage_classes_are_read_by_name_default_and_binding() -> None:
    cluster = Cluster(200, {"metadata": {"resourceVersion": "1"}, "items": list(CLASSES)})
    async with connected(cluster.handle) as client:
        found = await storage_classes(client)
    assert found == (
        StorageClassFacts(name="shared", expandable=True),
        StorageClassFacts(name="standard", is_default=True, waits_for_pod=True),
    )
    assert cluster.asked == ["/apis/storage.k8s.io/v1/storageclasses"]


@pytest.mark.asyncio
async def test_storage_classes_that_may_not_be_read_are_unknown() -> None:
    refusal: Json = {"kind": "Status", "reason": "Forbidden", "message": "no", "code": 403}
    async with connected(Cluster(403, refusal).handle) as client:
        assert await storage_classes(client) is None


def test_a_pod_tells_which_containers_bring_what_is_beside_its_model() -> None:
    statuses = [{"name": name} for name in ("loader", "loader-legal", "drafter")]
    pod = Pod.model_validate({"metadata": {"name": "p"}, "status": {"initContainerStatuses": statuses}})
    assert pod_facts(pod).beside == {"loader-legal", "drafter"}
