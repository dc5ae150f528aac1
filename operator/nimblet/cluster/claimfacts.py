# SPDX-License-Identifier: Apache-2.0
"""The cache's claim, its filling pods and the StorageClasses as facts. Reads only."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from nimblet import labels, names
from nimblet.api.compactmodel import CompactModel
from nimblet.cluster.child import is_ours
from nimblet.cluster.client import Client
from nimblet.cluster.errors import Forbidden
from nimblet.cluster.key import Key
from nimblet.cluster.mirror import Mirror
from nimblet.cluster.observed import Claim, Metadata, Pod, StorageClass
from nimblet.cluster.podfailure import FILLER
from nimblet.cluster.resources import CLAIM, STORAGE_CLASS
from nimblet.plan.facts import ClaimFacts, JobFacts, PodFacts, StorageClassFacts

DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
JOB_NAME: Final = "batch.kubernetes.io/job-name"
"""Label that the Job controller puts on its pods."""


def claim_facts(mirror: Mirror, model: CompactModel) -> ClaimFacts | None:
    """Return the model's claim; None where there is none, or one that is not the model's."""
    key = Key("CompactModel", model.namespace, model.name)
    return owned_claim(mirror, key, uid=model.uid, name=names.claim(model.name))


def owned_claim(mirror: Mirror, key: Key, *, uid: str, name: str) -> ClaimFacts | None:
    """Return a claim that a resource owns, or that is retained for it."""
    body = mirror.get(CLAIM.kind, key.namespace, name)
    if body is None:
        return None
    typed = {**body, "kind": CLAIM.kind}  # items of a watch come without it
    if not is_ours(typed, kind=key.kind, name=key.name, uid=uid):
        return None
    claim = Claim.model_validate(body)
    return ClaimFacts(
        name=claim.metadata.name,
        uid=claim.metadata.uid,
        phase=claim.status.phase,
        access_modes=claim.spec.access_modes,
        storage_class=claim.spec.storage_class_name or "",
        requested=claim.spec.resources.requests.storage or "0",
        capacity=claim.status.capacity.storage,
        deleting=claim.metadata.deletion_timestamp is not None,
        created_at=claim.metadata.creation_timestamp,
    )


async def storage_classes(client: Client) -> tuple[StorageClassFacts, ...] | None:
    """Return the cluster's StorageClasses; None where they may not be read: then the cluster itself must tell."""
    try:
        found = [StorageClass.model_validate(body) async for body in client.list(STORAGE_CLASS)]
    except Forbidden:
        return None
    return tuple(
        StorageClassFacts(
            name=item.metadata.name,
            is_default=item.metadata.annotations.get(DEFAULT_CLASS) == "true",
            expandable=item.allow_volume_expansion,
            waits_for_pod=item.volume_binding_mode == "WaitForFirstConsumer",
        )
        for item in sorted(found, key=lambda item: item.metadata.name)
    )


def filling_pods(pods: Iterable[Pod]) -> tuple[PodFacts, ...]:
    """Return the pods that fill a cache right now, to be asked how far they are."""
    return working_pods(pods, FILLER)


def working_pods(pods: Iterable[Pod], container: str) -> tuple[PodFacts, ...]:
    """Return the Jobs' pods whose container runs, to be asked how far they are; their name is their Job's."""
    found = []
    for pod in pods:
        worker = pod.container(container)
        if worker is not None and worker.state.running is not None:
            found.append(
                PodFacts(
                    name=pod.metadata.labels.get(JOB_NAME, ""),
                    uid=pod.metadata.uid,
                    revision="",
                    source_hash="",
                    ready=False,
                    terminating=pod.metadata.deletion_timestamp is not None,
                    ip=pod.status.pod_ip,
                    loading=True,
                )
            )
    return tuple(found)


def with_progress(jobs: Iterable[JobFacts], pods: Iterable[PodFacts]) -> tuple[JobFacts, ...]:
    """Return the fill Jobs with what their pods told of their progress."""
    told = {pod.name: pod.download_percent for pod in pods}
    return tuple(replace(job, download_percent=told.get(job.name)) for job in jobs)


def cache_folder_of(metadata: Metadata) -> str:
    """Return the folder that a pod or its template uses."""
    return metadata.labels.get(labels.CACHE_FOLDER, "")


def further_folders_of(metadata: Metadata) -> dict[str, str]:
    """Return the folders of adapters and drafting model that a pod or its template uses, by container."""
    return labels.checked_folders(metadata.labels)
