# SPDX-License-Identifier: Apache-2.0
"""A signed model on real pods: by another key no server starts, by the right one it serves and is Verified."""

from pathlib import Path

from e2e.models import SMOLLM2
from e2e.support.asking import ask, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import model_manifest
from loader_testing.signing import a_key, public_pem, sign_with_key
from nimblet import labels

NAME = "signed"
REFUSED_SECONDS = 120


def texts_manifest(namespace: str, data: dict[str, str]) -> dict[str, object]:
    """Return a ConfigMap that the operator may read."""
    metadata = {"name": "trust", "namespace": namespace, "labels": {labels.USE: "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def test_a_model_runs_only_by_the_signature_of_whom_the_spec_names(
    kube: Kube, namespace: str, tmp_path: Path
) -> None:
    key, other = a_key(), a_key()
    bundle = sign_with_key({SMOLLM2.file: SMOLLM2.sha256}, key, tmp_path)
    signature = {
        "bundleRef": {"name": "trust", "key": "model.sig"},
        "key": {"publicKeyRef": {"name": "trust", "key": "key.pub"}},
    }
    kube.apply(texts_manifest(namespace, {"model.sig": bundle, "key.pub": public_pem(other)}))
    kube.apply(model_manifest(NAME, namespace, integrity={"signature": signature}))
    refused = kube.wait_condition(NAME, namespace, wanted={"Ready": "SignerMismatch"}, seconds=REFUSED_SECONDS)
    assert refused.shown("Verified") == ("False", "SignerMismatch")
    assert kube.pods(namespace, model=NAME, component="model") == []

    kube.apply(texts_manifest(namespace, {"model.sig": bundle, "key.pub": public_pem(key)}))
    model = kube.wait_ready(NAME, namespace)
    assert model.shown("Verified") == ("True", "SignatureMatches")
    artifact = model.status.artifact
    assert artifact is not None
    assert (artifact.method, artifact.digest_source) == ("Key", "Signature")
    assert artifact.verified_time is not None
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)
