# SPDX-License-Identifier: Apache-2.0
"""An index over a git server, a bucket and a claim on real pods, with a reranker and pushes, and a full volume.

The bucket is a stand-in for an S3 service that checks signatures; git is dulwich's server over https; the volume
is really full when it is full.
"""

from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest

from e2e.data.canonical import normalise
from e2e.data.corpus import Question
from e2e.support.answers import ASSISTANT, INDEX, Passage, Searching, answers_of, bearer, pushing, searching
from e2e.support.asking import TIMEOUT_SECONDS
from e2e.support.bounded import Bounded, bounded_volume
from e2e.support.desk import Desk, documents, questions
from e2e.support.git_server import repository
from e2e.support.grounded import USABLE, copying_pod_manifest, documents_manifest
from e2e.support.hub import NAMESPACE
from e2e.support.library import (
    BOARD,
    CLAIM,
    CLAIM_IDS,
    EVERYONE,
    GIT_IDS,
    LIBRARIAN,
    LIBRARY,
    READER_KEY,
    RERANKER,
    S3_IDS,
    STORE_MIB,
    bucket_manifests,
    git_manifests,
    library_manifests,
    rendered,
)
from e2e.support.mcp import call_search
from e2e.support.objects import Pod
from e2e.support.registry import claim_manifest
from e2e.support.stack import Stack
from e2e.support.troubles import Stage, Trouble, now
from e2e.support.wait import until
from nimblet.labels import BUILD_REQUESTED_AT

pytestmark = pytest.mark.timeout(600, func_only=True)

PUSHED, PUSHED_TEXT = "notice", "The reading room of Quillbrook closes at half past nine on Fridays."
PUSHED_QUESTION = "When does the reading room of Quillbrook close on Fridays?"
ALL = 50
"""More than the index has: the reranking test model is too small to put what is right first."""
TOO_LITTLE_MIB = 64
"""Less than the retriever's reserve of 256 MiB; searches go on."""
STARTED_SECONDS = 120.0


@pytest.fixture(scope="module")
def volume(stack: Stack, namespace: str) -> Iterator[Bounded]:
    """The volume of the index."""
    image = stack.images["mirror"]
    with bounded_volume(stack.kube, namespace, image=image, mib=STORE_MIB) as made:
        yield made


