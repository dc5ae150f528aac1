# SPDX-License-Identifier: Apache-2.0
"""What is seen of Jobs may be older than the status: the later build that this remembers counts."""

from dataclasses import replace

import pytest

from nimblet.plan.indexfacts import BuildFacts, IndexFacts
from tests.indexes import (
    a_generation,
    a_retriever,
    an_index,
    build_of,
    built,
    ended,
    index_plan,
    jobs_of,
    running_facts,
)

OLDER = replace(build_of(an_index()), inputs="of an older spec")
SEEN = (
    (ended(OLDER),),
    (OLDER,),
    (ended(OLDER, error=("SourceUnavailable", "The repository can't be reached.")),),
    (),
)


def served(*builds: BuildFacts) -> IndexFacts:
    """Return facts where the second generation serves, and these Jobs are seen."""
    generations = (a_generation("g000001"), a_generation("g000002"))
    return running_facts(an_index(), a_retriever("g000002", generations=generations), builds=builds)


@pytest.mark.parametrize("seen", SEEN)
def test_the_build_before_the_last_is_no_reason_to_build_or_to_roll_back(seen: tuple[BuildFacts, ...]) -> None:
    # given an index whose status tells of its second build, and Jobs as they were before that
    index, _ = built(an_index())
    done = index.status.build
    assert done is not None
    second = done.model_copy(update={"generation": "g000002"})
    index = index.model_copy(update={"status": index.status.model_copy(update={"build": second})})
    # when
    plan = index_plan(index, served(*seen))
    # then
    assert jobs_of(plan) == []
    assert plan.serve is None
    assert plan.status.build == second
    assert plan.status.building_generation == ""
    assert [item.name for item in plan.deletions] == [build.name for build in seen], "a later one is known"
