# SPDX-License-Identifier: Apache-2.0
"""RetrievalIndexes under the whole operator: real Jobs and claims, make-believe pods, a stub of a retriever."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from nimblet import labels
from tests.cluster.operator_support import MISSING_REPOSITORY, Launcher, View, eventually
from tests.cluster.settling import ready, resyncs, settled, started
from tests.cluster.stub_server import RETRIEVER_STATUS, Stub
from tests.cluster.volumes import volumes_by_hand

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

QUICK = 15
"""Seconds within which a recorded failure must show."""
LOOK = 30
"""Seconds within which something shows that no event tells of: it is looked at every ten."""


@pytest.fixture
def indexes(view: View) -> View:
    """The namespace's RetrievalIndexes."""
    return view.of("RetrievalIndex")


@pytest.fixture
def storage(plane: ControlPlane) -> Iterator[str]:
    """A StorageClass with one volume made by hand, which the real controller binds."""
    with volumes_by_hand(plane, "by-hand", size="10Gi") as name:
        yield name


def documents(view: View, text: str = "Nimblet is nimble.", *, usable: bool = True) -> None:
    """Make the ConfigMap that the smallest index reads."""
    metadata: dict[str, object] = {"name": "handbook", "namespace": view.namespace}
    if usable:
        metadata["labels"] = {labels.USE: "true"}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a.md": text}}
    view.api.apply(f"/api/v1/namespaces/{view.namespace}/configmaps/handbook", manifest)


def holding(*names: str, serving: str | None) -> dict[str, object]:
    """Return a retriever's status with complete generations."""
    generations = [
        {"name": name, "embedding": "e", "documents": 2, "chunks": 12, "bytes": 4096, "sealed": True, "gate": None}
        for name in names
    ]
    return {**RETRIEVER_STATUS, "serving": serving, "generations": generations}


def shows(view: View, name: str, type_: str, status: str, reason: str, *, seconds: float = QUICK) -> None:
    """Wait until a condition says this, as long as a recorded failure may take to show."""
    eventually(
        lambda: view.condition(name, type_) == (status, reason), seconds=seconds, what=f"{type_}={status} {reason}"
    )


def generations(view: View) -> list[str]:
    return sorted(job["metadata"]["labels"][labels.BUILD_GENERATION] for job in view.children("Job").values())


def builds_of(view: View) -> list[str]:
    """Return the names of the builds' configurations."""
    return [name for name in view.children("ConfigMap") if "-build-" in name]


def first_build(view: View, indexes: View, stub: Stub) -> None:
    """Make an index of a ConfigMap and let its first build serve."""
    documents(view)
    indexes.create("handbook")
    eventually(lambda: generations(view) == ["g000001"], what="the first build")
    stub.retriever = holding("g000001", serving="g000001")
    ready(indexes, "handbook")


def test_an_index_is_built_served_and_then_left_alone(
    launcher: Launcher, view: View, indexes: View, stub: Stub
) -> None:
    process = started(launcher)
    first_build(view, indexes, stub)
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")
    shows(indexes, "handbook", "Indexed", "True", "Indexed")
    status = indexes.model("handbook")["status"]
    assert (status["servingGeneration"], status["documents"], status["chunks"]) == ("g000001", 2, 12)
    secrets = {f"handbook-{name}" for name in ("retriever-keys", "search-key", "build-key")}
    assert set(view.children("Secret")) == secrets
    before = settled(process, view)
    resyncs(process, 3)
    assert view.versions() == before
    # a request is one build more, and its configuration replaces the older one's
    indexes.edit("handbook", annotations={labels.BUILD_REQUESTED_AT: "now"})
    eventually(lambda: generations(view) == ["g000002"], what="the build that was asked for")
    eventually(lambda: builds_of(view) == list(view.children("Job")), what="the older build's files gone")


def test_changed_documents_are_indexed_again(launcher: Launcher, view: View, indexes: View, stub: Stub) -> None:
    started(launcher)
    first_build(view, indexes, stub)
    documents(view, "Nimblet is quick.")
    eventually(lambda: generations(view) == ["g000002"], what="a build of the changed documents")


def test_rolling_back_is_one_field(launcher: Launcher, view: View, indexes: View, stub: Stub) -> None:
    started(launcher)
    first_build(view, indexes, stub)
    indexes.edit("handbook", annotations={labels.BUILD_REQUESTED_AT: "now"})
    eventually(lambda: generations(view) == ["g000002"], what="a second build")
    shows(indexes, "handbook", "Indexed", "True", "Indexed", seconds=60)
    stub.retriever = holding("g000001", "g000002", serving="g000002")
    eventually(lambda: indexes.model("handbook")["status"]["servingGeneration"] == "g000002", what="the second")
    indexes.edit("handbook", annotations={labels.BUILD_REQUESTED_AT: "now"}, generation="g000001")
    eventually(lambda: stub.orders[-1:] == ["g000001"], what="the order to roll back")
    ready(indexes, "handbook")
    assert indexes.model("handbook")["status"]["servingGeneration"] == "g000001"
    indexes.edit("handbook", annotations={labels.BUILD_REQUESTED_AT: "now"}, generation="g000007")
    shows(indexes, "handbook", "Ready", "False", "GenerationUnknown")
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")


