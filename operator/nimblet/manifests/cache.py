# SPDX-License-Identifier: Apache-2.0
"""A claim as we make it, the Job that fills it, and what a model pod has of it. Pure: values in, dict out."""

from dataclasses import dataclass
from typing import Final

from nimblet import labels, names
from nimblet.manifests.common import Manifest, Part, metadata
from nimblet.manifests.job import Job
from nimblet.manifests.loader import (
    MODELS_DIR,
    MODELS_MOUNT,
    LoaderPod,
    artifact_mount,
    artifact_volume,
    container,
    fetch_args,
    loader_job_manifest,
    loader_mounts,
    loader_volumes,
    reading_container,
)

CLAIM: Final = "cache"
FILLER: Final = "filler"
"""Components, as in the label, of the claim and of what fills it."""


@dataclass(frozen=True, kw_only=True)
class CacheMount:
    """What a model pod has of the cache: one folder of it for the model, and one for each further source."""

    claim: str
    folder: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the claim should be; `retained`: it outlives its CompactModel."""

    access_mode: str
    storage_class: str | None
    size: str
    retained: bool


@dataclass(frozen=True, kw_only=True)
class FillJob:
    """One try to fill a folder."""

    mount: CacheMount
    claim_uid: str
    attempt: int
    inputs_hash: str
    keep: tuple[str, ...] | None
    """Other folders in use; None: the filler removes none."""
    node: str | None
    """The only node that can mount the claim, while a pod there holds it."""


def claim_manifest(part: Part, claim: Claim, *, name: str, kind: str = "CompactModel") -> Manifest:
    """Return the claim; a retained one says for whom of which kind, in place of an owner."""
    spec: Manifest = {
        "accessModes": [claim.access_mode],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": claim.size}},
    }
    if claim.storage_class is not None:
        spec["storageClassName"] = claim.storage_class
    mark = {labels.RETAINED_FOR: labels.retained_for(kind, part.owner)} if claim.retained else None
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(name, part.namespace, labels_=part.labels, annotations=mark),
        "spec": spec,
    }


def fill_job_manifest(pod: LoaderPod, job: FillJob) -> Manifest:
    """Return the Job that fills a folder of the claim. It has no deadline: the loader ends a try that stalls."""
    args = [*fetch_args("fill"), "--folder", job.mount.folder]
    for folder in job.keep or ():
        args += ["--keep", folder]
    mounts = [*loader_mounts(pod), artifact_mount(pod), MODELS_MOUNT]
    return loader_job_manifest(
        pod,
        FILLER,
        Job(
            name=names.fill_job(pod.owner, folder=job.mount.folder, attempt=job.attempt),
            service_account=names.filler(pod.owner),
            container=container(pod, FILLER, args=args, mounts=mounts),
            volumes=[*loader_volumes(pod), artifact_volume(pod), models_volume(job.mount, read_only=False)],
            labels={labels.SOURCE_HASH: pod.source_hash, labels.CACHE_FOLDER: job.mount.folder},
            annotations={
                labels.ATTEMPT: str(job.attempt),
                labels.CREDENTIALS_HASH: job.inputs_hash,
                labels.CLAIM_UID: job.claim_uid,
            },
            pod_spec={"affinity": _on_node(job.node)} if job.node is not None else {},
        ),
    )


def models_volume(mount: CacheMount, *, read_only: bool) -> Manifest:
    """Return the volume; the whole claim, since confidential runtimes mount no subPath."""
    return {"name": "models", "persistentVolumeClaim": {"claimName": mount.claim, "readOnly": read_only}}


def verify_container(pod: LoaderPod, mount: CacheMount) -> Manifest:
    """Return the init container that checks the cached files."""
    return reading_container(pod, "verify", "--dest", MODELS_DIR, "--folder", mount.folder)


def _on_node(name: str) -> Manifest:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
