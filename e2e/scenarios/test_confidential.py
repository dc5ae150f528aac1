# SPDX-License-Identifier: Apache-2.0
"""A TEEPolicy on a real kubelet: no pod without a place, then every pod by the RuntimeClass. Simulated: by runc.

The RuntimeClass names a second handler of the node's containerd, which is asked by which of the two a pod runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.nodeconfig import SECOND_HANDLER
from e2e.support.asking import ask, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import Manifest, model_manifest
from e2e.support.objects import Pod
from e2e.support.runtimes import runs_by_second_handler
from e2e.support.stack import Stack
from e2e.support.watching import watch
from nimblet.labels import API_VERSION

NAME = "guarded"
POLICY = RUNTIME_CLASS = "e2e-confidential"
BOUND = "e2e.example.com/security"
NODE_LABEL = "e2e.example.com/snp"
OVERHEAD = {"cpu": "30m", "memory": "48Mi"}
REFUSED_SECONDS = 60.0


def runtime_class() -> Manifest:
    metadata = {"name": RUNTIME_CLASS}
    head = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": metadata}
    return {**head, "handler": SECOND_HANDLER, "overhead": {"podFixed": OVERHEAD}}


def policy() -> Manifest:
    override = {"technology": "SNP", "runtimeClassName": RUNTIME_CLASS, "nodeLabels": {NODE_LABEL: "true"}}
    spec = {
        "technologies": ["SNP"],
        "enforcement": "Required",
        "namespaceSelector": {"matchLabels": {BOUND: "confidential"}},
        "overrides": [override],
        "attestation": {"mode": "Simulated"},
    }
    return {"apiVersion": API_VERSION, "kind": "TEEPolicy", "metadata": {"name": POLICY}, "spec": spec}


@contextmanager
def bound(kube: Kube, namespace: str) -> Iterator[str]:
    """Bind the namespace while the block runs, and give the node that may become its place."""
    node = kube.run("get", "nodes", "--output=name").splitlines()[0]
    try:
        for manifest in (runtime_class(), policy()):
            kube.apply(manifest)
        kube.run("label", "namespace", namespace, f"{BOUND}=confidential", "--overwrite")
        yield node
    finally:
        kube.run("delete", "teepolicy,runtimeclass", POLICY, "--ignore-not-found")
        kube.run("label", node, f"{NODE_LABEL}-")


def test_every_pod_runs_by_the_policys_runtime_class_or_not_at_all(stack: Stack, namespace: str) -> None:
    kube = stack.kube
    with bound(kube, namespace) as node, watch(stack.cluster, "pods", namespace) as pods:
        kube.apply(model_manifest(NAME, namespace))
        wanted = {"PolicyEnforced": "NoConfidentialPlace"}
        refused = kube.wait_condition(NAME, namespace, wanted=wanted, seconds=REFUSED_SECONDS)
        assert refused.shown("Ready") == ("False", "NoConfidentialPlace")
        assert pods.sightings == []

        kube.run("label", node, f"{NODE_LABEL}=true")
        model = kube.wait_ready(NAME, namespace)
        assert model.shown("PolicyEnforced") == ("True", "Simulated")
        assert model.status.policy is not None
        assert model.status.policy.proof == "Simulated"
        with endpoint_of(kube, NAME, namespace) as endpoint:
            assert ask(endpoint, "Hello", max_tokens=4)
        (server,) = kube.pods(namespace, model=NAME, component="model")
        assert runs_by_second_handler(stack.cluster, server.metadata.uid)

    seen = [Pod.model_validate(item.body) for item in pods.sightings]
    assert {pod.metadata.labels["app.kubernetes.io/component"] for pod in seen} == {"resolver", "model"}
    assert {pod.spec.runtime_class_name for pod in seen} == {RUNTIME_CLASS}
    assert [pod.spec.overhead for pod in seen] == [OVERHEAD] * len(seen)
    assert "attested" not in model.model_dump_json().lower()
