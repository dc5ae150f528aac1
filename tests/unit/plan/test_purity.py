# SPDX-License-Identifier: Apache-2.0
"""The plan is a function: equal arguments, equal plans, and no facts whatever make it raise."""

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import MAX_MESSAGE_LENGTH, ConditionType
from nimblet.plan.artifact import Header
from nimblet.plan.facts import (
    ArtifactFacts,
    ChildRef,
    ClaimFacts,
    ContainerFailure,
    DeploymentFacts,
    JobFacts,
    ModelFacts,
    NodeFacts,
    Observation,
    PodFacts,
    SecretFacts,
    StorageClassFacts,
    WriteFailure,
)
from tests.builders import NOW, a_model, artifact_text, hash_of, plan_of, revision_of, served
from tests.cached import FOLDER, RWX

MODEL = served(a_model())
CACHED = a_model(**RWX)
MODELS = st.sampled_from([MODEL, CACHED])
REVISIONS = st.sampled_from([revision_of(MODEL), "older"])
HASHES = st.sampled_from([hash_of(MODEL), "other"])
FOLDERS = st.sampled_from([FOLDER, "b" * 32, ""])
CLASS_NAMES = st.sampled_from(["shared", "standard"])
TIMES = st.none() | st.integers(-10_000, 10_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
COUNTS = st.integers(0, 2**62)
RUNS = COUNTS | st.lists(st.tuples(COUNTS, st.integers(0, 1024)), max_size=4)
HEADERS = st.builds(
    Header.model_dump,
    st.builds(
        Header,
        architecture=st.sampled_from(["llama", "gemma3", "x"]),
        feed_forward_length=st.none() | RUNS,
        head_count=st.none() | RUNS,
        head_count_kv=st.none() | RUNS,
        sliding_window_pattern=st.none() | RUNS,
        sliding_window=st.none() | COUNTS,
        block_count=st.integers(0, 64),
        context_length=COUNTS,
        embedding_length=COUNTS,
        parameters=COUNTS,
        tensor_bytes=COUNTS,
    ),
    by_alias=st.just(True),
)
TEXTS = st.text(max_size=40) | HEADERS.map(lambda header: artifact_text(header=header))
FAILURES = st.builds(ContainerFailure, message=st.text(max_size=3000) | TEXTS, at=TIMES)


def listed(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


FACTS = st.builds(
    ModelFacts,
    children=listed(st.builds(ChildRef)),
    jobs=listed(
        st.builds(
            JobFacts,
            source_hash=HASHES,
            attempt=st.integers(1, 2000),
            finished_at=TIMES,
            result=st.none() | TEXTS,
            failure=st.none() | FAILURES,
        )
    ),
    artifacts=listed(st.builds(ArtifactFacts, source_hash=HASHES, text=TEXTS)),
    secret=st.none() | st.builds(SecretFacts),
    deployment=st.none() | st.builds(DeploymentFacts, revision=REVISIONS),
    pods=listed(
        st.builds(
            PodFacts,
            revision=REVISIONS,
            failure=st.none() | FAILURES,
            observation=st.none() | st.builds(Observation),
            created_at=TIMES,
            download_percent=st.none() | st.integers(0, 100),
            cache_folder=FOLDERS,
            further_folders=st.dictionaries(st.sampled_from(["loader-legal", "drafter"]), FOLDERS),
        )
    ),
    fills=listed(
        st.builds(
            JobFacts,
            folder=FOLDERS,
            claim_uid=st.sampled_from(["uid-claim", "other"]),
            attempt=st.integers(1, 2000),
            finished_at=TIMES,
            created_at=TIMES,
            result=st.none() | TEXTS,
            failure=st.none() | FAILURES,
        )
    ),
    claim=st.none()
    | st.builds(
        ClaimFacts,
        uid=st.just("uid-claim"),
        phase=st.sampled_from(["Pending", "Bound", "Lost", ""]),
        access_modes=st.sampled_from([("ReadWriteMany",), ()]),
        storage_class=CLASS_NAMES,
        requested=st.sampled_from(["1Gi", "500Gi"]),
        created_at=TIMES,
    ),
    storage_classes=st.none() | listed(st.builds(StorageClassFacts, name=CLASS_NAMES)),
    nodes=listed(st.builds(NodeFacts, memory_bytes=COUNTS, cpu_millicores=COUNTS)),
    write_failures=listed(st.builds(WriteFailure)),
    api_key=st.text(max_size=20),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(model=MODELS, facts=FACTS)
def test_any_facts_give_one_plan_and_a_consistent_status(model: CompactModel, facts: ModelFacts) -> None:
    plan = plan_of(model, facts)
    assert plan_of(model, facts) == plan
    types = {condition.type: condition for condition in plan.status.conditions}
    assert {"Ready", "Serving", "Resolved", "Verified", "Placed"} <= set(types)
    assert not {"Reconciling", "Stalled"} <= set(types)
    ready = types[ConditionType.READY].status.value
    assert (ready == "True") <= (types[ConditionType.SERVING].status.value == "True")
    assert (ConditionType.RECONCILING in types) == (ready == "Unknown")
    assert all(len(condition.message) <= MAX_MESSAGE_LENGTH for condition in plan.status.conditions)
    assert plan.requeue_after is None or plan.requeue_after > 0
    assert all(item.uid in uids_of(facts) for item in plan.deletions)


def uids_of(facts: ModelFacts) -> set[str]:
    children = {item.uid for item in facts.children}
    fills = {item.uid for item in facts.fills}
    return children | fills | {item.uid for item in facts.jobs} | {item.uid for item in facts.artifacts}


@settings(max_examples=50, deadline=None)
@given(model=MODELS, facts=FACTS)
def test_every_child_is_named_labelled_and_in_the_models_namespace(model: CompactModel, facts: ModelFacts) -> None:
    plan = plan_of(model, facts)
    names_ = []
    for item in plan.children:
        metadata: Any = item["metadata"]
        assert metadata["namespace"] == MODEL.namespace
        assert metadata["name"].startswith(f"{MODEL.name}-")
        assert len(metadata["name"]) <= 63
        assert metadata["labels"][labels.MODEL] == MODEL.name
        assert metadata["labels"][labels.MANAGED_BY] == labels.MANAGED_BY_VALUE
        names_.append((item["kind"], metadata["name"]))
    assert len(names_) == len(set(names_))