@pytest.fixture(scope="module")
def library(stack: Stack, made: Desk, volume: Bounded) -> Desk:
    """The desk with the library, its reranker and its Assistant beside it, all Ready."""
    kube, namespace = stack.kube, volume.namespace
    shelf = documents_manifest("shelf", namespace, documents(*CLAIM_IDS))
    claim = claim_manifest(CLAIM, namespace)
    labelled = {**claim, "metadata": {"name": CLAIM, "namespace": namespace, "labels": USABLE}}
    kube.run("delete", "deployment", "git", "s3", f"--namespace={NAMESPACE}", "--ignore-not-found")
    copier = copying_pod_manifest("shelf", CLAIM, namespace, image=stack.images["mirror"])
    servers = [*git_manifests(stack.images["indexer"]), *bucket_manifests(stack.images["mirror"])]
    for manifest in (*servers, shelf, labelled, copier):
        kube.apply(manifest)
    inside = f"--namespace={namespace}"
    kube.run("wait", f"pod/copy-{CLAIM}", inside, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    for name in ("git", "s3"):
        kube.rolled_out(name, NAMESPACE)
    for manifest in library_manifests(namespace):
        kube.apply(manifest)
    made.ready(LIBRARY)
    made.ready(LIBRARIAN, kind=ASSISTANT)
    return made


@pytest.fixture
def search(library: Desk) -> Iterator[Searching]:
    library.ready(LIBRARY)
    with searching(library.kube, LIBRARY, library.namespace) as made:
        yield made


def question_of(*ids: str) -> Question:
    """Return the first question that a document answers."""
    return questions(*ids)[0]


def cited(search: Searching, question: Question) -> Passage:
    """Return the found passage that holds the words which answer a question."""
    found = search.find(question.question, top_k=ALL)
    wanted = normalise(question.quote)
    holding = [item for item in found.passages if wanted in normalise(item.text)]
    assert holding, f"{question.id}: {[(item.id, item.text[:80]) for item in found.passages]}"
    return holding[0]


def test_git_bucket_and_claim_are_found_with_their_places(library: Desk, search: Searching) -> None:
    status = library.index(LIBRARY).status
    assert {item.name: item.documents for item in status.sources} == {"repo": 1, "bucket": 1, "shelf": 1}
    # the commit is pinned, and told
    _, commit = repository(rendered(documents(*GIT_IDS)))
    assert next(item.revision for item in status.sources if item.name == "repo") == commit
    for source, ids in (("repo", GIT_IDS), ("bucket", S3_IDS), ("shelf", CLAIM_IDS)):
        passage = cited(search, question_of(*ids))
        (document,) = documents(*ids)
        print(f"\n{source}: {passage.id}: {passage.title!r}, {passage.location!r}")
        assert passage.document == f"{source}/{document.file_name}"
        assert passage.id.endswith(f"@{status.serving_generation}")
        assert passage.source == source
        assert passage.title
        assert passage.location


def test_access_labels_decide_at_the_retriever_and_at_the_gateway(library: Desk, search: Searching) -> None:
    question = question_of(*S3_IDS).question
    assert {item.source for item in search.find(question, top_k=ALL, access=[BOARD]).passages} == {"bucket"}
    others = search.find(question, top_k=ALL, access=[EVERYONE]).passages
    assert {item.source for item in others} == {"repo", "shelf"}
    with answers_of(library.kube, LIBRARIAN, library.namespace) as answers:
        found = {
            key: {item.source for item in through_gateway(answers.endpoint.url, key, question)}
            for key in (answers.endpoint.api_key, READER_KEY)
        }
    assert "bucket" in found[answers.endpoint.api_key]
    assert found[READER_KEY]
    assert "bucket" not in found[READER_KEY]


def through_gateway(url: str, key: str, question: str) -> list[Passage]:
    """Return what a key finds at the gateway's own /v1/retrieve."""
    answer = httpx.post(
        f"{url}/v1/retrieve", json={"query": question, "topK": ALL}, headers=bearer(key), timeout=TIMEOUT_SECONDS
    )
    return [Passage.model_validate(item) for item in answer.raise_for_status().json()["passages"]]


def test_the_reranker_orders_and_the_tool_of_mcp_finds_the_same(search: Searching) -> None:
    question = question_of(*CLAIM_IDS).question
    found = search.find(question, top_k=3)
    assert found.reranked
    tools, told = call_search(search, {"query": question, "topK": 3})
    assert tools == ["search"]
    assert [item.id for item in told.passages] == [item.id for item in found.passages]
    assert told.reranked


def test_pushes_and_deletions_outlive_a_kill_a_swap_and_a_roll_back(library: Desk, search: Searching) -> None:
    kube, namespace = library.kube, library.namespace
    first = library.index(LIBRARY).status.serving_generation
    hidden = f"shelf/{documents(*CLAIM_IDS)[0].file_name}"
    asked = question_of(*CLAIM_IDS).question

    def as_pushed(what: str) -> None:
        found = search.find(PUSHED_QUESTION, top_k=ALL).documents
        assert [name for name in found if name.endswith(f"/{PUSHED}")], f"{what}: {found}"
        assert hidden not in search.find(asked, top_k=ALL).documents, what

    with pushing(kube, LIBRARY, namespace) as pusher:
        # When a document is pushed and one of a source deleted, then the very next search knows
        assert hidden in search.find(asked, top_k=ALL).documents
        assert pusher.push(PUSHED, PUSHED_TEXT, access=[EVERYONE]).status_code == HTTPStatus.OK
        assert pusher.delete(hidden).status_code == HTTPStatus.OK
        as_pushed("at once")
        # and after SIGKILL of the retriever
        killed(library)
        until(lambda: answers(search), what="searches to be answered again", seconds=STARTED_SECONDS)
        as_pushed("after SIGKILL")
        # and after a swap
        annotation = {BUILD_REQUESTED_AT: "swap"}
        kube.patch(INDEX, LIBRARY, namespace, merge={"metadata": {"annotations": annotation}})
        assert library.newer_than(first, name=LIBRARY).status.serving_generation != first
        as_pushed("after a swap")
        # and after a roll back to what was built before the deletion
        kube.patch(INDEX, LIBRARY, namespace, merge={"spec": {"generation": first}})
        until(
            lambda: library.index(LIBRARY).status.serving_generation == first,
            what=f"{first} to serve",
            seconds=STARTED_SECONDS,
        )
        as_pushed("after a roll back")
        # When it is restored, then it is found again, and what is deleted is not
        assert pusher.restore(hidden).status_code == HTTPStatus.OK
        assert pusher.delete(PUSHED).status_code == HTTPStatus.OK
        assert hidden in search.find(asked, top_k=ALL).documents
        found = search.find(PUSHED_QUESTION, top_k=ALL).documents
        assert not [name for name in found if name.startswith("push:")]
    kube.patch(INDEX, LIBRARY, namespace, merge={"spec": {"generation": None}})
    library.newer_than(first, name=LIBRARY)


def killed(library: Desk) -> None:
    """Kill the retriever with its pod, and wait until another one is ready.

    By force its object goes first: until it is killed, it may answer one search more, and fail the next.
    """
    kube, namespace, pod = library.kube, library.namespace, f"{LIBRARY}-retriever-0"
    uid = Pod.model_validate(kube.get("pod", pod, namespace)).metadata.uid
    kube.run("delete", "pod", pod, f"--namespace={namespace}", "--grace-period=0", "--force")

    def another() -> bool:
        found = kube.find("pod", pod, namespace)
        now = Pod.model_validate(found) if found is not None else None
        return now is not None and now.metadata.uid != uid and now.ready

    until(another, what="another pod that is ready", seconds=STARTED_SECONDS)


def answers(search: Searching) -> bool:
    """Tell whether a search is answered."""
    try:
        search.find(PUSHED_QUESTION)
    except httpx.HTTPError:
        return False
    return True


def test_a_full_volume_is_told_stops_builds_and_pushes_and_heals(
    library: Desk, search: Searching, volume: Bounded, stage: Stage
) -> None:
    kube, namespace = library.kube, library.namespace
    before = library.index(LIBRARY).status.serving_generation
    # When somebody else fills the volume
    broken = now()
    volume.fill(leaving_mib=TOO_LITTLE_MIB)
    full = now()
    told = stage.told(INDEX, LIBRARY, {"Ready": "DiskPressure", "Serving": "True"}, since=broken)
    # Then searches go on, and nothing is pushed or built
    assert search.find(question_of(*GIT_IDS).question).generation == before
    with pushing(kube, LIBRARY, namespace) as pusher:
        refused = pusher.push(PUSHED, PUSHED_TEXT, access=[EVERYONE])
    assert refused.status_code == HTTPStatus.INSUFFICIENT_STORAGE
    assert refused.json()["reason"] == "StoreFull"
    asked = now()
    kube.patch(INDEX, LIBRARY, namespace, merge={"metadata": {"annotations": {BUILD_REQUESTED_AT: "full"}}})
    stage.told(INDEX, LIBRARY, {"Indexed": "DiskPressure", "Serving": "True"}, since=asked)
    assert library.index(LIBRARY).status.serving_generation == before
    # When there is space again, then the index is Ready and takes pushes
    freed = now()
    volume.free()
    healed = stage.healed(INDEX, LIBRARY, since=freed)
    with pushing(kube, LIBRARY, namespace) as pusher:
        assert pusher.push(PUSHED, PUSHED_TEXT, access=[EVERYONE]).status_code == HTTPStatus.OK
    stage.row(
        Trouble(
            title="the volume of an Embedded store is full",
            reason=told.reason,
            message=told.message,
            recorded="the volume's own free space",
            told_seconds=(told.seen_at - full).total_seconds(),
            cure="free space",
            healed_seconds=healed,
        )
    )


def test_a_reranker_that_is_gone_is_told_and_searches_go_on(
    library: Desk, search: Searching, stage: Stage
) -> None:
    kube, namespace, question = library.kube, library.namespace, question_of(*GIT_IDS)
    begun = now()
    kube.patch("compactmodel", RERANKER, namespace, merge={"spec": {"suspend": True}})
    stage.told(INDEX, LIBRARY, {"Ready": "ModelNotServing", "Serving": "True"}, since=begun)
    until(
        lambda: search.find(question.question).reranked is False,
        what="the search's own order",
        seconds=STARTED_SECONDS,
    )
    assert cited(search, question)
