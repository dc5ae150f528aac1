# SPDX-License-Identifier: Apache-2.0
"""A build swaps by itself: one whose end nobody wants any more must not run to it."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.cluster.indexfacts import build_facts
from nimblet.cluster.observed import Job
from nimblet.plan.facts import ChildRef, JobFacts
from nimblet.plan.indexfacts import BuildFacts, IndexFacts
from tests.builders import NOW
from tests.conditions import shown
from tests.indexes import (
    DOCS,
    a_generation,
    a_retriever,
    an_index,
    an_index_spec,
    build_of,
    built,
    config_of,
    index_plan,
    job_of,
    jobs_of,
)

NAMED: dict[str, Any] = {"name": "build", "uid": "uid-3", "source_hash": "", "credentials_hash": "", "attempt": 1}
NARROWER = [{**DOCS, "include": ["*.md"]}]


def building(facts: IndexFacts, **overrides: Any) -> tuple[BuildFacts, IndexFacts]:
    """Return the second generation's build as it runs, of other sources, and facts with it alone."""
    other = an_index(sources=NARROWER)
    job = replace(build_of(other), name="handbook-build-2-1", uid="uid-2", generation="g000002", **overrides)
    return job, replace(facts, builds=(job,))


def test_the_build_of_an_edit_that_was_taken_back_does_not_run_to_its_swap() -> None:
    # given an index that serves, an edit whose build runs
    index, facts = built(an_index())
    job, facts = building(facts)
    # when the edit is taken back: what serves is of the spec again
    plan = index_plan(index, facts)
    # then its build ends before it swaps, and none is made
    assert jobs_of(plan) == []
    assert ChildRef(kind="Job", name=job.name, uid=job.uid) in plan.deletions
    assert shown(plan, "Ready") == ("True", "Ready")


def test_the_build_of_a_spec_that_can_not_be_built_for_now_is_left_alone() -> None:
    index, facts = built(an_index())
    _, facts = building(facts)
    broken = index.model_copy(
        update={"spec": an_index_spec(sources=[{**DOCS, "configMap": {"name": "absent"}}]), "generation": 3}
    )
    plan = index_plan(broken, facts)
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert plan.deletions == ()


@pytest.mark.parametrize("pinned", ["g000001", "g000009"])
def test_a_build_that_would_swap_gives_way_to_one_that_does_not_when_its_index_is_pinned(pinned: str) -> None:
    # given a refresh that was asked for, and runs
    index, facts = built(an_index())
    asked = index.model_copy(update={"build_requested_at": "today"})
    job = replace(facts.builds[0], name="handbook-build-2-1", uid="uid-2", generation="g000002")
    job = replace(job, request="today", succeeded=False, finished_at=None, result=None, exit_code=None)
    # when its index is pinned
    held = asked.model_copy(update={"spec": an_index_spec(generation=pinned), "generation": 2})
    plan = index_plan(held, replace(facts, builds=(job,)))
    # then another takes its place, which leaves the swap to the pin
    made = job_of(plan)["metadata"]
    assert made["labels"][labels.BUILD_GENERATION] == "g000003"
    assert config_of(plan, made["name"])["serve"] is False
    told = build_facts(Job.model_validate(job_of(plan)), JobFacts(**NAMED))
    assert not told.swaps, "so the next pass knows of it"
    assert [item.name for item in plan.deletions] == [job.name]
    # and runs to its end
    next_ = replace(job, name=made["name"], uid="uid-3", generation="g000003", swaps=False)
    again = index_plan(held, replace(facts, builds=(next_,)))
    assert jobs_of(again) == []
    assert again.deletions == ()


def test_a_build_that_would_swap_ends_for_a_pin_also_where_no_other_can_begin() -> None:
    # given a first edit that is built, then a pin with sources that are not there
    index, facts = built(an_index())
    job, facts = building(facts)
    spec = an_index_spec(generation="g000001", sources=[{**DOCS, "configMap": {"name": "absent"}}])
    plan = index_plan(index.model_copy(update={"spec": spec, "generation": 3}), facts)
    # then
    assert jobs_of(plan) == []
    assert ChildRef(kind="Job", name=job.name, uid=job.uid) in plan.deletions


def test_an_unpinned_index_takes_the_build_that_did_not_swap() -> None:
    # given a build that was begun while the index was pinned
    index, facts = built(an_index())
    job, facts = building(facts, swaps=False)
    edited = index.model_copy(update={"spec": an_index_spec(sources=NARROWER), "generation": 3})
    # when the pin is gone, then it goes on, and what it built is swapped to
    assert index_plan(edited, facts).deletions == ()
    two = a_retriever("g000001", generations=(a_generation("g000001"), a_generation("g000002")))
    done = replace(facts, retriever=two, builds=(replace(job, succeeded=True, finished_at=NOW),))
    assert index_plan(edited, done).serve == "g000002"
