# SPDX-License-Identifier: Apache-2.0
"""A model's story under every kind of fault ends as without, with the same creates and deletes, then in silence.

`make test` takes an even choice of the crash points; with NIMBLET_FAULTS_FULL=1 (`make test-faults-full`) every
write is one, before and after, and every acknowledgement is lost once.
"""

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import pytest

from nimblet.shell.ending import EXIT_SECONDS
from nimblet.shell.operator import Exit
from tests.faults.access import plain_kubeconfig
from tests.faults.choice import ERRORS, FULL, SECONDS, WORKERS, at_writes, chosen, equal, going_back, held, reached
from tests.faults.keeper import KILLED
from tests.faults.kinds import Deaf, Expiring, FatalOnce, Gone, Silent, Spell, Unreliable, refusal
from tests.faults.proxy import Action, Faults, Proxy, Verb
from tests.faults.rig import Outcome, Reference, Run, Scenario, World, perform
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
            run.quiet()  # nothing that it sent is still on its way
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


def crashes(writes: int) -> list[Scenario]:
    """The operator is killed before a write, and after one."""
    numbers = chosen(writes, CRASH_WRITES)
    before = at_writes("killed before", numbers, Action(verb=Verb.KILL_BEFORE))
    return [*before, *at_writes("killed after", numbers, Action(verb=Verb.KILL_AFTER))]


def losses(writes: int) -> list[Scenario]:
    """An answer to a write is lost."""
    return at_writes("lost answer of", chosen(writes, LOST_ACKS), Action(verb=Verb.LOSE_ACK))


def refusals(writes: int) -> list[Scenario]:
    """Writes are refused, and at last any request."""
    numbers = chosen(writes, len(ERRORS))
    named = [
        scenario
        for index, status in enumerate(ERRORS)
        for scenario in at_writes(f"{status} for", numbers[index : None if FULL else index + 1], refusal(status))
    ]
    unreliable = Unreliable(one_in=10, statuses=ERRORS)
    return [*named, Scenario(name="one in ten requests refused", faults=unreliable)]


def deafness(_: int) -> list[Scenario]:
    """Events are lost or late, and watches end or stay silent."""
    return [
        Scenario(name="no event", faults=Deaf(keep=0)),
        Scenario(name="every second event", faults=Deaf(keep=2)),
        Scenario(name="late events", faults=Deaf(delay=0.4)),
        Scenario(name="410 as event", faults=Expiring()),
        # these two end the process by kopf's design; started again it goes on
        Scenario(name="410 as status", faults=Gone(), exits=(1,), clean_log=False),
        Scenario(name="a fatal watch error", faults=FatalOnce(), exits=(1,), clean_log=False),
        Scenario(name="silent watches", faults=Silent()),
    ]


def past(_: int) -> list[Scenario]:
    """The operator starts again and sees lists from before."""
    pairs = [("created", "recreated"), ("scaled up", "scaled down"), ("broken", "recreated")]
    pairs += [("deleted", "recreated"), ("broken", "repaired"), ("created", "deleted")] if FULL else []
    return [going_back(*pair) for pair in pairs]


