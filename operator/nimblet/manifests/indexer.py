# SPDX-License-Identifier: Apache-2.0
"""The build Jobs of an index: one build, one Job, one configuration of its own. Pure: values in, dict out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from nimblet import labels, names
from nimblet.api.scheduling import Scheduling
from nimblet.manifests.common import CONTAINER_SECURITY, Manifest, Part
from nimblet.manifests.job import Job, job_manifest
from nimblet.manifests.network import PROGRESS_PORT
from nimblet.manifests.retriever import CONFIG_FILE, TMP_SIZE

COMPONENT: Final = "indexer"
CONFIG_DIR: Final = "/etc/nimblet/indexer"
KEY_DIR: Final = "/etc/nimblet/build-key"
GOLDEN_DIR: Final = "/etc/nimblet/golden"
GOLDEN_FILE: Final = "golden.jsonl"
CREDENTIALS_DIR: Final = "/etc/nimblet/credentials"
SOURCES_DIR: Final = "/sources"
SCRATCH_DIR: Final = "/scratch"
SCRATCH_SIZE: Final = "10Gi"
"""For what one build fetches; the indexer's own limits end a source that is larger, with a report that says so."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Something of the user's that the build reads: `source` is the volume's source as Kubernetes writes it."""

    name: str
    source: Manifest
    path: str

    @property
    def volume(self) -> Manifest:
        """The pod's volume."""
        return {"name": self.name, **self.source}

    @property
    def mount(self) -> Manifest:
        """Where it is mounted."""
        return {"name": self.name, "mountPath": self.path, "readOnly": True}


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """One try of one build."""

    part: Part
    name: str
    """Of the Job, and of the ConfigMap that it reads."""
    generation: str
    inputs: str
    request: str
    attempt: int
    credentials_hash: str
    image: str
    pull_policy: str
    memory: str
    cpu: str
    volumes: Sequence[Volume] = ()
    scheduling: Scheduling = field(default_factory=Scheduling)
    swaps: bool = True
    """What it built serves when it ends well."""


def build_job_manifest(build: BuildJob) -> Manifest:
    """Return the Job. It has no deadline: a build ends itself where the retriever stays away."""
    annotations = {labels.ATTEMPT: str(build.attempt), labels.CREDENTIALS_HASH: build.credentials_hash}
    if build.request:
        annotations[labels.BUILD_REQUESTED_AT] = build.request
    if not build.swaps:
        annotations[labels.BUILD_SWAPS] = "false"
    volumes = [
        Volume(name="config", source={"configMap": {"name": build.name}}, path=CONFIG_DIR),
        Volume(
            name="build-key",
            source={
                "secret": {
                    "secretName": names.purpose_key(build.part.owner, purpose="build"),
                    "defaultMode": 0o440,
                }
            },
            path=KEY_DIR,
        ),
        *build.volumes,
    ]
    job = Job(
        name=build.name,
        service_account=names.indexer(build.part.owner),
        container=_container(build, [item.mount for item in volumes]),
        volumes=[
            *(item.volume for item in volumes),
            {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_SIZE}},
            {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
        ],
        labels={labels.BUILD_GENERATION: build.generation, labels.BUILD_INPUTS: build.inputs},
        annotations=annotations,
    )
    return job_manifest(build.part, job, scheduling=build.scheduling)


def _container(build: BuildJob, mounts: list[Manifest]) -> Manifest:
    return {
        "name": COMPONENT,
        "image": build.image,
        "imagePullPolicy": build.pull_policy,
        "args": ["--config", f"{CONFIG_DIR}/{CONFIG_FILE}"],
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": build.cpu, "memory": build.memory},
            "limits": {"memory": build.memory},
        },
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            *mounts,
            {"name": "scratch", "mountPath": SCRATCH_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
        ],
    }
