# SPDX-License-Identifier: Apache-2.0
"""A model's cache on real volumes: filled once, checked at each start, kept for a successor."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import pytest

from e2e.cluster.addons import LATER_CLASS, SHARED_CLASS, shared_class
from e2e.models import SMOLLM2
from e2e.scenarios.test_truthful_conditions import SOON, first_told
from e2e.support.asking import ask, endpoint_of
from e2e.support.hub import NAMESPACE as HUB_NAMESPACE
from e2e.support.kube import Kube
from e2e.support.manifests import Manifest, model_manifest
from e2e.support.objects import Model, Pod, Thing
from e2e.support.stack import Stack
from e2e.support.wait import until
from e2e.support.watching import watch
from nimblet import labels
from nimblet.conditions import Reason

NAME: Final = "cached"
CLAIM: Final = f"{NAME}-cache"
QUESTION: Final = "Name the capital of France."
SHARED: Final[Manifest] = {"cache": {"storageClassName": SHARED_CLASS}}
KEPT: Final[Manifest] = {
    "cache": {"accessMode": "ReadWriteOnce", "retention": "Retain"},
    "rollout": {"strategy": "Recreate"},
}


def cached_manifest(namespace: str, spec: Manifest) -> Manifest:
    """Return a model whose spec has these fields too."""
    manifest = model_manifest(NAME, namespace)
    return {**manifest, "spec": {**_mapping(manifest["spec"]), **spec}}


def egress(kube: Kube, namespace: str) -> object:
    """Return where the server's pods may go."""
    return _mapping(kube.get("networkpolicy", f"{NAME}-model", namespace)["spec"]).get("egress", [])


def _mapping(value: object) -> Manifest:
    assert isinstance(value, dict)
    return value


def filled(kube: Kube, namespace: str) -> tuple[str, int]:
    """Return name and downloaded bytes of the newest fill Job, by its pod's own words."""
    *_, pod = kube.pods(namespace, model=NAME, component="filler")
    [container] = pod.containers
    assert container.state.terminated is not None
    report = json.loads(container.state.terminated.message)
    return pod.metadata.labels["batch.kubernetes.io/job-name"], int(report["downloadedBytes"])


def server(kube: Kube, namespace: str) -> Pod:
    (pod,) = [
        pod
        for pod in kube.pods(namespace, model=NAME, component="model")
        if pod.metadata.deletion_timestamp is None
    ]
    return pod


def restarted(kube: Kube, namespace: str) -> Model:
    """Delete the server's pod and return the model once another one answers."""
    old = server(kube, namespace)
    kube.run("delete", "pod", old.metadata.name, f"--namespace={namespace}", "--grace-period=1", "--wait")
    until(lambda: server_changed(kube, namespace, old), what="another pod of the server, ready", seconds=120)
    return kube.wait_ready(NAME, namespace)


def server_changed(kube: Kube, namespace: str, old: Pod) -> bool:
    pods = kube.pods(namespace, model=NAME, component="model")
    return any(pod.metadata.uid != old.metadata.uid and pod.ready for pod in pods)


@contextmanager
def no_hub(kube: Kube) -> Iterator[None]:
    """While the block runs, nothing can be fetched."""
    kube.scale_deployment("hub", HUB_NAMESPACE, replicas=0)
    try:
        yield
    finally:
        kube.scale_deployment("hub", HUB_NAMESPACE, replicas=1)


