# SPDX-License-Identifier: Apache-2.0
"""Each list of facts may lag behind the others: whatever is hidden, nothing that serves is rolled or deleted."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import pytest

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.plan.facts import ChildRef, ModelFacts
from nimblet.plan.result import Plan
from tests.builders import a_model, base_facts, plan_of, revision_of, served, serving_facts
from tests.cached import RWX, cached_facts, revision_of_cached
from tests.cached import running_facts as cached_running

HIDDEN: Final[Mapping[str, Any]] = {
    "artifacts": (),
    "jobs": (),
    "fills": (),
    "claim": None,
    "pods": (),
    "deployment": None,
    "nodes": (),
    "children": (),
    "storage_classes": (),
}
"""Facts as they are where a list has nothing yet."""
AT_ONCE: Final = 3


def identities(plan: Plan[Any]) -> tuple[ChildRef, ...]:
    """Return what a plan applies, as it is seen afterwards."""
    found: list[Any] = list(plan.children)
    return tuple(
        ChildRef(
            kind=item["kind"],
            name=item["metadata"]["name"],
            uid=f"{item['kind']} {item['metadata']['name']}",
            labels=item["metadata"].get("labels", {}),
        )
        for item in found
    )


def plain() -> tuple[CompactModel, ModelFacts, str]:
    model = served(a_model())
    facts = serving_facts(model)
    return model, replace(facts, children=identities(plan_of(model, base_facts(model)))), revision_of(model)


def cached() -> tuple[CompactModel, ModelFacts, str]:
    model = a_model(**RWX)
    facts = cached_running(model)
    facts = replace(facts, children=identities(plan_of(model, cached_facts(model))))
    status = plan_of(model, facts).status
    return model.model_copy(update={"status": status}), facts, revision_of_cached(model)


@pytest.mark.parametrize("case", [plain, cached])
def test_whatever_is_hidden_nothing_that_serves_is_rolled_or_deleted(case: Any) -> None:
    # given a model that serves, and any three lists that have nothing of it yet
    model, facts, revision = case()
    for hidden in combinations(HIDDEN, AT_ONCE):
        plan = plan_of(model, replace(facts, **{name: HIDDEN[name] for name in hidden}))
        # then its pods stay as they are, and nothing goes
        rolled: list[Any] = [item for item in plan.children if item["kind"] == "Deployment"]
        assert {item["metadata"]["labels"][labels.REVISION] for item in rolled} <= {revision}, hidden
        assert plan.deletions == (), hidden


@pytest.mark.parametrize("case", [plain, cached])
def test_no_plan_deletes_what_it_applies(case: Any) -> None:
    model, facts, _ = case()
    suspended = model.spec.model_copy(update={"suspend": True})
    for spec in (model.spec, suspended):
        edit = model.model_copy(update={"spec": spec})
        for hidden in combinations(HIDDEN, AT_ONCE):
            plan = plan_of(edit, replace(facts, **{name: HIDDEN[name] for name in hidden}))
            applied = {(ref.kind, ref.name) for ref in identities(plan)}
            assert applied.isdisjoint((ref.kind, ref.name) for ref in plan.deletions), hidden
