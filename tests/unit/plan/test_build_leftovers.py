# SPDX-License-Identifier: Apache-2.0
"""What is left of older builds goes, ConfigMap before Job, and never on what is seen of ConfigMaps alone."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.api.indexstatus import SourceStatus
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.plan.facts import ChildRef
from nimblet.plan.index_build import BUILD
from nimblet.plan.indexfacts import BuildFacts
from tests.builders import child
from tests.indexes import a_claim, a_retriever, an_index, build_of, ended, index_plan, job_of, running_facts


def a_config(build: BuildFacts) -> ChildRef:
    """Return the ConfigMap of a build."""
    marks = {labels.COMPONENT: BUILD, labels.BUILD_GENERATION: build.generation}
    return ChildRef(kind="ConfigMap", name=build.name, uid=f"config of {build.name}", labels=marks)


def gone(*builds: BuildFacts, configs: tuple[BuildFacts, ...]) -> list[tuple[str, str]]:
    """Return what is deleted where the retriever serves and these Jobs and ConfigMaps are seen."""
    index = an_index()
    facts = running_facts(index, a_retriever(builds[-1].generation if builds else "g000001"), builds=builds)
    plan = index_plan(index, replace(facts, children=tuple(a_config(item) for item in configs)))
    return [(item.kind, item.name) for item in plan.deletions]


def test_what_is_left_of_an_older_build_goes_the_config_map_first() -> None:
    first = ended(build_of(an_index()))
    second = ended(replace(build_of(an_index()), name="handbook-build-later-1", generation="g000002"))
    assert gone(first, second, configs=(first, second)) == [("ConfigMap", first.name), ("Job", first.name)]


def test_a_config_map_whose_job_was_never_made_goes_with_the_next_build() -> None:
    first = build_of(an_index())
    second = ended(replace(build_of(an_index()), name="handbook-build-later-1", generation="g000002"))
    assert gone(second, configs=(first, second)) == [("ConfigMap", first.name)]


def test_the_config_map_of_a_try_goes_with_its_job_when_the_next_try_begins() -> None:
    index = an_index()
    failed = ended(build_of(index), error=("SourceUnavailable", "The repository can't be reached."))
    plan = index_plan(index, replace(running_facts(index, builds=(failed,)), children=(a_config(failed),)))
    assert job_of(plan)["metadata"]["annotations"][labels.ATTEMPT] == "2"
    assert [(item.kind, item.name) for item in plan.deletions] == [
        ("ConfigMap", failed.name),
        ("Job", failed.name),
    ]


def test_a_config_map_stays_while_its_job_is_not_seen() -> None:
    # given Jobs that are seen later than ConfigMaps: none, those of the build before, or of the try before
    first = build_of(an_index())
    second = replace(first, name="handbook-build-later-1", generation="g000002")
    again = replace(first, name=f"{first.name[:-1]}2", attempt=2)
    # then nothing of the newer build is deleted, which may run by now
    assert gone(configs=(first,)) == []
    assert gone(ended(first), configs=(first, second)) == []
    assert gone(ended(first), configs=(first, again)) == []


@pytest.mark.parametrize(
    "edited",
    [an_index(retainGenerations=3), an_index(maxShrinkPercent=80), an_index(generation=1)],
    ids=["more kept", "more may shrink", "none"],
)
def test_a_config_map_whose_job_was_never_made_is_no_name_for_another_one(edited: RetrievalIndex) -> None:
    # given the ConfigMap of a try whose Job was refused, or taken away by suspending: it can't be changed
    before = index_plan(an_index(), running_facts(an_index()))
    left = job_of(before)["metadata"]["name"]
    # when the same generation is begun again
    plan = index_plan(edited, running_facts(edited))
    # then the one that it reads is this one as it is, or has a name of its own
    name = job_of(plan)["metadata"]["name"]
    same = child(plan.children, "ConfigMap", name)["data"] == child(before.children, "ConfigMap", left)["data"]
    assert same == (name == left)
    assert job_of(plan)["metadata"]["labels"] == job_of(before)["metadata"]["labels"], "the same generation"


def test_a_build_has_one_name_whatever_is_observed_meanwhile() -> None:
    # given a build begun before the claim told its room, and one planned anew by who does not see its Job yet
    index = an_index()
    facts = running_facts(index)
    begun = job_of(index_plan(index, replace(facts, claim=a_claim(capacity=""))))
    counted = [SourceStatus(name=source.name, documents=7) for source in index.spec.sources]
    later = index.model_copy(update={"status": index.status.model_copy(update={"sources": counted})})
    again = job_of(index_plan(later, facts))
    # then it is the same Job, and no second one
    assert again["metadata"]["name"] == begun["metadata"]["name"]


def test_the_config_map_that_a_refused_job_left_is_used_as_it_is() -> None:
    # given the ConfigMap of a build whose Job was refused, and a status that tells the counts of the build before
    index = an_index()
    begun = job_of(index_plan(index, running_facts(index)))["metadata"]["name"]
    counted = [SourceStatus(name=source.name, documents=7) for source in index.spec.sources]
    later = index.model_copy(update={"status": index.status.model_copy(update={"sources": counted})})
    left = a_config(replace(build_of(index), name=begun))
    # when the Job is made again
    plan = index_plan(later, replace(running_facts(later), children=(left,)))
    # then what can't be changed is not written anew with these counts, which would be refused for ever
    assert job_of(plan)["metadata"]["name"] == begun
    written: list[Any] = [item for item in plan.children if item["kind"] == "ConfigMap"]
    assert begun not in [item["metadata"]["name"] for item in written]
