# SPDX-License-Identifier: Apache-2.0
"""An index kept on a server of the user's: a wrong key, and a server that goes away, told and healed.

The server is a stand-in that speaks the part of Qdrant's REST interface which the retriever uses, over the client
library's own local mode: no Qdrant server could be had here. What is shown is the retriever's and operator's side.
"""

import pytest

from e2e.data.canonical import normalise
from e2e.support.answers import INDEX, searching
from e2e.support.desk import DOCS, Desk, questions
from e2e.support.grounded import QDRANT_HOST
from e2e.support.library import (
    SHARED,
    STORE_KEY,
    STORE_KEYS,
    qdrant_manifests,
    secret_manifest,
    shared_manifest,
)
from e2e.support.registry import claim_manifest
from e2e.support.stack import Stack
from e2e.support.troubles import Stage, Trouble, now
from nimblet import labels

pytestmark = pytest.mark.timeout(600, func_only=True)

SERVER = QDRANT_HOST.split(".")[0]


def test_a_wrong_key_and_a_server_that_goes_away_are_told_and_heal(stack: Stack, desk: Desk, stage: Stage) -> None:
    kube, namespace = desk.kube, desk.namespace
    # Given a server, and a Secret with another key
    kube.apply(claim_manifest(SERVER, namespace))
    for manifest in qdrant_manifests(namespace, image=stack.images["retriever"]):
        kube.apply(manifest)
    kube.run("rollout", "status", f"deployment/{SERVER}", f"--namespace={namespace}", "--timeout=90s")
    kube.apply(secret_manifest(STORE_KEYS, namespace, {"api-key": "another"}, host=QDRANT_HOST))
    applied = now()
    kube.apply(shared_manifest(namespace, config_map=DOCS))
    ended = stage.pod_ended(f"{SHARED}-retriever", since=applied)
    told = stage.told(INDEX, SHARED, {"Ready": "StoreRefused", "Serving": "False"}, since=applied)
    # When the key is put right, then the index is built and answers
    righted = now()
    kube.apply(secret_manifest(STORE_KEYS, namespace, {"api-key": STORE_KEY}, host=QDRANT_HOST))
    # the kubelet looks at a Secret once a minute, and at once when the pod changes
    retriever = f"--selector={labels.INDEX}={SHARED},{labels.COMPONENT}=retriever"
    kube.run("annotate", "pods", retriever, f"--namespace={namespace}", "example.com/hurry=now")
    healed = stage.healed(INDEX, SHARED, since=righted)
    assert_found(desk)
    stage.row(
        Trouble(
            title="a wrong key of an External store",
            reason=told.reason,
            message=told.message,
            recorded="the end of the retriever's container",
            told_seconds=(told.seen_at - ended).total_seconds(),
            cure="put the right key into the Secret",
            healed_seconds=healed,
        )
    )
    # When the server goes away
    begun = now()
    kube.run("scale", "deployment", SERVER, f"--namespace={namespace}", "--replicas=0")
    gone = stage.pod_gone(SERVER, since=begun)
    told = stage.told(INDEX, SHARED, {"Ready": "StoreUnavailable", "Serving": "False"}, since=begun)
    # Then it answers again once the server is back, with what it held
    back = now()
    kube.run("scale", "deployment", SERVER, f"--namespace={namespace}", "--replicas=1")
    healed = stage.healed(INDEX, SHARED, since=back)
    assert_found(desk)
    stage.row(
        Trouble(
            title="an External store that is down",
            reason=told.reason,
            message=told.message,
            recorded="the end of the server's pod",
            told_seconds=(told.seen_at - gone).total_seconds(),
            cure="start the server",
            healed_seconds=healed,
        )
    )


def assert_found(desk: Desk) -> None:
    """A question finds the passage that answers it, in the first generation."""
    question = questions()[0]
    with searching(desk.kube, SHARED, desk.namespace) as search:
        found = search.find(question.question)
    assert any(normalise(question.quote) in normalise(item.text) for item in found.passages)
    assert found.generation == desk.index(SHARED).status.serving_generation
