# SPDX-License-Identifier: Apache-2.0
"""A model's story under every kind of fault ends as without, with the same creates and deletes, then in silence.

`make test` takes an even choice of the crash points; with NIMBLET_FAULTS_FULL=1 (`make test-faults-full`) every
write is one, before and after, and every acknowledgement is lost once.
"""

import json
import signal
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import pytest

from nimblet.shell.ending import EXIT_SECONDS
from nimblet.shell.operator import Exit
from tests.faults.choice import ERRORS, FULL, SECONDS, WORKERS, at_writes, chosen, equal, going_back, held, reached
from tests.faults.keeper import KILLED
from tests.faults.kinds import Deaf, Expiring, FatalOnce, Gone, Silent, Spell, Unreliable, refusal
from tests.faults.proxy import Action, Faults, Proxy, Verb
from tests.faults.rig import Outcome, Reference, Run, Scenario, World, perform_all, plain_kubeconfig
from tests.faults.story import ModelStory

CRASH_WRITES: Final = 5
"""Writes at which `make test` crashes the operator, each before and after."""
LOST_ACKS: Final = 3
GONE_SECONDS: Final = 60.0
SLOW_SECONDS: Final = 30.0
LATENCY_SECONDS: Final = 5.0
MOST_TRIES: Final = 600
"""Requests in a minute without an API server: ten watches, the resync and the queue, each with its pauses."""

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(SECONDS)]


def test_two_runs_without_faults_are_equal(references: tuple[Outcome, Outcome]) -> None:
    equal(*references)


def test_the_story_makes_and_deletes_what_it_should(references: tuple[Outcome, Outcome]) -> None:
    first, _ = references
    jobs = [name for name in first.creates if name.startswith("Job/")]
    assert len(jobs) == 2, "one try of the good source, in two lives, and one of the missing"
    assert sorted(first.creates[name] for name in jobs) == [1, 2]
    assert first.creates["Deployment/small-model"] == 2
    assert first.creates["PodDisruptionBudget/small-model"] == 1
    assert first.deletes["poddisruptionbudgets/small-model"] == 1
    assert first.creates["Secret/nimblet-master-key"] == 1


def test_a_crash_at_any_write_changes_nothing(world: World, reference: Reference) -> None:
    numbers = chosen(reference.writes, CRASH_WRITES)
    before = at_writes("killed before", numbers, Action(verb=Verb.KILL_BEFORE))
    after = at_writes("killed after", numbers, Action(verb=Verb.KILL_AFTER))
    outcomes = perform_all(world, [*before, *after], reference, workers=WORKERS)
    held(outcomes)
    reached(outcomes)


def test_a_lost_acknowledgement_makes_nothing_twice(world: World, reference: Reference) -> None:
    scenarios = at_writes("lost answer of", chosen(reference.writes, LOST_ACKS), Action(verb=Verb.LOSE_ACK))
    outcomes = perform_all(world, scenarios, reference, workers=WORKERS)
    held(outcomes)
    reached(outcomes)
    assert all(outcome.restarts <= 1 for outcome in outcomes)


def test_a_refused_write_is_made_later(world: World, reference: Reference) -> None:
    scenarios = [
        scenario
        for index, status in enumerate(ERRORS)
        for scenario in at_writes(
            f"{status} for",
            chosen(reference.writes, len(ERRORS))[index : None if FULL else index + 1],
            refusal(status),
        )
    ]
    unreliable = Unreliable(one_in=10, statuses=ERRORS)
    outcomes = perform_all(
        world,
        [*scenarios, Scenario(name="one in ten requests refused", faults=unreliable)],
        reference,
        workers=WORKERS,
    )
    held(outcomes)
    assert unreliable.refused > 20
    assert outcomes[-1].writes <= 3 * reference.writes, "tries again, but not without end"


def test_lost_late_and_expired_watch_events_delay_and_change_nothing(world: World, reference: Reference) -> None:
    deaf, hard_of_hearing, late = Deaf(keep=0), Deaf(keep=2), Deaf(delay=0.4)
    expiring, gone, fatal, silent = Expiring(), Gone(), FatalOnce(), Silent()
    outcomes = perform_all(
        world,
        [
            Scenario(name="no event", faults=deaf),
            Scenario(name="every second event", faults=hard_of_hearing),
            Scenario(name="late events", faults=late),
            Scenario(name="410 as event", faults=expiring),
            # these two end the process by kopf's design; started again it goes on
            Scenario(name="410 as status", faults=gone, exits=(1,), clean_log=False),
            Scenario(name="a fatal watch error", faults=fatal, exits=(1,), clean_log=False),
            Scenario(name="silent watches", faults=silent),
        ],
        reference,
        workers=WORKERS,
    )
    held(outcomes)
    assert deaf.dropped > 0
    assert hard_of_hearing.dropped > 0
    assert expiring.ended > 0
    assert gone.refused
    assert silent.stalled > 0
    assert fatal.sent