def meddle(stack: Stack, namespace: str, program: str) -> None:
    """Run a Python program in a pod that has the claim at /models, writable: somebody of the namespace."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "meddler",
        "image": stack.images["loader"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program],
        "securityContext": security,
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    stack.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "meddler", "namespace": namespace},
            "spec": {
                "restartPolicy": "Never",
                "containers": [container],
                "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": CLAIM}}],
            },
        }
    )
    stack.kube.run(
        "wait",
        "pod/meddler",
        f"--namespace={namespace}",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=180s",
    )
    stack.kube.run("delete", "pod", "meddler", f"--namespace={namespace}")


def test_filled_once_then_served_without_any_way_out(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(cached_manifest(namespace, SHARED))
    model = kube.wait_ready(NAME, namespace)
    assert model.status.cache is not None
    assert (model.status.cache.claim, model.status.cache.bytes) == (CLAIM, SMOLLM2.size_bytes)
    job, downloaded = filled(kube, namespace)
    assert (job.rpartition("-")[2], downloaded) == ("1", SMOLLM2.size_bytes)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, QUESTION)
    until(lambda: egress(kube, namespace) == [], what="no egress once the last fetching pod is gone", seconds=120)
    volumes = {str(volume["name"]): volume for volume in server(kube, namespace).spec.volumes}
    assert set(volumes) == {"artifact", "models", "key", "tmp"}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": CLAIM, "readOnly": True}

    with no_hub(kube):
        restarted(kube, namespace)
    assert filled(kube, namespace) == (job, downloaded)


def test_a_corrupted_file_is_told_and_healed(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(cached_manifest(namespace, SHARED))
    kube.wait_ready(NAME, namespace)
    flip = (
        "import pathlib\n"
        f"path = next(pathlib.Path('/models').glob('*/{SMOLLM2.file}'))\n"
        "with path.open('r+b') as file:\n"
        "    file.seek(50_000_000); byte = file.read(1)\n"
        "    file.seek(50_000_000); file.write(bytes([byte[0] ^ 1]))\n"
    )
    meddle(stack, namespace, flip)

    with (
        watch(stack.cluster, "compactmodels", namespace) as models,
        watch(stack.cluster, "pods", namespace) as pods,
    ):
        began = datetime.now(UTC)
        restarted(kube, namespace)
        told = first_told(models, Reason.CACHE_CORRUPTED)
        refused = pods.first(
            lambda item: "CacheCorrupted" in json.dumps(item.body), what="the pod that refused it"
        )
    delay = told.seen_at - refused.seen_at
    healed = datetime.now(UTC) - began
    print(f"CacheCorrupted: told {delay.total_seconds():.1f} s after the pod's end, healed in {healed.seconds} s")
    assert delay <= SOON
    assert SMOLLM2.sha256 in told.condition.message
    job, downloaded = filled(kube, namespace)
    assert (job.rpartition("-")[2], downloaded) == ("2", SMOLLM2.size_bytes)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, QUESTION)


def test_a_retained_claim_is_taken_up_by_a_successor_without_a_download(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(cached_manifest(namespace, KEPT))
    first = kube.wait_ready(NAME, namespace)
    claim = Thing.model_validate(kube.get("persistentvolumeclaim", CLAIM, namespace))
    assert claim.metadata.owner_references == []
    assert claim.metadata.annotations[labels.RETAINED_FOR] == f"CompactModel.{NAME}"

    kube.run("delete", "compactmodel", NAME, f"--namespace={namespace}", "--wait")
    until(lambda: gone(kube, namespace), what="all children gone but the claim", seconds=120)
    kube.apply(cached_manifest(namespace, KEPT))
    second = kube.wait_ready(NAME, namespace)

    assert second.metadata.uid != first.metadata.uid
    assert (
        Thing.model_validate(kube.get("persistentvolumeclaim", CLAIM, namespace)).metadata.uid
        == claim.metadata.uid
    )
    assert filled(kube, namespace)[1] == 0


def gone(kube: Kube, namespace: str) -> bool:
    return [child.key for child in kube.children(namespace, NAME)] == [f"PersistentVolumeClaim/{CLAIM}"]


@pytest.mark.parametrize("cure", ["make the class", "edit the model"])
def test_a_missing_storage_class_is_told_and_heals(stack: Stack, namespace: str, cure: str) -> None:
    kube = stack.kube
    manifest = model_manifest(NAME, namespace, cache={"storageClassName": LATER_CLASS})
    with watch(stack.cluster, "compactmodels", namespace) as models:
        applied = datetime.now(UTC)
        kube.apply(manifest)
        kube.wait_condition(NAME, namespace, wanted={"Ready": "StorageClassMissing"}, seconds=120)
        told = first_told(models, Reason.STORAGE_CLASS_MISSING)
    delay = (told.seen_at - applied).total_seconds()
    print(f"StorageClassMissing: told {delay:.1f} s after the model was applied")
    assert delay <= SOON.total_seconds()
    assert LATER_CLASS in told.condition.message
    assert kube.find("persistentvolumeclaim", CLAIM, namespace) is None

    if cure == "make the class":
        kube.apply(shared_class(LATER_CLASS))
    else:
        kube.apply(cached_manifest(namespace, SHARED))
    try:
        kube.wait_ready(NAME, namespace)
    finally:
        kube.run("delete", "storageclass", LATER_CLASS, "--ignore-not-found")


def test_adding_and_removing_a_cache_keeps_the_model_serving(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    with watch(stack.cluster, "compactmodels", namespace) as models:
        kube.apply(cached_manifest(namespace, SHARED))
        kube.wait_ready(NAME, namespace)
        until(
            lambda: egress(kube, namespace) == [],
            what="no egress once the last fetching pod is gone",
            seconds=120,
        )
        kube.apply(model_manifest(NAME, namespace))
        kube.wait_ready(NAME, namespace)
        until(
            lambda: kube.find("persistentvolumeclaim", CLAIM, namespace) is None,
            what="the claim gone with its last pod",
            seconds=120,
        )
    seen = [Model.model_validate(item.body).shown("Serving")[0] for item in models.sightings]
    assert set(seen) <= {"True", ""}
    until(
        lambda: not kube.pods(namespace, model=NAME, component="filler"),
        what="the filler's pods gone",
        seconds=120,
    )
