# SPDX-License-Identifier: Apache-2.0
"""A reranker that was made a moment ago: the retriever that serves waits for what it needs to know of it."""

from dataclasses import replace

from nimblet.plan.modelfacts import ModelReference
from tests.conditions import shown
from tests.indexes import JUDGE, an_index, built, index_plan, workload

RERANKED = {"rerankerRef": {"name": "judge"}}
MADE = ModelReference(name="judge", found=True, task="Rerank")
"""A CompactModel that no pass has looked at yet: its status is empty."""


def test_a_reranker_without_an_address_changes_nothing_of_the_retriever_that_serves() -> None:
    # given an index that serves
    index, facts = built(an_index())
    named = an_index(generation=2, status=index.status, search=RERANKED)
    # when it is edited, and the model that it names has no status yet
    plan = index_plan(named, replace(facts, reranker=MADE))
    # then
    assert {"ConfigMap", "StatefulSet", "Job"}.isdisjoint(item["kind"] for item in plan.children)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Progressing")


def test_the_retriever_takes_the_reranker_up_as_soon_as_it_has_an_address() -> None:
    index, facts = built(an_index())
    named = an_index(generation=2, status=index.status, search=RERANKED)
    plan = index_plan(named, replace(facts, reranker=replace(JUDGE, serving=False, ready=False)))
    assert workload(plan)["kind"] == "StatefulSet"
