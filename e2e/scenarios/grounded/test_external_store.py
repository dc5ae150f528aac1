# SPDX-License-Identifier: Apache-2.0
"""An index on a Qdrant server of the user's: a key that it refuses, and a server that goes away, told and healed.

The server is the make-believe one of the retriever's own tests, as a pod: no Qdrant server could be had here.
"""

import pytest

from e2e.data.canonical import normalise
from e2e.support.answers import INDEX, searching
from e2e.support.desk import IDS, Desk, documents, questions
from e2e.support.external import (
    PAPERS,
    SERVER,
    SHARED,
    key_manifest,
    server_manifests,
    shared_manifest,
)
from e2e.support.grounded import documents_manifest
from e2e.support.stack import Stack
from e2e.support.troubles import Stage, Trouble, now
from nimblet import labels

pytestmark = pytest.mark.timeout(600, func_only=True)

PAPER = IDS[-1]
FIRST, SECOND = "the-servers-key", "the-servers-other-key"


def test_a_refused_key_and_a_server_that_goes_away_are_told_and_heal(
    stack: Stack, desk: Desk, stage: Stage
) -> None:
    kube, namespace = desk.kube, desk.namespace
    # Given an index that serves from a server, which is there first: a retriever that can't open its store ends
    serve_with(FIRST, stack, desk, turn=1)
    kube.apply(key_manifest(namespace, FIRST))
    kube.apply(documents_manifest(PAPERS, namespace, documents(PAPER)))
    kube.apply(shared_manifest(namespace))
    desk.ready(SHARED)
    assert_found(desk)
    refuse_the_key(stack, desk, stage)
    go_away(desk, stage)
    kube.run("delete", INDEX, SHARED, f"--namespace={namespace}", "--wait=false")
    kube.run("delete", "deployment", SERVER, f"--namespace={namespace}", "--wait=false")


def serve_with(key: str, stack: Stack, desk: Desk, *, turn: int) -> None:
    """Run the server with a key; `turn` tells its pods apart."""
    for manifest in server_manifests(desk.namespace, image=stack.images["retriever"], key=key, turn=turn):
        desk.kube.apply(manifest)
    desk.kube.rolled_out(SERVER, desk.namespace)


def refuse_the_key(stack: Stack, desk: Desk, stage: Stage) -> None:
    kube, namespace = desk.kube, desk.namespace
    # When the server wants another key
    begun = now()
    serve_with(SECOND, stack, desk, turn=2)
    up = stage.pod_ready(f"{SERVER}-", since=begun)
    told = stage.told(INDEX, SHARED, {"Ready": "StoreRefused", "Serving": "False"}, since=begun)
    # Then the index heals once its Secret has that key
    righted = now()
    kube.apply(key_manifest(namespace, SECOND))
    # the kubelet looks at a Secret once a minute, and at once when the pod changes
    retriever = f"--selector={labels.INDEX}={SHARED},{labels.COMPONENT}=retriever"
    kube.run("annotate", "pods", retriever, f"--namespace={namespace}", "example.com/hurry=now")
    healed = stage.healed(INDEX, SHARED, since=righted)
    assert_found(desk)
    stage.row(
        Trouble(
            title="an External store refuses the key",
            reason=told.reason,
            message=told.message,
            recorded="the server's pod with another key was ready",
            told_seconds=(told.seen_at - up).total_seconds(),
            cure="put the key into the Secret",
            healed_seconds=healed,
        )
    )


def go_away(desk: Desk, stage: Stage) -> None:
    kube, namespace = desk.kube, desk.namespace
    # When the server goes away
    begun = now()
    kube.run("scale", "deployment", SERVER, f"--namespace={namespace}", "--replicas=0")
    gone = stage.pod_gone(f"{SERVER}-", since=begun)
    told = stage.told(INDEX, SHARED, {"Ready": "StoreUnavailable", "Serving": "False"}, since=begun)
    # Then it answers again once the server is back, with what it held
    back = now()
    kube.run("scale", "deployment", SERVER, f"--namespace={namespace}", "--replicas=1")
    healed = stage.healed(INDEX, SHARED, since=back)
    assert_found(desk)
    stage.row(
        Trouble(
            title="an External store is down",
            reason=told.reason,
            message=told.message,
            recorded="the end of the server's pod",
            told_seconds=(told.seen_at - gone).total_seconds(),
            cure="start the server",
            healed_seconds=healed,
        )
    )


def assert_found(desk: Desk) -> None:
    """A question finds the passage that answers it, in the first generation: nothing was built anew."""
    question = questions(PAPER)[0]
    with searching(desk.kube, SHARED, desk.namespace) as search:
        found = search.find(question.question)
    assert any(normalise(question.quote) in normalise(item.text) for item in found.passages)
    assert found.generation == "g000001"
