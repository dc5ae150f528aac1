# SPDX-License-Identifier: Apache-2.0
"""An index whose spec needs other servers: a set beside the old, a build there, the swap; the old set goes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from nimblet import labels
from nimblet.api.indexstatus import ServersStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.plan.facts import ChildRef, PodFacts, StorageClassFacts
from nimblet.plan.indexfacts import IndexFacts, RetrieverFacts, ServersFacts, StoreServerFacts
from nimblet.plan.retrievalindex import IndexPlan
from nimblet.settings import Settings
from tests.builders import child
from tests.conditions import message, shown
from tests.indexes import (
    a_generation,
    a_retriever,
    an_index,
    an_index_spec,
    build_of,
    config_of,
    ended,
    first_facts,
    index_plan,
    job_of,
    jobs_of,
)
from tests.unit.plan.test_index_servers import (
    KNOWN,
    STORE,
    a_workload,
    config_revision,
    labels_of,
    servers,
    serving,
    with_spec,
)

OLD: Final = "http://handbook-qdrant.team.svc:6333"
NEW: Final = "http://handbook-qdrant-s2.team.svc:6333"
FEWER: Final[Mapping[str, object]] = {**STORE, "dedicated": {"replicas": 1}}
GONE: Final = tuple(ChildRef(kind=kind, name="handbook-qdrant", uid=kind) for kind in ("StatefulSet", "Service"))


def both(*, ready: bool = True) -> ServersFacts:
    """Return three servers that are left, and one that is new."""
    old = servers(3)
    first = replace(old.sets[0], children=GONE, mode="InMemory")
    pod = replace(old.pods[1][0], name="handbook-qdrant-s2-0", uid="uid-s2", ready=ready)
    second = replace(
        first, number=2, replicas=1, children=(), image="docker.io/qdrant/qdrant:v1.18.2-unprivileged"
    )
    return replace(
        old,
        sets=(first, second),
        workloads={1: a_workload(3), 2: a_workload(1, number=2)},
        pods={1: old.pods[1], 2: (pod,)},
    )


def says(serving_: str, *used: str, asked: tuple[str, ...] = (OLD, NEW)) -> RetrieverFacts:
    """Return what a retriever tells that asks these servers and uses some of them."""
    told_ = tuple(StoreServerFacts(url=url, used=url in used) for url in asked)
    generations = tuple(a_generation(name) for name in ("g000001", "g000002") if name <= serving_)
    return replace(a_retriever(serving_), generations=generations, servers=told_)


def edited(**store: object) -> tuple[RetrievalIndex, IndexFacts]:
    """Return an index that served from three servers, with another spec."""
    index, facts = serving(servers(3), replicas=3)
    return with_spec(index, an_index_spec(store={**FEWER, **store})), facts


def moving(found: RetrieverFacts, *, ready: bool = True) -> tuple[RetrievalIndex, IndexFacts]:
    """Return the edited index with both sets, and the retriever as it is configured by now."""
    index, facts = edited()
    facts = replace(facts, servers=both(ready=ready), retriever=found)
    return index, config_revision(index, facts)


def sets_of(plan: IndexPlan) -> dict[str, int]:
    """Return the replicas of the StatefulSets."""
    made: list[Any] = [item for item in plan.children if item["kind"] == "StatefulSet"]
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in made}


@pytest.mark.parametrize(
    "store",
    [
        {},
        {"dedicated": {"replicas": 3}, "size": "80Gi"},
        {"dedicated": {"replicas": 3}, "storageClassName": "fast"},
        {"dedicated": {"replicas": 3, "memory": "OnDisk"}},
    ],
    ids=["fewer servers", "another size", "another class", "another memory mode"],
)
def test_what_servers_can_not_become_makes_a_set_beside_them(store: dict[str, object]) -> None:
    index, facts = edited(**store)
    classes = (StorageClassFacts(name="standard", is_default=True), StorageClassFacts(name="fast"))
    known = replace(facts.servers.sets[0], mode="InMemory")
    facts = replace(facts, storage_classes=classes, servers=replace(facts.servers, sets=(known,)))
    plan = index_plan(index, facts)
    # Then the old servers stay as they are and the retriever asks both
    assert sets_of(plan) == {"handbook-qdrant": 3, "handbook-qdrant-s2": index.spec.store.dedicated.replicas}  # type: ignore[union-attr]
    config = config_of(plan, "handbook-retriever")["store"]
    assert (config["url"], config["former"], config["prefix"]) == (NEW, [OLD], "handbook")
    egress = child(plan.children, "NetworkPolicy", "handbook-retriever")["spec"]["egress"][-1]["to"]
    components = [item["podSelector"]["matchLabels"][labels.COMPONENT] for item in egress]
    assert components == ["qdrant", "qdrant-s2"]
    # And it serves on, builds nothing yet, and deletes nothing
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Progressing")
    assert (jobs_of(plan), plan.deletions) == ([], ())


def test_old_servers_keep_their_image_while_the_new_get_the_newer_one() -> None:
    index, facts = edited()
    newer = Settings.model_validate({"images": {"qdrant": "docker.io/qdrant/qdrant:v9"}})
    plan = index_plan(index, facts, settings=newer)
    made: dict[str, Any] = {name: child(plan.children, "StatefulSet", name) for name in sets_of(plan)}
    images = {name: item["spec"]["template"]["spec"]["containers"][0]["image"] for name, item in made.items()}
    assert images["handbook-qdrant"].endswith("v1.18.2-unprivileged")
    assert images["handbook-qdrant-s2"].endswith("v9")


def test_a_build_waits_for_the_new_servers_and_goes_there() -> None:
    index, facts = moving(says("g000001", OLD), ready=False)
    plan = index_plan(index, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert jobs_of(plan) == []
    index, facts = moving(says("g000001", OLD))
    plan = index_plan(index, facts)
    assert len(jobs_of(plan)) == 1
    assert shown(plan, "Serving") == ("True", "Answering")
    assert plan.status.servers == ServersStatus(number=1, count=3, copies=1)


def swapped(found: RetrieverFacts) -> tuple[RetrievalIndex, IndexFacts]:
    """Return the index once the build on the new servers has ended."""
    index, facts = moving(says("g000001", OLD))
    begun = job_of(index_plan(index, facts))
    done = replace(ended(build_of(an_index())), inputs=labels_of(begun)[labels.BUILD_INPUTS], generation="g000002")
    facts = replace(facts, builds=(done,), retriever=found)
    return index, config_revision(index, facts)


def test_the_old_set_goes_once_no_retriever_asks_it() -> None:
    # Given a swap that the retriever told of: it is configured to let go of the old servers
    index, facts = swapped(says("g000002", NEW))
    plan = index_plan(index, facts)
    assert "former" not in config_of(plan, "handbook-retriever")["store"]
    assert plan.deletions == ()
    assert sets_of(plan) == {"handbook-qdrant-s2": 1}
    assert plan.status.servers == ServersStatus(number=2, count=1, copies=1)
    index = index.model_copy(update={"status": plan.status})
    # While it is silent, nothing is taken back and nothing goes
    silent = index_plan(index, replace(facts, retriever=None, pods=()))
    assert "former" not in config_of(silent, "handbook-retriever")["store"]
    assert silent.deletions == ()
    # While an older retriever still asks both, nothing goes
    assert index_plan(index, replace(facts, pods=(*facts.pods, older(facts)))).deletions == ()
    # When all ask the new servers alone, the old set goes
    alone = replace(facts, retriever=says("g000002", NEW, asked=(NEW,)))
    plan = index_plan(index, alone)
    assert plan.deletions == GONE
    assert shown(plan, "Ready") == ("True", "Ready")
    # And then nothing is left to do
    left = replace(alone.servers, sets=alone.servers.sets[1:], workloads={2: alone.servers.workloads[2]})
    assert index_plan(index, replace(alone, servers=left)).deletions == ()


def older(facts: IndexFacts) -> PodFacts:
    """Return a retriever of an earlier configuration."""
    return replace(facts.pods[0], name="handbook-retriever-old", uid="old", revision="earlier")


def test_a_swap_that_is_not_complete_deletes_nothing() -> None:
    both_known = replace(says("g000002", OLD, NEW), serving="g000001")
    index, facts = swapped(both_known)
    plan = index_plan(index, facts)
    assert config_of(plan, "handbook-retriever")["store"]["former"] == [OLD]
    assert plan.deletions == ()
    assert sets_of(plan) == {"handbook-qdrant": 3, "handbook-qdrant-s2": 1}
    assert plan.serve == "g000002"


def test_an_edit_taken_back_lets_the_new_set_go_again() -> None:
    index, facts = moving(says("g000001", OLD))
    back = with_spec(index, an_index_spec(store={**STORE, "dedicated": {"replicas": 3}}))
    begun = facts.servers.sets[1]
    mine = (ChildRef(kind="StatefulSet", name="handbook-qdrant-s2", uid="s2"),)
    found = replace(facts.servers, sets=(facts.servers.sets[0], replace(begun, children=mine)))
    facts = config_revision(back, replace(facts, servers=found))
    plan = index_plan(back, facts)
    assert config_of(plan, "handbook-retriever")["store"]["url"] == OLD
    assert plan.deletions == (), "the retriever has not told yet that it lets go"
    plan = index_plan(back, replace(facts, retriever=says("g000001", OLD, asked=(OLD,))))
    assert plan.deletions == mine
    assert shown(plan, "Ready") == ("True", "Ready")


def test_trouble_of_the_old_servers_takes_serving_away_and_that_of_the_new_does_not() -> None:
    index, facts = moving(says("g000001", OLD))
    dead = tuple(replace(pod, ready=False) for pod in facts.servers.pods[1])
    plan = index_plan(index, replace(facts, servers=replace(facts.servers, pods={**facts.servers.pods, 1: dead})))
    assert shown(plan, "Serving") != ("True", "Answering")
    new = tuple(replace(pod, ready=False) for pod in facts.servers.pods[2])
    plan = index_plan(index, replace(facts, servers=replace(facts.servers, pods={**facts.servers.pods, 2: new})))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")


def test_new_servers_that_can_not_be_made_leave_all_as_it_is() -> None:
    index, facts = edited(size="1Gi")
    plan = index_plan(index, facts)
    assert shown(plan, "Stalled") == ("True", "StoreTooSmall")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert shown(plan, "Serving") == ("True", "Answering")
    assert {item["kind"] for item in plan.children}.isdisjoint({"StatefulSet", "Deployment", "Job"})
    index, facts = edited(storageClassName="fast")
    classes = (StorageClassFacts(name="standard", is_default=True),)
    plan = index_plan(index, replace(facts, storage_classes=classes))
    assert shown(plan, "Stalled") == ("True", "StorageClassMissing")
    assert plan.requeue_after is not None


def test_roll_back_to_a_generation_that_went_with_its_servers_says_so() -> None:
    index, facts = swapped(says("g000002", NEW, asked=(NEW,)))
    told_ = replace(a_retriever("g000002"), servers=says("g000002", NEW, asked=(NEW,)).servers)
    pinned = with_spec(index, an_index_spec(store=FEWER, generation="g000001"))
    plan = index_plan(pinned, replace(facts, retriever=told_))
    assert shown(plan, "Ready") != ("True", "Ready")
    assert shown(plan, "Stalled") == ("True", "GenerationUnknown")
    assert "there is: g000002. Generations of servers that others took the place of went with them." in message(
        plan, "Ready"
    )
    assert shown(plan, "Serving") == ("True", "Answering")


def test_claims_that_were_kept_are_taken_up_by_a_set_of_their_number() -> None:
    index = an_index(store={**FEWER, "retention": "Retain"})
    empty = ServersFacts(key="nk-write", reader="nk-read", retained=2)
    plan = index_plan(index, first_facts(embedding=KNOWN, servers=empty))
    assert sets_of(plan) == {"handbook-qdrant-s2": 1}
    config = config_of(plan, "handbook-retriever")["store"]
    assert (config["url"], "former" in config) == (NEW, False)


def test_suspended_in_the_middle_all_servers_rest_and_none_goes() -> None:
    index, facts = moving(says("g000001", OLD))
    resting = with_spec(index, an_index_spec(store=FEWER, suspend=True))
    plan = index_plan(resting, replace(facts, pods=(), retriever=None))
    assert sets_of(plan) == {"handbook-qdrant": 0, "handbook-qdrant-s2": 0}
    assert plan.deletions == ()
