# SPDX-License-Identifier: Apache-2.0
"""An index and an Assistant beside a model, under every kind of fault: the same promises as for a model alone.

`make test` plays a sample, all at the same time; `make test-faults-full` kills and loses at every write.
"""

from typing import Final

import pytest

from tests.faults.choice import ERRORS, FULL, SECONDS, WORKERS, at_writes, chosen, equal, going_back, held, reached
from tests.faults.grounded import GroundedStory
from tests.faults.kinds import AtWrite, Deaf, Expiring, Unreliable, refusal
from tests.faults.proxy import Action, Verb
from tests.faults.rig import Outcome, Reference, Scenario, World, perform_all

CRASH_WRITES: Final = 2
"""Writes before which `make test` crashes the operator, and as many others after which it does."""

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(SECONDS)]


def test_two_runs_without_faults_are_equal(grounded_references: tuple[Outcome, Outcome]) -> None:
    equal(*grounded_references)


def test_the_story_makes_and_deletes_what_it_should(grounded_references: tuple[Outcome, Outcome]) -> None:
    first, _ = grounded_references
    builds = {name: count for name, count in first.creates.items() if name.startswith("Job/handbook-build-")}
    assert sorted(builds.values()) == [1, 1, 2], "a first generation in two lives, a second, and one that failed"
    assert first.creates["StatefulSet/handbook-retriever"] == 2
    assert first.creates["Deployment/help-gateway"] == 2
    assert first.creates["PersistentVolumeClaim/handbook-index"] == 2
    assert first.creates["ConfigMap/help-gateway-<hash>"] == 3, "two configurations, and one in the second life"
    assert first.deletes["configmaps/help-gateway-<hash>"] == 1
    assert "StatefulSet/handbook-retriever" in first.settled
    assert "PersistentVolumeClaim/handbook-index" in first.end


def test_crashes_losses_refusals_and_deafness_change_nothing(world: World, grounded_reference: Reference) -> None:
    writes = grounded_reference.writes
    between = writes // CRASH_WRITES // 2
    crashes = [
        *_at("killed before", chosen(writes, CRASH_WRITES), Verb.KILL_BEFORE),
        *_at("killed after", chosen(writes, CRASH_WRITES, first=1 + between), Verb.KILL_AFTER),
        *_at("lost answer of", chosen(writes, 1, first=1 + between // 2), Verb.LOSE_ACK),
    ]
    deaf, expiring, unreliable = Deaf(keep=0), Expiring(), Unreliable(one_in=10, statuses=ERRORS)
    others = [
        Scenario(name="one in ten requests refused", story=GroundedStory, faults=unreliable),
        going_back("edited", "recreated", story=GroundedStory),
    ]
    # each step waits for the next resync here, which takes minutes; a model's story is played so every time
    more = [
        Scenario(name="no event", story=GroundedStory, faults=deaf),
        *(each for status in ERRORS for each in _refused(status, chosen(writes, 1))),
        Scenario(name="410 as event", story=GroundedStory, faults=expiring),
        going_back("broken", "repaired", story=GroundedStory),
        going_back("rolled back", "rolled forth", story=GroundedStory),
        going_back("created", "suspended", story=GroundedStory),
    ]
    # the longest first, so that none is left over at the end
    scenarios = [*others, *(more if FULL else ()), *crashes]
    outcomes = perform_all(world, scenarios, grounded_reference, workers=WORKERS)
    held(outcomes)
    reached([outcome for outcome in outcomes if isinstance(outcome.scenario.faults, AtWrite)])
    assert unreliable.refused > 20
    assert not FULL or (deaf.dropped > 0 and expiring.ended > 0)


def _at(name: str, numbers: list[int], verb: Verb) -> list[Scenario]:
    return at_writes(name, numbers, Action(verb=verb), story=GroundedStory)


def _refused(status: int, numbers: list[int]) -> list[Scenario]:
    return at_writes(
        f"{status} for", numbers[ERRORS.index(status) :: len(ERRORS)], refusal(status), story=GroundedStory
    )
