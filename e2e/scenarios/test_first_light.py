# SPDX-License-Identifier: Apache-2.0
"""A CompactModel from `kubectl apply` to an answer: the sample itself, over the real loading path."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from e2e.models import SMOLLM2
from e2e.support.asking import TIMEOUT_SECONDS, Endpoint, ask, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import autoscaler_manifest, model_manifest
from e2e.support.objects import Model
from e2e.support.wait import until

SAMPLE = Path(__file__).parents[2] / "samples" / "compactmodel-smollm2.yaml"
NAME = "smollm2"


@pytest.fixture
def sample(kube: Kube, namespace: str) -> Model:
    """The sample as it stands in the repository, Ready."""
    kube.run("apply", f"--namespace={namespace}", f"--filename={SAMPLE}")
    return kube.wait_ready(NAME, namespace)


@pytest.fixture
def endpoint(kube: Kube, namespace: str, sample: Model) -> Iterator[Endpoint]:
    with endpoint_of(kube, sample.metadata.name, namespace) as found:
        yield found


def test_sample_answers_and_tells_what_it_runs(
    kube: Kube, namespace: str, sample: Model, endpoint: Endpoint
) -> None:
    assert len(ask(endpoint, "Name the capital of France.").strip()) > 0
    check_key(endpoint)
    check_metrics(endpoint)
    check_status(sample)
    check_pods(kube, namespace)


def check_key(endpoint: Endpoint) -> None:
    """Without the key, or with another, nothing is answered."""
    url = f"{endpoint.url}/v1/chat/completions"
    body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}
    assert httpx.post(url, json=body, timeout=TIMEOUT_SECONDS).status_code == httpx.codes.UNAUTHORIZED
    with endpoint.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def check_metrics(endpoint: Endpoint) -> None:
    """The server's own metrics count the tokens of the answer."""
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    answer = httpx.get(f"{endpoint.url}/metrics", headers=headers, timeout=TIMEOUT_SECONDS)
    text = answer.raise_for_status().text
    predicted = next(line for line in text.splitlines() if line.startswith("llamacpp:tokens_predicted_total"))
    assert float(predicted.split()[-1]) > 1


def check_status(model: Model) -> None:
    """The status tells commit, digest, arithmetic and choice, and its sum is right."""
    status = model.status
    assert status.artifact is not None
    assert status.sizing is not None
    assert status.resolved is not None
    assert [file.sha256 for file in status.artifact.files] == [SMOLLM2.sha256]
    assert len(status.artifact.commit) == 40
    assert status.artifact.digest_source == "Spec"
    sizing = status.sizing
    terms = sizing.weights_bytes + sizing.kv_cache_bytes + sizing.compute_bytes
    assert sizing.total_bytes == terms + sizing.prompt_cache_bytes + sizing.runtime_bytes
    assert any(line.startswith("kv cache:") for line in sizing.formula)
    assert (status.resolved.runtime, status.resolved.profile) == ("LlamaCpp", "cpu")
    for type_, expected in (("Serving", "True"), ("Resolved", "True"), ("Verified", "True"), ("Placed", "True")):
        assert model.shown(type_)[0] == expected, type_


def check_pods(kube: Kube, namespace: str) -> None:
    """Pods of a restricted namespace, without a token of their ServiceAccount."""
    pods = kube.pods(namespace, model=NAME)
    assert pods
    for pod in pods:
        assert not pod.spec.automount_service_account_token, pod.key
        assert not [volume for volume in pod.spec.volumes if "projected" in volume], pod.key


def test_two_replicas_have_a_disruption_budget_and_kubectl_scale_works(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace, replicas=2))
    two = kube.wait_ready(NAME, namespace)
    assert two.status.ready_replicas == 2
    budget = kube.get("poddisruptionbudget", f"{NAME}-model", namespace)
    assert isinstance(budget["spec"], dict)
    assert budget["spec"]["maxUnavailable"] == 1

    kube.run("scale", "compactmodel", NAME, f"--namespace={namespace}", "--replicas=1")
    until(
        lambda: kube.wait_ready(NAME, namespace).status.replicas == 1,
        what="one replica after kubectl scale",
        seconds=120,
    )
    until(
        lambda: kube.find("poddisruptionbudget", f"{NAME}-model", namespace) is None,
        what="no disruption budget at one replica",
        seconds=120,
    )


def test_autoscaler_scales_the_compactmodel(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest(NAME, namespace))
    kube.wait_ready(NAME, namespace)
    kube.apply(autoscaler_manifest(NAME, namespace, smallest=2, largest=3))
    until(
        lambda: kube.model(NAME, namespace).status.ready_replicas == 2,
        what="two answering replicas by the HPA",
        seconds=150,
        seen=lambda: kube.run("describe", "hpa", NAME, f"--namespace={namespace}"),
    )
    assert kube.wait_ready(NAME, namespace).metadata.generation == 2
