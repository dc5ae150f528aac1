# SPDX-License-Identifier: Apache-2.0
"""From nothing to an installed operator: cluster, images, hubs, `helm install`. Each step tells how long it took.

Every step is idempotent: what is there and unchanged is kept, so a second run takes seconds.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from e2e.cluster import cluster as clusters
from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.images import IMAGE_NAMES, BuiltImage, build_images
from e2e.support.external import QDRANT_HOST
from e2e.support.grounded import SITE_HOST
from e2e.support.hub import (
    GIT_HOST,
    HUB_HOST,
    HUB_URL,
    NAMESPACE,
    REGISTRY_HOST,
    REGISTRY_PORT,
    S3_HOST,
    S3_URL,
    WEIGHTS_HOST,
    Manifest,
    Trust,
    make_trust,
    mirror_manifests,
    weights_manifests,
)
from e2e.support.kube import Kube
from e2e.support.wait import until

RELEASE: Final = "nimblet"
OPERATOR_NAMESPACE: Final = "nimblet-system"
OPERATOR: Final = "nimblet-operator"
DATA_PLANE: Final = ("loader", "llamacpp", "retriever", "indexer", "gateway")
"""Images that the operator's pods run, by their names in the chart's values."""
CHART: Final = Path(__file__).parents[2] / "charts" / "nimblet"
RESYNC_SECONDS: Final = 20
"""Above the 15 s within which failures must be told, so that no resync tells them in place of a watch."""
PLAIN_HOSTS: Final = (HUB_HOST, REGISTRY_HOST, SITE_HOST, S3_HOST, QDRANT_HOST)
"""What is asked in plain HTTP inside the cluster."""
MAX_FILE_BYTES: Final = 2**50
"""So that a file which no disk holds is refused by the disk."""
DRAIN_SECONDS: Final = 10
"""A third of the default: enough for a busy two-core machine to take a pod out of the Service's rules."""


HANDED_OVER_SECONDS: Final = 120.0
ROUTED_SECONDS: Final = 60.0
NOBODY: Final = ("no endpoints available", "error trying to reach service")
"""How the API server tells that nobody is behind a Service."""


class InstallError(Exception):
    """helm or a rollout did not do what was asked; the message holds its words."""


@dataclass(frozen=True)
class Stack:
    """A cluster with the hubs and the operator in it; `values` are those of the release."""

    kube: Kube
    images: dict[str, str]
    values: Manifest

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self.kube.cluster


def references(images: Sequence[BuiltImage]) -> dict[str, str]:
    """Return the image references by name."""
    return {image.name: image.reference for image in images}


def chart_values(images: dict[str, str], *, trust: Trust | None, timing: Manifest | None = None) -> Manifest:
    """Return the values that point the chart to local images and the hubs inside the cluster."""
    registry = f"{REGISTRY_HOST}:{REGISTRY_PORT}"
    inside = {"allowPrivate": True, "allowHTTP": True}
    allow: list[Manifest] = [{"host": host, **inside} for host in PLAIN_HOSTS]
    if trust is not None:
        signed: Manifest = {"allowPrivate": True, "ca": trust.authority}
        allow += [{"host": host, **signed} for host in (WEIGHTS_HOST, GIT_HOST)]
    return {
        "operator": {"image": images["operator"]},
        "images": {name: images[name] for name in DATA_PLANE},
        "fetch": {
            "hfEndpoint": HUB_URL,
            "oci": {"plainHTTP": [registry]},
            "s3": {"endpoint": S3_URL},
            "allow": allow,
            "stallTimeoutSeconds": 10,
            "maxFileBytes": MAX_FILE_BYTES,
        },
        "timing": {"drainSeconds": DRAIN_SECONDS, "retryBaseSeconds": 5, **(timing or {})},
    }


TEST_TIMING: Final[Manifest] = {"resyncSeconds": RESYNC_SECONDS, "stableSeconds": 5}
"""Shorter than an administrator would choose, so that three resyncs fit a test."""


def start_cluster(name: str, *, progress: Progress) -> tuple[Kube, bool]:
    """Return a running cluster, and whether this call started it."""
    cache = cache_of(os.environ)
    was_up, _ = clusters.status(clusters.find(name, cache=cache))
    return Kube(clusters.up(name, cache=cache, progress=progress)), not was_up


