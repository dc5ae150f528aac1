# SPDX-License-Identifier: Apache-2.0
"""What no watch shows is found without a resync: changed documents, and what gateways and retrievers tell."""

from collections.abc import Mapping

import pytest

from nimblet import labels
from tests.cluster.operator_support import TIMING, Launcher, Process, View, eventually
from tests.cluster.settling import RESYNCS, passes, ready, started
from tests.cluster.stub_server import GATEWAY_STATUS, RETRIEVER_STATUS, Stub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

QUICK = 15
"""Seconds within which trouble must show."""
LOOK = 30
"""Seconds within which something shows that no event tells of: it is looked at every eight."""
NO_RESYNC = {**TIMING, "resyncSeconds": 600}
GENERATION = {"name": "g000001", "embedding": "e", "documents": 2, "chunks": 12, "sealed": True, "gate": None}
ILL = {"ok": False, "reason": "NoToken", "message": "the model answered without a single token"}


@pytest.fixture
def alone(launcher: Launcher) -> Process:
    """An operator that has read everything, and once more when its watches were there, and never does again."""
    launcher.timing = NO_RESYNC
    process = started(launcher)
    eventually(lambda: process.metric(RESYNCS) >= 2, what="the second read")
    return process


def documents(view: View, text: str) -> None:
    metadata: Mapping[str, object] = {
        "name": "handbook",
        "namespace": view.namespace,
        "labels": {labels.USE: "true"},
    }
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a.md": text}}
    view.api.apply(view.path("ConfigMap", "handbook"), manifest)


def shows(view: View, name: str, type_: str, status: str, reason: str, *, seconds: float = QUICK) -> None:
    eventually(
        lambda: view.condition(name, type_) == (status, reason), seconds=seconds, what=f"{type_}={status} {reason}"
    )


def test_an_index_looks_again_when_something_changed_and_only_then(alone: Process, view: View, stub: Stub) -> None:
    # Given an index that serves
    indexes = view.of("RetrievalIndex")
    documents(view, "Nimblet is nimble.")
    indexes.create("handbook")
    eventually(lambda: len(view.children("Job")) == 1, what="the first build")
    well = stub.retriever = {**RETRIEVER_STATUS, "serving": "g000001", "generations": [GENERATION]}
    ready(indexes, "handbook")
    shows(indexes, "handbook", "Indexed", "True", "Indexed")
    # When its retriever says the same again and again, then nobody looks at it: pod and Job have a last word first

    def rests() -> bool:
        asked, before = stub.questions, passes(alone, "RetrievalIndex")
        eventually(lambda: stub.questions >= asked + 3, what="three questions more")
        return passes(alone, "RetrievalIndex") == before

    eventually(rests, seconds=100, what="questions without a look at the index")
    # When it says something else, it is told and taken back
    stub.retriever = {**well, "embedding": {"ok": False, "reason": "EmbeddingUnavailable", "message": "away"}}
    shows(indexes, "handbook", "Serving", "False", "EmbeddingUnavailable")
    stub.retriever = well
    ready(indexes, "handbook")
    # When its documents change they are built, and when they go that is told
    documents(view, "Nimblet is quick.")
    eventually(
        lambda: (
            [job["metadata"]["labels"][labels.BUILD_GENERATION] for job in view.children("Job").values()]
            == ["g000002"]
        ),
        seconds=LOOK,
        what="a build of the changed documents, and of them alone",
    )
    view.api.delete(view.path("ConfigMap", "handbook"))
    shows(indexes, "handbook", "Resolved", "False", "ConfigMapMissing", seconds=LOOK)


def test_trouble_of_a_gateway_that_shows_in_no_object_is_told(alone: Process, view: View, stub: Stub) -> None:
    assistants = view.of("Assistant")
    view.create("small")
    assistants.create("help")
    ready(assistants, "help")
    before = passes(alone, "Assistant")
    stub.gateway = {**GATEWAY_STATUS, "selfTest": ILL}
    shows(assistants, "help", "Ready", "False", "SelfTestFailed")
    stub.gateway = GATEWAY_STATUS
    ready(assistants, "help")
    # Then it was looked at for each of the two, and not by the clock (a look is counted once it has ended)
    eventually(lambda: passes(alone, "Assistant") >= before + 2, what="a look at the trouble, one at its end")
    assert passes(alone, "Assistant") - before < 20, "it is looked at by the clock"
