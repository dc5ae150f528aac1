# SPDX-License-Identifier: Apache-2.0
"""Which faults are played where, and what must hold of every run. Only for tests.

`make test` takes an even choice of the crash points; with NIMBLET_FAULTS_FULL=1 (`make test-faults-full`) every
write is one, or with NIMBLET_FAULTS_PART=2/8 the second of every eight.
"""

import os
from collections.abc import Sequence
from typing import Final

from tests.faults.kinds import AtWrite, Stale
from tests.faults.proxy import Action
from tests.faults.rig import Outcome, Run, Scenario
from tests.faults.snapshot import difference
from tests.faults.story import ModelStory, Story

FULL: Final = os.environ.get("NIMBLET_FAULTS_FULL") == "1"
PART, PARTS = (int(number) for number in os.environ.get("NIMBLET_FAULTS_PART", "1/1").split("/"))
WORKERS: Final = int(os.environ.get("NIMBLET_FAULTS_WORKERS", "5"))
ERRORS: Final = (409, 429, 500, 503)
STALE_SECONDS: Final = 8.0
SECONDS: Final = 7200 if FULL else 1500
"""For a test; only one that fails takes long."""


def chosen(writes: int, count: int, *, first: int = 1) -> list[int]:
    """Return `count` of the numbers 1 to `writes`, evenly, from `first` on; in full runs all, or the part."""
    if FULL:
        return list(range(PART, writes + 1, PARTS))
    return [first + index * writes // count for index in range(count)]


def at_writes(
    name: str, numbers: Sequence[int], action: Action, *, story: type[Story] = ModelStory
) -> list[Scenario]:
    """Return a scenario for each number."""
    return [
        Scenario(name=f"{name} write {number}", story=story, faults=AtWrite(number=number, action=action))
        for number in numbers
    ]


def equal(first: Outcome, second: Outcome) -> None:
    """Assert that two runs without faults went well and ended alike."""
    nothing_in(first.problems, second.problems)
    nothing_in(difference(first.settled, second.settled), difference(first.end, second.end))
    assert first.creates == second.creates, f"{first.creates} and {second.creates}"
    assert first.deletes == second.deletes, f"{first.deletes} and {second.deletes}"
    assert first.restarts == second.restarts == 0, f"{first.restarts} and {second.restarts}"


def held(outcomes: Sequence[Outcome]) -> None:
    """Assert that everything held in every run."""
    nothing_in(*(outcome.problems for outcome in outcomes))


def nothing_in(*told: Sequence[str]) -> None:
    """Assert that there is nothing to tell; here, for pytest shows values of asserts in test modules alone."""
    text = "\n".join(line for lines in told for line in lines)
    assert text == "", text


def reached(outcomes: Sequence[Outcome]) -> None:
    """Assert that the fault was met; a run that had fewer writes than the reference can't meet the last ones."""
    for outcome in outcomes:
        faults = outcome.scenario.faults
        assert isinstance(faults, AtWrite)
        assert faults.reached or outcome.writes < faults.number, outcome.scenario.name


def going_back(to: str, at: str, *, story: type[Story] = ModelStory) -> Scenario:
    """Return a run in which the operator starts again after step `at` and sees the lists of step `to`."""
    stale = Stale()

    def script(run: Run) -> None:
        remembered: dict[str, bytes] = {}

        def after(step: str) -> None:
            if step == to:
                remembered.update(fresh_lists(run))
            if step == at:
                stale.replay(remembered, seconds=STALE_SECONDS)
                run.keeper.kill()

        run.keeper.start()
        told = run.story(after=after)
        told.first_part()
        run.settle()
        told.second_part()
        run.wait(stale.is_over, "the past to end")
        run.resyncs(1)
        run.finish()
        run.note([] if stale.served else ["none"], "lists from the past that were served")

    return Scenario(name=f"back to {to!r} after {at!r}", story=story, faults=stale, script=script)


def fresh_lists(run: Run) -> dict[str, bytes]:
    """Return what the operator's lists would say now."""
    return run.proxy.fetch(tuple(run.proxy.lists))
