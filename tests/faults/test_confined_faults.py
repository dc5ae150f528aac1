# SPDX-License-Identifier: Apache-2.0
"""A model under a Required TEEPolicy: whenever the operator dies, no pod is made outside of a confidential place.

`make test` kills at a few writes; `make test-faults-full` before and after every one.
"""

from typing import Final

import pytest

from tests.faults.choice import SECONDS, WORKERS, at_writes, chosen, held, nothing_in, reached
from tests.faults.confined import ConfinedStory
from tests.faults.proxy import Action, Verb
from tests.faults.rig import Outcome, Reference, Scenario, World, perform_all

CRASH_WRITES: Final = 2
"""Writes before which `make test` crashes the operator, and as many others after which it does."""

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(SECONDS)]


@pytest.fixture(scope="module")
def confined(world: World) -> Outcome:
    """One run without faults: a second one would show what those of the other stories show."""
    [outcome] = perform_all(world, [Scenario(name="confined", story=ConfinedStory)], None, workers=1)
    return outcome


def test_no_pod_without_a_place_then_kept_evicted_and_let_in(confined: Outcome) -> None:
    nothing_in(confined.problems)
    jobs = [name for name in confined.creates if name.startswith("Job/")]
    assert [confined.creates[name] for name in jobs] == [2], "one resolver in each of two lives"
    assert confined.creates["Deployment/small-model"] == 3, "placed, let in after the eviction, and recreated"
    assert confined.deletes["deployments/small-model"] == 1, "evicted; what was deleted with its model is not ours"


def test_a_crash_at_any_write_makes_no_pod_outside_of_the_place(world: World, confined: Outcome) -> None:
    reference = Reference(
        settled=confined.settled,
        end=confined.end,
        creates=confined.creates,
        deletes=confined.deletes,
        writes=confined.writes,
    )
    between = reference.writes // CRASH_WRITES // 2
    scenarios = [
        *_at("killed before", chosen(reference.writes, CRASH_WRITES, first=2), Verb.KILL_BEFORE),
        *_at("killed after", chosen(reference.writes, CRASH_WRITES, first=2 + between), Verb.KILL_AFTER),
    ]
    outcomes = perform_all(world, scenarios, reference, workers=WORKERS)
    held(outcomes)
    reached(outcomes)


def _at(name: str, numbers: list[int], verb: Verb) -> list[Scenario]:
    return at_writes(name, numbers, Action(verb=verb), story=ConfinedStory)
