# SPDX-License-Identifier: Apache-2.0
"""A Job that does one piece of work once: retries are the plan's. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import POD_SECURITY, Manifest, Part, metadata
from nimblet.manifests.scheduling import pool_fields


@dataclass(frozen=True, kw_only=True)
class Job:
    """What differs between our Jobs."""

    name: str
    service_account: str
    container: Manifest
    volumes: list[Manifest]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the Job's spec."""
    pod_spec: Mapping[str, object] = field(default_factory=dict)
    """Further fields of its pod's spec."""


def job_manifest(part: Part, job: Job, *, scheduling: Scheduling) -> Manifest:
    """Return the Job: one try, no token, restricted Pod Security."""
    labels_ = {**part.labels, **job.labels}
    template: Manifest = {"labels": {**scheduling.pod_labels, **labels_}}
    if scheduling.pod_annotations:
        template["annotations"] = dict(scheduling.pod_annotations)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(job.name, part.namespace, labels_=labels_, annotations=job.annotations),
        "spec": {
            "backoffLimit": 0,
            **job.spec,
            "template": {
                "metadata": template,
                "spec": {
                    **pool_fields(scheduling),
                    "restartPolicy": "Never",
                    "serviceAccountName": job.service_account,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": POD_SECURITY,
                    "containers": [job.container],
                    "volumes": job.volumes,
                    **job.pod_spec,
                },
            },
        },
    }
