# SPDX-License-Identifier: Apache-2.0
"""An index with a Dedicated store: what its servers are, and what its conditions say of them. The truth table."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from nimblet import labels, names
from nimblet.api.indexstatus import ServersStatus
from nimblet.api.retrievalindex import RetrievalIndex, RetrievalIndexSpec
from nimblet.plan.facts import (
    ContainerFailure,
    DeploymentFacts,
    FailureKind,
    NodeFacts,
    PodFacts,
    StorageClassFacts,
)
from nimblet.plan.indexfacts import IndexFacts, PartFacts, ServersFacts
from nimblet.plan.qdrant import SetFacts
from nimblet.plan.retrievalindex import IndexPlan
from nimblet.settings import Settings
from tests.builders import NOW, child
from tests.conditions import message, shown
from tests.indexes import (
    MINILM,
    a_retriever,
    an_index,
    an_index_spec,
    build_of,
    config_of,
    ended,
    first_facts,
    index_plan,
    jobs_of,
    running_facts,
    workload,
)

STORE: Final[Mapping[str, object]] = {"type": "Dedicated", "size": "50Gi", "dedicated": {"replicas": 1}}
KNOWN: Final = replace(MINILM, dimension=384)
OOM: Final = ContainerFailure(kind=FailureKind.OOM_KILLED, container="qdrant", message="killed", exit_code=137)
PULL: Final = ContainerFailure(kind=FailureKind.IMAGE_PULL, container="qdrant", message="not found")
UNBOUND: Final = ContainerFailure(
    kind=FailureKind.UNSCHEDULABLE,
    container="",
    message="0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
)


def a_store(**dedicated: object) -> dict[str, object]:
    return {**STORE, "dedicated": {"replicas": 1, **dedicated}}


def servers(count: int = 1, **pods: Any) -> ServersFacts:
    """Return servers that are ready; `pods` replaces fields of the last one."""
    found = [
        PodFacts(
            name=f"handbook-qdrant-{at}",
            uid=f"uid-{at}",
            revision="",
            source_hash="",
            ready=True,
            terminating=False,
            created_at=NOW - timedelta(hours=1),
            node="node-1",
        )
        for at in range(count)
    ]
    found[-1] = replace(found[-1], **pods)
    return ServersFacts(
        sets=(
            SetFacts(
                number=1,
                replicas=count,
                memory="1792Mi",
                cpu="550m",
                size="50Gi",
                storage_class=None,
                retained=False,
                image="docker.io/qdrant/qdrant:v1.18.2-unprivileged",
            ),
        ),
        workloads={1: a_workload(count)},
        pods={1: tuple(found)},
        key="nk-write",
        reader="nk-read",
    )


def a_workload(count: int, *, number: int = 1) -> DeploymentFacts:
    """Return a set's StatefulSet."""
    return DeploymentFacts(
        name=names.qdrant("handbook", number=number),
        uid=f"uid-set-{number}",
        generation=1,
        observed_generation=1,
        revision="",
        source_hash="",
        replicas=count,
        updated_replicas=count,
    )


def running(index: RetrievalIndex, found: ServersFacts, **overrides: Any) -> IndexFacts:
    """Return facts where retriever and servers answer, and the model tells its dimension."""
    facts = running_facts(index, embedding=KNOWN, **overrides)
    return replace(facts, claim=None, servers=found)


def serving(found: ServersFacts, **store: object) -> tuple[RetrievalIndex, IndexFacts]:
    """Return an index whose first build serves from servers that are ready."""
    index = an_index(store=a_store(**store))
    build = ended(build_of(an_index()))
    facts = running(index, found, retriever=a_retriever("g000001"), builds=(build,))
    # what a build is made of names the layout on the servers
    inputs = index_plan(index, replace(facts, builds=(), retriever=a_retriever(None)))
    job = next(item for item in inputs.children if item["kind"] == "Job")
    facts = replace(facts, builds=(replace(build, inputs=labels_of(job)[labels.BUILD_INPUTS]),))
    return index.model_copy(update={"status": index_plan(index, facts).status}), facts