def test_an_operator_that_wakes_in_the_past_harms_nothing(world: World, reference: Reference) -> None:
    pairs = [("created", "recreated"), ("scaled up", "scaled down"), ("broken", "recreated")]
    pairs += [("deleted", "recreated"), ("broken", "repaired"), ("created", "deleted")] if FULL else []
    outcomes = perform_all(world, [going_back(*pair) for pair in pairs], reference, workers=WORKERS)
    held(outcomes)


def told(run: Run, *, patient: bool = True) -> ModelStory:
    """Return the model's story, for a script that tells it step by step."""
    return ModelStory(view=run.view, after=lambda _: None, patient=patient)


def without_operator(run: Run) -> None:
    """Everything but the first step and the last look happens while no operator runs."""
    run.keeper.start()
    told(run).create()
    before = set(run.view.children("Pod"))
    run.keeper.stop()
    down = told(run, patient=False)
    down.edit()
    down.break_()
    down.repair()
    down.scale_up()
    down.scale_down()
    run.note([] if set(run.view.children("Pod")) == before else ["pods"], "changed while no operator ran")
    run.keeper.start()
    run.settle()
    run.keeper.stop()
    down.delete()
    down.recreate()
    run.keeper.start()
    run.finish()


def in_a_hurry(run: Run) -> None:
    """The model is made again before anything of the old one is gone."""
    run.keeper.start()
    story = run.story(waits_for_deletion=False)
    story.first_part()
    run.settle()
    story.second_part()
    run.finish()


def test_whoever_is_away_slow_or_hurried_comes_to_the_same_end(world: World, reference: Reference) -> None:
    middle = reference.writes // 2
    gone = Spell(number=middle, seconds=GONE_SECONDS, action=Action(verb=Verb.CUT))
    slow = Spell(number=middle, seconds=SLOW_SECONDS, action=Action(verb=Verb.SLOW, seconds=LATENCY_SECONDS))
    outcomes = perform_all(
        world,
        [
            # what nobody saw, nobody made: no resolver of the missing source, no budget of two replicas
            Scenario(name="no operator", script=without_operator, same_counts=False),
            Scenario(name="made again at once", script=in_a_hurry),
            Scenario(name="no API server", faults=gone),
            Scenario(name="slow API server", faults=slow),
        ],
        reference,
        workers=WORKERS,
    )
    held(outcomes)
    away = outcomes[0]
    assert away.creates <= reference.creates, "nothing is made that the run without faults did not make"
    assert KILLED not in away.scenario.exits or away.restarts == 0
    assert [outcome.restarts for outcome in outcomes[2:]] == [0, 0], "waited for, not restarted"
    assert 0 < gone.met < MOST_TRIES, "tries again, but with pauses"
    assert slow.met > 0


def frozen_leader(run: Run) -> None:
    """The leader stands still past the end of its lease; a second one follows it, then the first wakes."""
    directory = run.world.directory / f"second-{run.operator_namespace}"
    directory.mkdir()
    first = run.keeper.launcher
    first_process = first.start(*run.keeper.flags, elect=True)
    with Proxy(run.world.upstream, faults=Faults(), kill=lambda: None) as proxy:
        second = replace(first, kubeconfig=directory / "kubeconfig", directory=directory, started=[])
        second.kubeconfig.write_text(json.dumps(plain_kubeconfig(proxy.url)), encoding="utf-8")
        story = told(run)
        try:
            story.create()
            second_process = second.start(*run.keeper.flags, elect=True)
            run.wait(lambda: second_process.probe("/readyz") == HTTPStatus.OK, "a standby")
            first_process.popen.send_signal(signal.SIGSTOP)
            before = run.proxy.writes
            run.view.scale(story.name, 2)
            run.wait(lambda: story.is_settled(2), "the second to lead and to scale the model")
            first_process.popen.send_signal(signal.SIGCONT)
            run.keeper.codes.append(first_process.popen.wait(2 * EXIT_SECONDS))
            late = [str(entry) for entry in run.proxy.entries if entry.write is not None and entry.write > before]
            run.note(late, "the first wrote after its lease had run out")
            run.note([] if proxy.writes else ["none"], "writes of the second")
        finally:
            second.end_all()
    run.note(second.flaws(), "the log of the second tells of a defect")


def test_a_leader_that_was_frozen_past_its_lease_writes_nothing_more(world: World, reference: Reference) -> None:
    lost = Scenario(
        name="frozen leader",
        script=frozen_leader,
        same_counts=False,
        exits=(Exit.LEADERSHIP_LOST,),
        clean_log=False,  # that the lease is lost is told as an error
    )
    [outcome] = perform_all(world, [lost], reference, workers=1)
    held([outcome])
    assert outcome.restarts == 1, "it ended"
