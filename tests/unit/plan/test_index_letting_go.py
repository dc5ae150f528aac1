# SPDX-License-Identifier: Apache-2.0
"""Servers that a swap may still go to are asked on: a retriever that lets go of them would serve nothing."""

from dataclasses import replace
from datetime import timedelta

from nimblet.plan.indexfacts import BuildFacts, IndexFacts
from nimblet.plan.retrievalindex import IndexPlan
from tests.builders import NOW
from tests.conditions import message, shown
from tests.indexes import an_index as plain
from tests.indexes import an_index_spec, build_of, config_of, ended, index_plan
from tests.unit.plan.test_index_moving import FEWER, NEW, OLD, moving, says, swapped
from tests.unit.plan.test_index_servers import STORE, with_spec

BACK = {**STORE, "dedicated": {"replicas": 3}}
THIRD = {**FEWER, "size": "80Gi"}


def asked_by(plan: IndexPlan) -> tuple[str, list[str]]:
    """Return the servers that the retriever is told to ask: the target, and the others."""
    config = config_of(plan, "handbook-retriever")["store"]
    return config["url"], config.get("former", [])


def at_work() -> tuple[BuildFacts, IndexFacts]:
    """Return the build on the new servers as it runs, while the old ones answer."""
    _, facts = moving(says("g000001", OLD))
    job = replace(build_of(plain()), inputs="of the new servers", generation="g000002")
    return job, replace(facts, builds=(job,))


def test_servers_are_asked_on_while_a_build_may_swap_to_them() -> None:
    # given a build on new servers
    index, _ = moving(says("g000001", OLD))
    job, facts = at_work()
    # when the edit is taken back, or leads on to a third set
    back, third = (with_spec(index, an_index_spec(store=store)) for store in (BACK, THIRD))
    # then the retriever asks them until that build is gone
    assert asked_by(index_plan(back, facts)) == (OLD, [NEW])
    assert asked_by(index_plan(third, facts)) == (NEW.replace("s2", "s3"), [OLD, NEW])
    assert asked_by(index_plan(back, replace(facts, builds=()))) == (OLD, [])
    assert asked_by(index_plan(third, replace(facts, builds=()))) == (NEW.replace("s2", "s3"), [OLD])
    # or, where it ended well, until the retriever has told what that led to
    done = replace(ended(job), finished_at=NOW - timedelta(seconds=3))
    earlier = replace(facts, builds=(done,), retriever=replace(says("g000001", OLD), age=5.0))
    assert asked_by(index_plan(back, earlier)) == (OLD, [NEW])
    since = replace(facts, builds=(done,), retriever=says("g000002", NEW))
    assert asked_by(index_plan(back, since)) == (NEW, []), "they answer, and can grow"


def test_servers_that_were_let_go_of_are_not_asked_again_by_a_later_build() -> None:
    # given an index on its way to a third set, whose retriever has let go of the second
    index, _ = moving(says("g000001", OLD))
    third = with_spec(index, an_index_spec(store=THIRD))
    _, facts = at_work()
    target = NEW.replace("s2", "s3")
    # when a build runs there, then the retriever is left as it is
    settled = replace(facts, retriever=says("g000001", OLD, asked=(target, OLD)))
    assert asked_by(index_plan(third, settled)) == (target, [OLD])


def test_no_swap_is_ordered_of_a_retriever_that_lets_go_of_servers() -> None:
    # given new servers that answer, and a retriever that is about to let go of the old ones
    index, facts = swapped(says("g000002", NEW))
    # when a generation on the old ones is pinned
    pinned = with_spec(index, an_index_spec(store=FEWER, generation="g000001"))
    plan = index_plan(pinned, facts)
    # then nobody swaps to what the next retriever does not ask
    assert asked_by(plan) == (NEW, [])
    assert plan.serve is None
    assert shown(plan, "Ready") == ("Unknown", "Swapping")
    assert "lets go of servers" in message(plan, "Ready")
    # and what became of it is told once it has
    alone = replace(says("g000002", NEW, asked=(NEW,)), generations=says("g000002", NEW).generations[1:])
    assert shown(index_plan(pinned, replace(facts, retriever=alone)), "Ready") == ("False", "GenerationUnknown")