def test_what_is_missing_is_named_and_healed_by_its_coming(
    launcher: Launcher, view: View, indexes: View, stub: Stub
) -> None:
    started(launcher)
    indexes.create("handbook")
    shows(indexes, "handbook", "Resolved", "False", "ConfigMapMissing", seconds=LOOK)
    assert view.children("Job") == {}
    documents(view, usable=False)
    shows(indexes, "handbook", "Resolved", "False", "ConfigMapNotUsable", seconds=LOOK)
    documents(view)
    shows(indexes, "handbook", "Resolved", "True", "Resolved", seconds=LOOK)
    eventually(lambda: generations(view) == ["g000001"], what="the first build")
    stub.retriever = holding("g000001", serving="g000001")
    ready(indexes, "handbook")
    indexes.edit("handbook", embedding={"modelRef": {"name": "gone"}})
    shows(indexes, "handbook", "Stalled", "True", "ModelMissing")
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")
    indexes.edit("handbook", embedding={"url": "https://huggingface.co/v1", "model": "minilm"})
    ready(indexes, "handbook")


def test_a_build_that_fails_is_told_and_tried_again(launcher: Launcher, view: View, indexes: View) -> None:
    started(launcher)
    documents(view)
    indexes.create(MISSING_REPOSITORY)
    shows(indexes, MISSING_REPOSITORY, "Indexed", "False", "RepositoryNotFound", seconds=60)
    assert indexes.condition(MISSING_REPOSITORY, "Ready") == ("False", "RepositoryNotFound")
    eventually(lambda: any(name.endswith("-2") for name in view.children("Job")), what="a second try")
    assert set(generations(view)) == {"g000001"}


def test_what_a_retriever_says_takes_serving_away_and_brings_it_back(
    launcher: Launcher, view: View, indexes: View, stub: Stub
) -> None:
    started(launcher)
    first_build(view, indexes, stub)
    well = stub.retriever
    down = {"ok": False, "reason": "EmbeddingUnavailable", "message": "the embedding server did not answer"}
    stub.retriever = {**well, "embedding": down}
    shows(indexes, "handbook", "Serving", "False", "EmbeddingUnavailable")
    stub.retriever = {**well, "store": {"ok": True, "full": True}}
    shows(indexes, "handbook", "Ready", "False", "DiskPressure")
    assert indexes.condition("handbook", "Serving") == ("True", "Answering")
    stub.retriever = well
    ready(indexes, "handbook")


def test_an_embedded_store_is_a_set_of_one_over_its_claim(
    launcher: Launcher, view: View, indexes: View, stub: Stub, storage: str
) -> None:
    started(launcher)
    documents(view)
    indexes.create("handbook", store={"type": "Embedded", "storageClassName": "nowhere"})
    shows(indexes, "handbook", "Ready", "False", "StorageClassMissing")
    indexes.edit("handbook", store={"type": "Embedded", "storageClassName": storage})
    eventually(lambda: generations(view) == ["g000001"], what="the first build")
    stub.retriever = holding("g000001", serving="g000001")
    ready(indexes, "handbook")
    claim: Any = view.children("PersistentVolumeClaim")["handbook-index"]
    assert claim["status"]["phase"] == "Bound"
    assert set(view.children("StatefulSet")) == {"handbook-retriever"}
    indexes.edit("handbook", store={"type": "Embedded", "storageClassName": storage}, suspend=True)
    shows(indexes, "handbook", "Ready", "False", "Suspended")
    eventually(lambda: not any("-retriever-" in name for name in view.children("Pod")), what="no retriever")


def test_an_operator_killed_at_any_write_builds_once(
    launcher: Launcher, view: View, indexes: View, stub: Stub
) -> None:
    documents(view)
    indexes.create("handbook")
    for writes in (3, 9, 13):
        process = launcher.start()
        eventually(lambda writes=writes: len(view.versions()) >= writes, what=f"{writes} objects")  # type: ignore[misc]
        process.kill()
    process = launcher.start()
    eventually(lambda: generations(view) == ["g000001"], what="the first build")
    stub.retriever = holding("g000001", serving="g000001")
    ready(indexes, "handbook")
    settled(process, view)
    assert generations(view) == ["g000001"]
    assert set(view.children("Deployment")) == {"handbook-retriever"}