def labels_of(item: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = item["metadata"]["labels"]
    return found


def servers_of(plan: IndexPlan) -> dict[str, Any]:
    return child(plan.children, "StatefulSet", "handbook-qdrant")


def with_spec(index: RetrievalIndex, spec: RetrievalIndexSpec) -> RetrievalIndex:
    return index.model_copy(update={"spec": spec, "generation": 2})


def test_first_pass_makes_servers_before_the_retriever() -> None:
    index = an_index(store=a_store(replicas=3, replicationFactor=2, shards=6, memory="OnDisk"))
    empty = ServersFacts(key="nk-write", reader="nk-read")
    plan = index_plan(index, first_facts(embedding=KNOWN, servers=empty))
    made = [(str(item["kind"]), dict(item)["metadata"]["name"]) for item in plan.children]  # type: ignore[index]
    after = made.index(("Secret", "handbook-qdrant-keys"))
    assert made[after:] == [
        ("Secret", "handbook-qdrant-keys"),
        ("ServiceAccount", "handbook-qdrant"),
        ("NetworkPolicy", "handbook-qdrant"),
        ("Service", "handbook-qdrant"),
        ("Service", "handbook-qdrant-headless"),
        ("StatefulSet", "handbook-qdrant"),
        ("PodDisruptionBudget", "handbook-qdrant"),
        ("ConfigMap", "handbook-retriever"),
        ("Deployment", "handbook-retriever"),
    ]
    assert servers_of(plan)["spec"]["replicas"] == 3
    assert config_of(plan, "handbook-retriever")["store"] == {
        "type": "Server",
        "url": "http://handbook-qdrant.team.svc:6333",
        "prefix": "handbook",
        "keyFile": "/etc/nimblet/secrets/store/api-key",
        "collection": {
            "shards": 6,
            "replicationFactor": 2,
            "writeConsistencyFactor": 2,
            "memory": "OnDisk",
            "quantization": "None",
        },
    }
    assert shown(plan, "Serving") == ("False", "Progressing")
    assert shown(plan, "Ready") == ("Unknown", "Progressing")


def test_retriever_may_reach_its_servers_and_nobody_else_of_the_network() -> None:
    index = an_index(store=STORE)
    plan = index_plan(index, first_facts(embedding=KNOWN))
    own = {"app.kubernetes.io/component": "qdrant", labels.INDEX: "handbook"}
    egress = child(plan.children, "NetworkPolicy", "handbook-retriever")["spec"]["egress"]
    assert egress[-1]["to"] == [{"podSelector": {"matchLabels": own}}]
    ingress = child(plan.children, "NetworkPolicy", "handbook-qdrant")["spec"]["ingress"]
    retriever = {"app.kubernetes.io/component": "retriever", labels.INDEX: "handbook"}
    assert ingress[0]["from"][0] == {"podSelector": {"matchLabels": retriever}}


def test_servers_wait_for_the_model_whose_vectors_they_hold() -> None:
    index = an_index(store=STORE)
    plan = index_plan(index, first_facts(embedding=replace(KNOWN, ready=False, serving=False)))
    assert "StatefulSet" not in {item["kind"] for item in plan.children}


def test_index_serves_from_its_servers_and_tells_where_it_lies() -> None:
    index, facts = serving(servers(3), replicas=3, replicationFactor=2)
    plan = index_plan(index, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("True", "Ready")
    assert plan.status.servers == ServersStatus(count=3, copies=2)
    again = index_plan(index, facts, now=NOW + timedelta(hours=3))
    assert (again.status, again.deletions, again.children) == (index.status, (), plan.children)


@pytest.mark.parametrize(
    ("failure", "reason", "step"),
    [
        (OOM, "OOMKilled", "Raise resources.qdrant.memory"),
        (PULL, "ImagePullFailed", "images are chart values"),
        (UNBOUND, "ClaimNotReady", "kubectl describe pvc"),
    ],
)
def test_what_befalls_the_only_server_takes_serving_away(
    failure: ContainerFailure, reason: str, step: str
) -> None:
    index, _ = serving(servers())
    facts = running(
        index,
        servers(ready=False, failure=failure),
        retriever=a_retriever("g000001", store=PartFacts(ok=False, message="no answer")),
    )
    plan = index_plan(index, facts)
    assert shown(plan, "Serving") == ("False", reason)
    assert shown(plan, "Ready") == ("False", reason)
    assert step in message(plan, "Ready")
    assert plan.deletions == ()


def test_copies_outlive_one_server_and_not_two() -> None:
    index, facts = serving(servers(3), replicas=3, replicationFactor=2)
    one = replace(facts, servers=servers(3, ready=False, failure=OOM))
    plan = index_plan(index, one)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "OOMKilled")
    first, second, third = one.servers.pods[1]
    two = replace(one.servers, pods={1: (first, replace(second, ready=False), third)})
    plan = index_plan(index, replace(one, servers=two))
    assert shown(plan, "Serving") == ("False", "OOMKilled")


def test_server_that_is_not_ready_is_progress_and_then_a_problem() -> None:
    index, facts = serving(servers(3), replicas=3, replicationFactor=2)
    young = replace(facts, servers=servers(3, ready=False, created_at=NOW - timedelta(seconds=20)))
    plan = index_plan(index, young)
    assert shown(plan, "Ready") == ("Unknown", "Starting")
    assert "2 of 3 Qdrant servers are ready" in message(plan, "Ready")
    assert plan.requeue_after == 100.0
    old = index_plan(index, replace(facts, servers=servers(3, ready=False)))
    assert shown(old, "Ready") == ("False", "StoreUnavailable")
    assert shown(old, "Serving") == ("True", "Answering")
    assert "handbook-qdrant-2" in message(old, "Ready")


def test_lost_node_and_refused_pods_are_told() -> None:
    index, facts = serving(servers())
    away = NodeFacts(name="node-1", labels={}, memory_bytes=1, cpu_millicores=1, reachable=False)
    plan = index_plan(index, replace(facts, nodes=(away,), servers=servers(ready=False)))
    assert shown(plan, "Serving") == ("False", "NodeNotReady")
    set_ = replace(a_workload(1), refused="exceeded quota: small")
    refused = replace(servers(), pods={}, workloads={1: set_})
    plan = index_plan(index, replace(facts, servers=refused))
    assert shown(plan, "Serving") == ("False", "QuotaExceeded")


def test_more_servers_join_and_are_built_for_once_they_are_ready() -> None:
    index, facts = serving(servers(1))
    more = with_spec(index, an_index_spec(store=a_store(replicas=3)))
    plan = index_plan(more, facts)
    assert servers_of(plan)["spec"]["replicas"] == 3
    assert shown(plan, "Serving") == ("True", "Answering")
    assert jobs_of(plan) == []
    assert plan.status.servers == ServersStatus(count=1, copies=1)
    starting = replace(facts, servers=servers(3, ready=False, created_at=NOW))
    plan = index_plan(more, starting)
    assert shown(plan, "Serving") == ("True", "Answering"), "what serves lies on the first server alone"
    assert jobs_of(plan) == []
    three = config_revision(more, replace(facts, servers=servers(3)))
    assert len(jobs_of(index_plan(more, three))) == 1


def config_revision(index: RetrievalIndex, facts: IndexFacts) -> IndexFacts:
    """Return facts where the retriever has taken up the spec's configuration."""
    revision = workload(index_plan(index, facts))["metadata"]["labels"][labels.REVISION]
    assert facts.deployment is not None
    pod = replace(facts.pods[0], revision=revision)
    return replace(facts, deployment=replace(facts.deployment, revision=revision), pods=(pod,))


def test_claims_too_small_are_refused_before_there_are_any() -> None:
    index = an_index(store={**STORE, "size": "1Gi"})
    plan = index_plan(index, first_facts(embedding=KNOWN))
    assert shown(plan, "Ready") == ("False", "StoreTooSmall")
    assert "dedicated.passages" in message(plan, "Ready")
    assert {item["kind"] for item in plan.children}.isdisjoint({"StatefulSet", "Deployment", "Job"})


def test_class_that_is_missing_is_told_before_any_pod() -> None:
    index = an_index(store={**STORE, "storageClassName": "fast"})
    classes = (StorageClassFacts(name="standard", is_default=True),)
    plan = index_plan(index, first_facts(embedding=KNOWN, storage_classes=classes))
    assert shown(plan, "Ready") == ("False", "StorageClassMissing")
    assert "StatefulSet" not in {item["kind"] for item in plan.children}


def test_suspended_servers_stop_and_are_not_forgotten() -> None:
    index, facts = serving(servers(3), replicas=3)
    suspended = with_spec(index, an_index_spec(store=a_store(replicas=3), suspend=True))
    plan = index_plan(suspended, replace(facts, pods=(), retriever=None, servers=replace(servers(3), pods={})))
    made = servers_of(plan)
    assert (made["spec"]["replicas"], made["metadata"]["annotations"][labels.SERVERS]) == (0, "3")
    assert shown(plan, "Serving") == ("False", "Suspended")
    assert shown(plan, "Ready") == ("False", "Suspended")


def test_written_size_counts_and_a_model_that_went_restarts_no_server() -> None:
    index, facts = serving(servers())
    sizes = an_index_spec(store=a_store(), resources={"qdrant": {"memory": "512Mi", "cpu": "1"}})
    container = servers_of(index_plan(with_spec(index, sizes), facts))["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "512Mi"},
        "limits": {"memory": "512Mi"},
    }
    gone = index_plan(index, replace(facts, embedding=replace(KNOWN, found=False, dimension=0)))
    container = servers_of(gone)["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "550m", "memory": "1792Mi"}, "as they are"


def test_newer_image_of_the_servers_waits_for_an_edit() -> None:
    index, facts = serving(servers())
    newer = Settings.model_validate({"images": {"qdrant": "docker.io/qdrant/qdrant:v9"}})
    plan = index_plan(index, facts, settings=newer)
    assert image_of(plan) == "docker.io/qdrant/qdrant:v1.18.2-unprivileged"
    assert shown(plan, "UpdateAvailable") == ("True", "NewerImages")
    asked = index.model_copy(update={"restarted_at": "now"})
    assert image_of(index_plan(asked, facts, settings=newer)) == "docker.io/qdrant/qdrant:v9"


def image_of(plan: IndexPlan) -> str:
    found: str = servers_of(plan)["spec"]["template"]["spec"]["containers"][0]["image"]
    return found
