# SPDX-License-Identifier: Apache-2.0
"""Two runs without faults are equal: only then does a difference of another run tell anything."""

import pytest

from tests.faults.rig import Outcome
from tests.faults.snapshot import difference

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


def test_two_runs_without_faults_are_equal(references: tuple[Outcome, Outcome]) -> None:
    first, second = references
    assert "\n".join([*first.problems, *second.problems]) == ""
    assert "\n".join(difference(first.settled, second.settled)) == ""
    assert "\n".join(difference(first.end, second.end)) == ""
    assert first.creates == second.creates
    assert first.deletes == second.deletes
    assert first.restarts == second.restarts == 0


def test_the_story_makes_and_deletes_what_it_should(references: tuple[Outcome, Outcome]) -> None:
    first, _ = references
    jobs = [name for name in first.creates if name.startswith("Job/")]
    assert len(jobs) == 2, "one try of the good source, in two lives, and one of the missing"
    assert sorted(first.creates[name] for name in jobs) == [1, 2]
    assert first.creates["Deployment/small-model"] == 2
    assert first.creates["PodDisruptionBudget/small-model"] == 1
    assert first.deletes["poddisruptionbudgets/small-model"] == 1
    assert first.creates["Secret/nimblet-master-key"] == 1
