# SPDX-License-Identifier: Apache-2.0
"""Suspending an index ends its pods, also where the rest of its spec can't be had."""

from dataclasses import replace

from nimblet.plan.facts import ChildRef
from nimblet.plan.modelfacts import ModelReference
from tests.conditions import shown
from tests.indexes import an_index, an_index_spec, built, index_plan
from tests.unit.plan.test_index_servers import STORE, servers, servers_of, serving, with_spec


def test_suspending_ends_a_retriever_whose_model_is_gone() -> None:
    # given an index that serves
    index, facts = built(an_index())
    gone = replace(facts, embedding=ModelReference(name="minilm", found=False))
    # when its model is deleted, and then it is suspended
    suspended = index.model_copy(update={"spec": an_index_spec(suspend=True), "generation": 2})
    plan = index_plan(suspended, gone)
    # then no pod is left: what can't be rendered can't be scaled, and goes; its claim stays
    assert plan.deletions == (ChildRef(kind="StatefulSet", name="handbook-retriever", uid="uid-set"),)
    assert index_plan(suspended, facts).deletions == (), "it is scaled"


def test_suspending_ends_servers_whose_successors_can_not_be_made() -> None:
    # given an index that serves from its own servers
    index, facts = serving(servers(3), replicas=3)
    # when servers of a StorageClass are asked for that is not there, and nothing else: they serve on
    absent = {**STORE, "storageClassName": "absent", "dedicated": {"replicas": 3}}
    wanting = index_plan(with_spec(index, an_index_spec(store=absent)), replace(facts, storage_classes=()))
    assert shown(wanting, "Ready") == ("False", "UpdateFailed")
    assert "StatefulSet" not in [item["kind"] for item in wanting.children]
    # when it is suspended too, then they end, and none is made
    suspended = with_spec(index, an_index_spec(store=absent, suspend=True))
    plan = index_plan(suspended, replace(facts, storage_classes=()))
    assert [item["kind"] for item in plan.children].count("StatefulSet") == 1
    assert servers_of(plan)["spec"]["replicas"] == 0