def away(writes: int) -> list[Scenario]:
    """Operator or API server are away or slow, or the user is hurried."""
    gone = Spell(number=writes // 2, seconds=GONE_SECONDS, action=Action(verb=Verb.CUT))
    slow = Spell(number=writes // 2, seconds=SLOW_SECONDS, action=Action(verb=Verb.SLOW, seconds=LATENCY_SECONDS))
    return [
        # what nobody saw, nobody made: no resolver of the missing source, no budget of two replicas
        Scenario(name="no operator", script=without_operator, same_counts=False),
        Scenario(name="made again at once", script=in_a_hurry),
        Scenario(name="no API server", faults=gone),
        Scenario(name="slow API server", faults=slow),
    ]


def frozen(_: int) -> list[Scenario]:
    """The leader stands still past the end of its lease."""
    lost = Scenario(
        name="frozen leader",
        script=frozen_leader,
        same_counts=False,
        exits=(Exit.LEADERSHIP_LOST,),
        clean_log=False,  # that the lease is lost is told as an error
    )
    return [lost]


@pytest.fixture(scope="module")
def under_way(
    world: World, reference: Reference, request: pytest.FixtureRequest
) -> Iterator[Mapping[str, Sequence[Future[Outcome]]]]:
    """All runs of the tests that were selected: in one pool, so that no test waits for its last run alone.

    The longest come first.
    """
    plays = {
        test_lost_late_and_expired_watch_events_delay_and_change_nothing: deafness,
        test_whoever_is_away_slow_or_hurried_comes_to_the_same_end: away,
        test_an_operator_that_wakes_in_the_past_harms_nothing: past,
        test_a_leader_that_was_frozen_past_its_lease_writes_nothing_more: frozen,
        test_a_refused_write_is_made_later: refusals,
        test_a_crash_at_any_write_changes_nothing: crashes,
        test_a_lost_acknowledgement_makes_nothing_twice: losses,
    }
    selected = {item.name for item in request.session.items}
    pool = ThreadPoolExecutor(WORKERS)
    yield {
        test.__name__: [pool.submit(perform, world, scenario, reference) for scenario in made(reference.writes)]
        for test, made in plays.items()
        if test.__name__ in selected
    }
    pool.shutdown(cancel_futures=True)


@pytest.fixture
def outcomes(
    under_way: Mapping[str, Sequence[Future[Outcome]]], request: pytest.FixtureRequest
) -> Sequence[Outcome]:
    """What became of the runs of this test."""
    return [future.result() for future in under_way[request.node.name]]


def test_a_crash_at_any_write_changes_nothing(outcomes: Sequence[Outcome]) -> None:
    held(outcomes)
    reached(outcomes)


def test_a_lost_acknowledgement_makes_nothing_twice(outcomes: Sequence[Outcome]) -> None:
    held(outcomes)
    reached(outcomes)
    assert all(outcome.restarts <= 1 for outcome in outcomes)


def test_a_refused_write_is_made_later(outcomes: Sequence[Outcome], reference: Reference) -> None:
    held(outcomes)
    unreliable = outcomes[-1].scenario.faults
    assert isinstance(unreliable, Unreliable)
    assert unreliable.refused > 20
    assert outcomes[-1].writes <= 3 * reference.writes, "tries again, but not without end"


def test_lost_late_and_expired_watch_events_delay_and_change_nothing(outcomes: Sequence[Outcome]) -> None:
    held(outcomes)
    for outcome in outcomes:
        assert met(outcome.scenario.faults), f"{outcome.scenario.name} was never met"


def met(faults: Faults) -> bool:
    """Tell whether something was lost, refused, ended or held back."""
    match faults:
        case Deaf(delay=delay, dropped=dropped):
            return delay > 0 or dropped > 0
        case Expiring(ended=count) | Silent(stalled=count):
            return count > 0
        case Gone(refused=refused):
            return bool(refused)
        case FatalOnce(sent=sent):
            return sent
    return False


def test_an_operator_that_wakes_in_the_past_harms_nothing(outcomes: Sequence[Outcome]) -> None:
    held(outcomes)


def test_whoever_is_away_slow_or_hurried_comes_to_the_same_end(
    outcomes: Sequence[Outcome], reference: Reference
) -> None:
    held(outcomes)
    without, _, gone, slow = outcomes
    assert without.creates <= reference.creates, "nothing is made that the run without faults did not make"
    assert KILLED not in without.scenario.exits or without.restarts == 0
    assert [gone.restarts, slow.restarts] == [0, 0], "waited for, not restarted"
    spells = (gone.scenario.faults, slow.scenario.faults)
    cut, late = (spell.met for spell in spells if isinstance(spell, Spell))
    assert 0 < cut < MOST_TRIES, "tries again, but with pauses"
    assert late > 0


def test_a_leader_that_was_frozen_past_its_lease_writes_nothing_more(outcomes: Sequence[Outcome]) -> None:
    held(outcomes)
    assert [outcome.restarts for outcome in outcomes] == [1], "it ended"
