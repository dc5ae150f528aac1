# SPDX-License-Identifier: Apache-2.0
"""The other ways weights arrive: https with the administrator's CA, a registry, a claim, a download that is cut.

Stalls, full disks, redirects, proxies and hostile headers are covered by the loader's own tests.
"""

from pathlib import Path

import pytest

from e2e.models import SMOLLM2, model_path
from e2e.support.asking import ask, endpoint_of
from e2e.support.hub import REGISTRY_HOST, REGISTRY_PORT, WEIGHTS_URL
from e2e.support.kube import Kube, conditions_text
from e2e.support.library import secret_manifest
from e2e.support.manifests import Manifest, model_manifest
from e2e.support.registry import claim_manifest, deploy_registry, filling_pod_manifest
from e2e.support.stack import Stack
from loader_testing.packing import model_car, model_pack, titled_files
from loader_testing.sealing import SealedModel, seal_model
from nimblet import labels

NAME = "sourced"
REPOSITORY = "models/smollm2"
REGISTRY_PASSWORD = "canary/of-a+registry"
"""With what a URL would quote."""


def test_https_source_with_a_digest_and_the_administrators_ca(kube: Kube, namespace: str) -> None:
    integrity = {"sha256": {SMOLLM2.file: SMOLLM2.sha256}}
    kube.apply(model_manifest(NAME, namespace, uri=f"{WEIGHTS_URL}/{SMOLLM2.file}", integrity=integrity))
    model = kube.wait_ready(NAME, namespace)
    assert model.shown("Verified") == ("True", "DigestsMatch")
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)


def test_download_that_is_cut_every_twenty_megabytes_resumes(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace, uri="hf://faults/cut"))
    kube.wait_ready(NAME, namespace)
    log = kube.run("logs", f"--namespace={namespace}", f"deployment/{NAME}-model", "--container=loader")
    assert "follows in" in log
    # every byte came once: each try asked for the rest only
    assert f"{SMOLLM2.size_bytes} bytes received" in log


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> SealedModel:
    """The model encrypted for a key made here."""
    return seal_model(model_path("smollm2").read_bytes(), tmp_path_factory.mktemp("sealed"), file=SMOLLM2.file)


@pytest.fixture(scope="module")
def registry(stack: Stack, sealed: SealedModel) -> str:
    """A registry inside the cluster with one model as artifact, image and encrypted; the URI without tag."""
    content = model_path("smollm2").read_bytes()
    packages = {
        "raw": model_pack(SMOLLM2.file, content),
        "car": model_car(SMOLLM2.file, content, zipped=True),
        "sealed": titled_files(sealed.files),
    }
    deploy_registry(stack.kube, packages, repository=REPOSITORY)
    return f"oci://{REGISTRY_HOST}:{REGISTRY_PORT}/{REPOSITORY}"


@pytest.mark.timeout(600, func_only=True)
def test_a_registrys_artifact_and_then_its_image(kube: Kube, namespace: str, registry: str) -> None:
    # nobody asks for this login, but it is mounted and read as any other
    login: Manifest = {"username": "reader", "password": REGISTRY_PASSWORD}
    kube.apply(secret_manifest("login", namespace, login, host=REGISTRY_HOST))
    with_login: Manifest = {"credentialsSecretRef": {"name": "login"}}
    kube.apply(model_manifest(NAME, namespace, uri=f"{registry}:raw", source=with_login))
    artifact = kube.wait_ready(NAME, namespace).status.artifact
    assert artifact is not None
    assert artifact.files[0].sha256 == SMOLLM2.sha256
    kube.apply(model_manifest(NAME, namespace, uri=f"{registry}:car", source=with_login))
    model = kube.wait_ready(NAME, namespace)
    assert model.status.artifact is not None
    assert [file.sha256 for file in model.status.artifact.files] == [SMOLLM2.sha256]
    assert model.status.artifact.commit != artifact.commit
    assert model.shown("Verified") == ("Unknown", "Pinned")
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)


@pytest.mark.timeout(600, func_only=True)
def test_encrypted_weights_open_with_a_key_that_was_lent_for_it(
    kube: Kube, namespace: str, registry: str, sealed: SealedModel
) -> None:
    spec = sealed.source(keySecretRef={"name": "opener"})
    source: Manifest = {"encryption": spec["encryption"]}
    kube.apply(key_manifest(namespace, sealed, lent=False))
    kube.apply(
        model_manifest(
            NAME, namespace, uri=f"{registry}:sealed", source=source, integrity={"sha256": spec["sha256"]}
        )
    )
    refused = kube.wait_condition(NAME, namespace, wanted={"Ready": "SecretNotUsable"}, seconds=120)
    assert labels.WEIGHTS_KEY in conditions_text(refused)
    assert kube.pods(namespace, model=NAME, component="model") == []

    kube.apply(key_manifest(namespace, sealed, lent=True))
    model = kube.wait_ready(NAME, namespace)
    assert model.shown("Verified") == ("True", "DigestsMatch")
    assert model.status.artifact is not None
    assert (model.status.artifact.key, model.status.artifact.files[0].sha256) == ("Secret", SMOLLM2.sha256)
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)
    log = kube.run("logs", f"--namespace={namespace}", f"deployment/{NAME}-model", "--container=loader")
    assert sealed.key.secret not in log


def key_manifest(namespace: str, sealed: SealedModel, *, lent: bool) -> Manifest:
    """Return the Secret that decrypts; `lent` adds the annotation without which it decrypts nothing."""
    marks = {labels.WEIGHTS_KEY: labels.WEIGHTS_KEY_VALUE} if lent else {}
    metadata = {"name": "opener", "namespace": namespace, "labels": {labels.USE: "true"}, "annotations": marks}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {"identity": sealed.key.secret},
    }


@pytest.mark.timeout(600, func_only=True)
def test_a_claim_that_comes_late(kube: Kube, stack: Stack, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace, uri="pvc://weights/llm"))
    missing = kube.wait_condition(NAME, namespace, wanted={"Ready": "ClaimNotReady"}, seconds=120)
    assert "kubectl describe pvc" in conditions_text(missing)
    source = Path("/srv/hub") / SMOLLM2.file
    kube.apply(claim_manifest("weights", namespace))
    kube.apply(
        filling_pod_manifest(
            "weights", namespace, image=stack.images["mirror"], source=source, target=f"llm/{SMOLLM2.file}"
        )
    )
    model = kube.wait_ready(NAME, namespace)
    assert model.status.artifact is not None
    assert model.status.artifact.files[0].sha256 == SMOLLM2.sha256
    assert model.status.artifact.digest_source == "Resolver"
    with endpoint_of(kube, NAME, namespace) as endpoint:
        assert ask(endpoint, "Hello", max_tokens=4)
