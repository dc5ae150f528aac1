# SPDX-License-Identifier: Apache-2.0
"""The tasks that answer with numbers, on real pods with MiniLM: vectors, scores of documents, scores of labels."""

import math
from collections.abc import Sequence

import httpx

from e2e.support.asking import TIMEOUT_SECONDS, Endpoint, endpoint_of
from e2e.support.kube import Kube
from e2e.support.manifests import CLASSIFY_URI, MINILM_URI, RERANK_URI, Manifest, model_manifest
from e2e.support.objects import Model
from e2e.support.wait import until
from nimblet.cli.main import main

QUESTION = "What is the capital of France?"
MATCHING = "Paris is the capital city of France."
UNRELATED = "Bread is baked from flour, water and yeast."
RUNTIME: Manifest = {"contextLength": 512, "parallel": 2}


def test_embedding_gives_vectors_of_which_matching_ones_are_near(kube: Kube, namespace: str) -> None:
    model = ready(kube, namespace, uri=MINILM_URI, task="Embedding")
    assert model.status.artifact is not None
    assert model.status.artifact.dimension == 384
    told = model.condition("Serving")
    assert told is not None
    assert "gave a vector when asked" in told.message
    with endpoint_of(kube, "minilm", namespace) as endpoint:
        first, near, far = vectors(endpoint, [QUESTION, MATCHING, UNRELATED])
        refused = post(endpoint, "/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]})
    assert len(first) == 384
    assert cosine(first, near) > 0.7
    assert abs(cosine(first, far)) < 0.2
    assert refused.status_code >= httpx.codes.BAD_REQUEST


def test_rerank_puts_the_matching_document_first(kube: Kube, namespace: str) -> None:
    ready(kube, namespace, uri=RERANK_URI, task="Rerank")
    with endpoint_of(kube, "minilm", namespace) as endpoint:
        asked: Manifest = {"query": QUESTION, "documents": [UNRELATED, MATCHING]}
        results = post(endpoint, "/rerank", asked).raise_for_status().json()["results"]
        [vector] = vectors(endpoint, [QUESTION])
    assert [item["index"] for item in results] == [1, 0]
    assert results[0]["relevance_score"] > results[1]["relevance_score"]
    assert len(vector) == 1, "the head has one output; more would be memory that is not the answer's"


def test_classify_gives_a_score_for_each_label(kube: Kube, namespace: str) -> None:
    model = ready(kube, namespace, uri=CLASSIFY_URI, task="Classify")
    assert model.status.artifact is not None
    labels = model.status.artifact.labels
    assert labels == ["sport", "money", "weather"]
    texts = {
        "sport": "The goalkeeper saved the penalty in the last minute.",
        "money": "The bank raised its interest rates again.",
        "weather": "It will rain tomorrow with strong wind.",
    }
    with endpoint_of(kube, "minilm", namespace) as endpoint:
        scores = vectors(endpoint, list(texts.values()))
    assert [labels[row.index(max(row))] for row in scores] == list(texts)
    assert main(ask_argv(kube, namespace, texts["money"])) == 0


def test_model_of_another_task_is_refused_before_any_pod(kube: Kube, namespace: str) -> None:
    kube.apply(model_manifest("minilm", namespace, uri=MINILM_URI, task="Rerank", runtime=RUNTIME))
    until(
        lambda: kube.model("minilm", namespace).shown("Ready") == ("False", "TaskMismatch"),
        what="the reason TaskMismatch",
        seconds=120,
        seen=lambda: str(kube.model("minilm", namespace).status.conditions),
    )
    assert kube.find("deployment", "minilm-model", namespace) is None


def ready(kube: Kube, namespace: str, *, uri: str, task: str) -> Model:
    """Return the model `minilm` of a task, Ready; its sum of sizes is the memory of the pod."""
    kube.apply(model_manifest("minilm", namespace, uri=uri, task=task, runtime=RUNTIME))
    return kube.wait_ready("minilm", namespace)


def vectors(endpoint: Endpoint, texts: Sequence[str]) -> list[list[float]]:
    """Return what the openai client gets for some texts, in their order."""
    with endpoint.client() as client:
        answer = client.embeddings.create(model=endpoint.model, input=list(texts))
    return [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]


def post(endpoint: Endpoint, path: str, body: Manifest) -> httpx.Response:
    """Send JSON to a path below /v1 with the key."""
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    return httpx.post(f"{endpoint.url}/v1{path}", json=body, headers=headers, timeout=TIMEOUT_SECONDS)


def cosine(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    product = sum(a * b for a, b in zip(one, two, strict=True))
    return product / (math.hypot(*one) * math.hypot(*two))


def ask_argv(kube: Kube, namespace: str, text: str) -> list[str]:
    """Return the arguments of `nimblet ask`."""
    return ["ask", "minilm", text, "-n", namespace, "--kubeconfig", str(kube.cluster.kubeconfig)]