def load_images(kube: Kube, *, progress: Progress) -> dict[str, str]:
    """Build the images that changed and import those that the node lacks; return the references."""
    with progress.step("images: build"):
        built = build_images(IMAGE_NAMES)
    present = _images_on_node(kube)
    missing = [image for image in built if image.reference not in present]
    if missing:
        with progress.step(f"images: load {', '.join(image.name for image in missing)}"):
            kube.cluster.load([image.archive for image in missing])
    return references(built)


def _images_on_node(kube: Kube) -> set[str]:
    """Return the images on the node; natively asked of containerd, since node status lags and is cut short."""
    if kube.cluster.on_kind:
        return set()
    argv = ["ctr", f"--address={kube.cluster.plan.containerd_socket}", "--namespace=k8s.io"]
    done = subprocess.run([*argv, "images", "list", "--quiet"], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def deploy_hubs(kube: Kube, image: str, *, trust: Trust | None, progress: Progress) -> None:
    """Apply the mirror (and with `trust` the https server) and wait until they answer."""
    with progress.step("hub: deploy the mirror"):
        manifests = [*mirror_manifests(image), *(weights_manifests(image, trust) if trust is not None else [])]
        kube.run("apply", "--filename=-", text="\n---\n".join(json.dumps(item) for item in manifests))
        for name in ("hub", *(("weights",) if trust is not None else ())):
            kube.run("rollout", "status", f"deployment/{name}", f"--namespace={NAMESPACE}", "--timeout=180s")


def install_operator(kube: Kube, values: Manifest, *, progress: Progress) -> None:
    """`helm upgrade --install` and wait until the operator is ready."""
    with progress.step("operator: helm install"):
        argv = ["upgrade", "--install", RELEASE, str(CHART), f"--namespace={OPERATOR_NAMESPACE}"]
        helm(kube, [*argv, "--create-namespace", "--values=-", "--wait", "--timeout=3m"], text=json.dumps(values))


def operator_metrics(kube: Kube) -> str:
    """Return what the operator exposes at /metrics; its Service leads there some moments after it is ready."""
    service = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/services/{OPERATOR}-metrics:metrics"

    def told() -> str | None:
        try:
            return kube.run("get", "--raw", f"{service}/proxy/metrics")
        except ClusterError as error:
            if not any(phrase in str(error) for phrase in NOBODY):
                raise
            return None

    return until(told, what="the operator's metrics", seconds=ROUTED_SECONDS)


def upgrade(stack: Stack, changes: Manifest) -> None:
    """Upgrade the release with some values changed (deep merge), and wait until the new operator is there alone.

    Who is told to end leads by the older values until it has ended, and tells its metrics beside the new one.
    """
    argv = ["upgrade", RELEASE, str(CHART), f"--namespace={OPERATOR_NAMESPACE}", "--values=-", "--wait"]
    helm(stack.kube, [*argv, "--timeout=3m"], text=json.dumps(merged(stack.values, changes)))
    inside = f"--namespace={OPERATOR_NAMESPACE}"
    wanted = int(stack.kube.run("get", "deployment", OPERATOR, inside, "--output=jsonpath={.spec.replicas}"))
    until(
        lambda: len(stack.kube.pods(OPERATOR_NAMESPACE)) == wanted,
        what="the operator's pods of before the upgrade gone",
        seconds=HANDED_OVER_SECONDS,
    )


def merged(base: Manifest, changes: Manifest) -> Manifest:
    """Return `base` with `changes` put in, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def helm(kube: Kube, arguments: Sequence[str], *, text: str = "") -> str:
    """Run helm with the admin's rights."""
    cluster = kube.cluster
    argv = [str(cluster.helm_binary), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"expected `helm {' '.join(arguments[:3])} …` to succeed: {done.stderr.strip()}")
    return done.stdout


def bring_up(kube: Kube, *, progress: Progress) -> Stack:
    """Make a running cluster ready for the scenarios."""
    images = load_images(kube, progress=progress)
    trust = make_trust(now=datetime.now(UTC))
    deploy_hubs(kube, images["mirror"], trust=trust, progress=progress)
    values = chart_values(images, trust=trust, timing=TEST_TIMING)
    install_operator(kube, values, progress=progress)
    return Stack(kube=kube, images=images, values=values)
