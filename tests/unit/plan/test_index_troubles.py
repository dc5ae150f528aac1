# SPDX-License-Identifier: Apache-2.0
"""What an index names, what its models, store and retriever say, and what is left alone meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest

from nimblet import labels
from nimblet.api.indexstatus import RetrievalIndexStatus
from nimblet.plan.facts import (
    Answer,
    ChildRef,
    ContainerFailure,
    FailureKind,
    Observation,
    SecretFacts,
    StorageClassFacts,
    WriteFailure,
)
from nimblet.plan.indexfacts import NamedFacts, PartFacts, StoreServerFacts
from nimblet.plan.modelfacts import ModelReference
from nimblet.plan.retrievalindex import plan_invalid_index
from nimblet.settings import Settings
from tests.builders import NOW, child
from tests.conditions import is_true, message, shown
from tests.indexes import (
    JUDGE,
    MINILM,
    a_claim,
    a_generation,
    a_retriever,
    an_index,
    an_index_spec,
    built,
    config_of,
    first_facts,
    index_plan,
    job_of,
    jobs_of,
    running_facts,
    workload,
)

OPEN = Settings.model_validate({"fetch": {"allow": [{"host": "qdrant.example"}, {"host": "embed.example"}]}})


def test_missing_embedding_model_changes_no_child() -> None:
    gone = ModelReference(name="minilm", found=False)
    plan = index_plan(an_index(), first_facts(embedding=gone))
    assert "StatefulSet" not in [item["kind"] for item in plan.children]
    assert shown(plan, "Resolved") == ("False", "ModelMissing")
    assert shown(plan, "Ready") == ("False", "ModelMissing")
    assert is_true(plan, "Stalled")


def test_a_busy_retriever_that_answered_serves_on_while_an_edit_is_built() -> None:
    index, facts = built(an_index())
    edited = index.model_copy(update={"generation": 2, "spec": an_index_spec(chunking={"tokens": 128})})
    busy = Observation(answer=Answer.BUSY, detail="no status within 5 seconds", answered=True)
    plan = index_plan(edited, replace(facts, pods=(replace(facts.pods[0], observation=busy),)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Building")


def test_embedding_model_that_fails_takes_serving_away() -> None:
    index, facts = built(an_index())
    down = replace(MINILM, serving=False, ready=False, reason="OOMKilled", message="It was killed.")
    plan = index_plan(index, replace(facts, embedding=down))
    assert shown(plan, "Serving") == ("False", "ModelNotServing")
    assert shown(plan, "Ready") == ("False", "ModelNotServing")
    assert workload(plan)["metadata"]["labels"] == workload(index_plan(index, facts))["metadata"]["labels"]
    words_only = index.model_copy(update={"spec": an_index_spec(search={"mode": "Lexical"})})
    assert shown(index_plan(words_only, replace(facts, embedding=down)), "Serving") == ("True", "Answering")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("EmbeddingUnavailable", "EmbeddingUnavailable"),
        ("EmbeddingRefused", "EmbeddingUnavailable"),
        ("EmbeddingChanged", "EmbeddingChanged"),
    ],
)
def test_what_the_retriever_says_of_the_embedding_model_is_told(reason: str, expected: str) -> None:
    index, facts = built(an_index())
    bad = a_retriever(embedding=PartFacts(ok=False, reason=reason, message="it did not answer."))
    plan = index_plan(index, replace(facts, retriever=bad))
    assert shown(plan, "Serving") == ("False", expected)
    assert shown(plan, "Ready") == ("False", expected)
    assert "it did not answer" in message(plan, "Ready")


def test_another_embedding_model_is_built_with_while_the_former_is_known() -> None:
    index, facts = built(an_index())
    former = index.status.embeddings[0].fingerprint
    serving = a_retriever(generations=(a_generation(embedding=former),))
    other = replace(MINILM, name="gemma", digest="e" * 32, url="http://gemma-model.team.svc/v1")
    spec = an_index_spec(embedding={"modelRef": {"name": "gemma"}})
    edited = index.model_copy(update={"spec": spec, "generation": 2})
    facts = replace(facts, retriever=serving, embedding=other)
    plan = index_plan(edited, facts)
    config = config_of(plan, "handbook-retriever")
    assert config["embedding"]["url"] == "http://gemma-model.team.svc/v1"
    assert [item["fingerprint"] for item in config["formerEmbeddings"]] == [former]
    assert shown(plan, "Serving") == ("True", "Answering")
    assert jobs_of(plan) == [], "the retriever takes up the new configuration first"
    starting = replace(other, serving=False, ready=False, reason="Downloading")
    waits = index_plan(edited, replace(facts, embedding=starting))
    assert shown(waits, "Serving") == ("True", "Answering")
    assert shown(waits, "Ready") == ("Unknown", "ModelNotServing")
    assert "formerEmbeddings" not in config_of(waits, "handbook-retriever")


def test_a_model_that_rolls_changes_nothing_before_it_is_ready() -> None:
    index, facts = built(an_index())
    rolling = replace(MINILM, ready=False, digest="f" * 32)
    plan = index_plan(index, replace(facts, embedding=rolling))
    assert is_true(plan, "Ready")
    assert jobs_of(plan) == []


def test_reranker_that_is_away_leaves_searches() -> None:
    index, facts = built(an_index(search={"rerankerRef": {"name": "judge"}}))
    assert config_of(index_plan(index, facts), "handbook-retriever")["reranker"]["url"] == JUDGE.url
    away = replace(JUDGE, serving=False, reason="Evicted", message="It was evicted.")
    plan = index_plan(index, replace(facts, reranker=away))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "ModelNotServing")


def test_full_store_stops_builds_and_leaves_searches() -> None:
    index, facts = built(an_index())
    asked = index.model_copy(update={"build_requested_at": "now"})
    plan = index_plan(asked, replace(facts, retriever=replace(a_retriever(), full=True)))
    assert jobs_of(plan) == []
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "DiskPressure")
    assert shown(plan, "Indexed") == ("False", "DiskPressure")


def test_store_that_is_away_is_told_in_the_retrievers_words() -> None:
    index, facts = built(an_index())
    bad = a_retriever(
        None, store=PartFacts(ok=False, reason="StoreUnavailable", message="Qdrant refused the key.")
    )
    plan = index_plan(index, replace(facts, retriever=bad))
    assert shown(plan, "Serving") == ("False", "StoreUnavailable")
    assert "Qdrant refused the key." in message(plan, "Ready")
    assert plan.status.serving_generation == "g000001", "what can't be told stays as it was"


@pytest.mark.parametrize(
    ("reason", "step"),
    [("StoreRefused", "Put a key that may read and write all"), ("StoreUnsupported", "Run Qdrant servers of")],
)
def test_what_a_server_refuses_is_told_by_its_reason(reason: str, step: str) -> None:
    index, facts = built(an_index())
    bad = a_retriever(None, store=PartFacts(ok=False, reason=reason, message="in the retriever's words"))
    plan = index_plan(index, replace(facts, retriever=bad))
    assert shown(plan, "Serving") == ("False", reason)
    assert shown(plan, "Ready") == ("False", reason)
    assert "in the retriever's words. " + step in message(plan, "Ready")


@pytest.mark.parametrize(
    ("trouble", "reason", "builds"),
    [
        ("StoreRefused", "StoreRefused", False),
        ("StoreUnavailable", "StoreFailing", True),
        ("StoreFull", "DiskPressure", True),
    ],
)
def test_trouble_of_a_store_that_answers_leaves_serving(trouble: str, reason: str, *, builds: bool) -> None:
    index, facts = built(an_index())
    asked = index.model_copy(update={"build_requested_at": "now"})
    found = replace(a_retriever(), trouble=PartFacts(ok=False, reason=trouble, message="can't write"))
    plan = index_plan(asked, replace(facts, retriever=found))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", reason)
    assert "can't write" in message(plan, "Ready")
    assert bool(jobs_of(plan)) is builds


def test_server_that_is_full_is_told_as_such_and_its_version_too() -> None:
    index, facts = built(an_index())
    server = StoreServerFacts(url="http://q:6333", used=True, version="1.19.0", collections=("uid-g000001-a",))
    found = replace(a_retriever(), servers=(server,), note="The Qdrant server is 1.19.0, newer than 1.18.")
    plan = index_plan(index, replace(facts, retriever=found))
    assert shown(plan, "Ready") == ("True", "Ready")
    assert "newer than 1.18." in message(plan, "Ready")
    (kept,) = plan.status.store_servers
    assert (kept.url, kept.version, kept.collections) == ("http://q:6333", "1.19.0", ["uid-g000001-a"])
    full = index_plan(index, replace(facts, retriever=replace(found, full=True)))
    assert shown(full, "Ready") == ("False", "DiskPressure")
    assert "no room left on its volume" in message(full, "Ready")
    assert shown(full, "Serving") == ("True", "Answering")


def test_retriever_that_ends_because_of_its_store_is_told_by_the_reason() -> None:
    index, facts = built(an_index())
    ending = '{"version":1,"error":{"reason":"StoreRefused","message":"the Qdrant server refuses the key."}}'
    ended_ = ContainerFailure(kind=FailureKind.LOADER, container="retriever", message=ending, exit_code=1)
    pod = replace(facts.pods[0], ready=False, failure=ended_, observation=None)
    plan = index_plan(index, replace(facts, pods=(pod,), retriever=None))
    assert shown(plan, "Serving") == ("False", "StoreRefused")
    assert shown(plan, "Ready") == ("False", "StoreRefused")
    assert "the Qdrant server refuses the key. Put a key" in message(plan, "Ready")


def test_a_restarted_operator_tells_no_doubt_of_a_retriever_that_is_too_busy_to_answer_at_once() -> None:
    # Given an index that stands Ready, and an operator that has asked its retriever for the first time
    index, facts = built(an_index())
    busy = replace(facts.pods[0], observation=Observation(answer=Answer.BUSY, detail="has not answered yet"))
    plan = index_plan(index, replace(facts, pods=(busy,), retriever=None))
    # Then what was told stands
    assert plan.status == index.status
    # But not of a pod that came since, nor of servers whose model is gone
    later = replace(busy, created_at=NOW + timedelta(seconds=1))
    assert not is_true(index_plan(index, replace(facts, pods=(later,), retriever=None)), "Serving")
    gone = replace(
        facts, pods=(busy,), retriever=None, embedding=replace(MINILM, serving=False, reason="Starting")
    )
    assert not is_true(index_plan(index, gone), "Serving")


def test_retriever_that_does_not_answer_takes_serving_away() -> None:
    index, facts = built(an_index())
    failing = replace(facts.pods[0], observation=Observation(answer=Answer.FAILED, detail="the connection failed"))
    plan = index_plan(index, replace(facts, pods=(failing,), retriever=None))
    assert shown(plan, "Serving") == ("False", "NotAnswering")
    killed = ContainerFailure(kind=FailureKind.OOM_KILLED, container="retriever", message="")
    dead = replace(facts.pods[0], ready=False, observation=None, failure=killed)
    plan = index_plan(index, replace(facts, pods=(dead,), retriever=None))
    assert shown(plan, "Serving") == ("False", "OOMKilled")
    assert shown(plan, "Ready") == ("False", "OOMKilled")


@pytest.mark.parametrize(
    ("config_maps", "reason"),
    [
        ({}, "ConfigMapMissing"),
        ({"handbook": NamedFacts(name="handbook", usable=False)}, "ConfigMapNotUsable"),
    ],
)
def test_config_map_that_can_not_be_read_stops_builds_alone(
    config_maps: dict[str, NamedFacts], reason: str
) -> None:
    plan = index_plan(an_index(), running_facts(an_index(), config_maps=config_maps))
    assert jobs_of(plan) == []
    assert shown(plan, "Resolved") == ("False", reason)
    assert shown(plan, "Ready") == ("False", reason)
    assert workload(plan)["kind"] == "StatefulSet"
    assert plan.requeue_after == 10.0
    index, facts = built(an_index())
    later = index_plan(index, replace(facts, config_maps=config_maps))
    assert shown(later, "Serving") == ("True", "Answering")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [({}, "ClaimNotReady"), ({"files": NamedFacts(name="files", usable=False)}, "ClaimNotUsable")],
)
def test_claim_that_can_not_be_read_stops_builds(claims: dict[str, NamedFacts], reason: str) -> None:
    index = an_index(sources=[{"name": "files", "pvc": {"claimName": "files", "path": "public"}}])
    plan = index_plan(index, running_facts(index, claims=claims))
    assert jobs_of(plan) == []
    assert shown(plan, "Resolved") == ("False", reason)
    there = {"files": NamedFacts(name="files", usable=True)}
    job = job_of(index_plan(index, running_facts(index, claims=there)))
    volumes = job["spec"]["template"]["spec"]["volumes"]
    assert {"claimName": "files", "readOnly": True} in [item.get("persistentVolumeClaim") for item in volumes]


def test_golden_questions_that_are_missing_stop_builds() -> None:
    index = an_index(qualityGate={"goldenRef": {"name": "golden", "key": "other.jsonl"}})
    plan = index_plan(index, running_facts(index))
    assert shown(plan, "Resolved") == ("False", "ConfigMapMissing")
    assert "no key `other.jsonl`" in message(plan, "Resolved")


def test_address_that_the_administrator_does_not_allow_is_refused() -> None:
    git = {"name": "repo", "git": {"url": "https://git.example/docs.git"}}
    index = an_index(sources=[git])
    plan = index_plan(index, running_facts(index))
    assert shown(plan, "Resolved") == ("False", "HostNotAllowed")
    assert "git.example" in message(plan, "Resolved")
    external = an_index(store={"type": "External", "url": "https://qdrant.example:6333"})
    assert shown(index_plan(external, first_facts()), "Ready") == ("False", "HostNotAllowed")


def test_secret_must_be_usable_and_name_the_host() -> None:
    store = {"type": "External", "url": "https://qdrant.example:6333", "keySecretRef": {"name": "qdrant"}}
    index = an_index(store=store)
    plan = index_plan(index, first_facts(), settings=OPEN)
    assert shown(plan, "Resolved") == ("False", "SecretMissing")
    secret = SecretFacts(
        name="qdrant", usable=True, hosts=("other.example",), keys=("api-key",), content_hash="s1"
    )
    plan = index_plan(index, first_facts(secrets={"qdrant": secret}), settings=OPEN)
    assert shown(plan, "Resolved") == ("False", "SecretNotUsable")
    good = replace(secret, hosts=("qdrant.example",))
    plan = index_plan(index, first_facts(secrets={"qdrant": good}), settings=OPEN)
    assert shown(plan, "Resolved") == ("True", "Resolved")
    assert workload(plan)["kind"] == "Deployment"
    store_config = config_of(plan, "handbook-retriever")["store"]
    assert store_config["url"] == "https://qdrant.example:6333"
    assert store_config["prefix"] == "uid-index"


def test_claim_that_can_not_be_made_is_told_before_any_pod() -> None:
    index = an_index(store={"storageClassName": "fast"})
    classes = (StorageClassFacts(name="standard", is_default=True),)
    plan = index_plan(index, first_facts(storage_classes=classes))
    assert shown(plan, "Ready") == ("False", "StorageClassMissing")
    assert "StatefulSet" not in [item["kind"] for item in plan.children]
    smaller = an_index(store={"size": "1Gi"})
    plan = index_plan(smaller, first_facts(claim=a_claim()))
    assert shown(plan, "Ready") == ("False", "ImmutableField")


def test_claim_outlives_its_index_where_asked() -> None:
    plan = index_plan(an_index(store={"retention": "Retain"}), first_facts())
    claim = child(plan.children, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {labels.RETAINED_FOR: "RetrievalIndex.handbook"}


def test_suspended_index_has_no_pods_and_no_builds() -> None:
    index, facts = built(an_index())
    running = replace(
        facts.builds[0], succeeded=False, finished_at=None, result=None, name="x", generation="g000002"
    )
    suspended = index.model_copy(update={"spec": an_index_spec(suspend=True), "generation": 2})
    plan = index_plan(suspended, replace(facts, pods=(), retriever=None, builds=(running,)))
    assert workload(plan)["spec"]["replicas"] == 0
    assert shown(plan, "Serving") == ("False", "Suspended")
    assert shown(plan, "Ready") == ("False", "Suspended")
    assert shown(plan, "Stalled") is None
    assert [item.name for item in plan.deletions] == ["x"]


def test_refused_write_is_told() -> None:
    index, facts = built(an_index())
    refused = WriteFailure(kind="Service", name="handbook-retriever", category="Conflict", message="Somebody's.")
    plan = index_plan(index, replace(facts, write_failures=(refused,)))
    assert shown(plan, "Ready") == ("False", "Conflict")
    assert shown(plan, "Serving") == ("True", "Answering")


def test_newer_image_waits_for_an_edit() -> None:
    index, facts = built(an_index())
    newer = Settings.model_validate({"images": {"retriever": "ghcr.io/nimblet/retriever:9.9.9"}})
    plan = index_plan(index, facts, settings=newer)
    container = workload(plan)["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "ghcr.io/nimblet/retriever:0.1.0"
    assert shown(plan, "UpdateAvailable") == ("True", "NewerImages")
    asked = index.model_copy(update={"restarted_at": "now"})
    container = workload(index_plan(asked, facts, settings=newer))["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "ghcr.io/nimblet/retriever:9.9.9"


def test_invalid_spec_touches_nothing_and_keeps_serving() -> None:
    index, _ = built(an_index())
    plan = plan_invalid_index(generation=7, status=index.status, errors="spec.sources: bad.", ready=True, now=NOW)
    assert plan.children == ()
    found = {item.type: (item.status.value, item.reason) for item in plan.status.conditions}
    assert found["Ready"] == ("False", "InvalidSpec")
    assert found["Serving"] == ("True", "Answering")
    assert found["Stalled"] == ("True", "InvalidSpec")


def test_invalid_spec_keeps_no_serving_once_no_retriever_is_ready() -> None:
    index, _ = built(an_index())
    plan = plan_invalid_index(generation=7, status=index.status, errors="spec.sources: bad.", ready=False, now=NOW)
    assert shown(plan, "Serving") == ("False", "InvalidSpec")


def test_configurations_of_older_builds_go() -> None:
    index, facts = built(an_index())
    part = {"app.kubernetes.io/component": "build"}
    old = ChildRef(kind="ConfigMap", name="handbook-build-old-1", uid="u1", labels=part)
    own = ChildRef(kind="ConfigMap", name=facts.builds[0].name, uid="u2", labels=part)
    plan = index_plan(index, replace(facts, children=(old, own)))
    assert [item.name for item in plan.deletions] == ["handbook-build-old-1"]


def test_status_of_nothing_parses() -> None:
    assert RetrievalIndexStatus.model_validate({"newer": 1}).serving_generation == ""


def test_a_class_that_the_spec_names_no_more_is_not_taken_from_the_claim() -> None:
    index = an_index()
    plan = index_plan(index, running_facts(index))
    assert child(plan.children, "PersistentVolumeClaim")["spec"]["storageClassName"] == "standard"
