# SPDX-License-Identifier: Apache-2.0
"""The plan of a RetrievalIndex: what is made when, and what its conditions say. The truth table of the kind."""

from dataclasses import replace
from datetime import timedelta

import pytest

from nimblet import labels
from nimblet.plan.indexfacts import GateFacts, NamedFacts
from tests.builders import NOW
from tests.conditions import is_true, message, shown
from tests.indexes import (
    DOCS,
    EARLIER,
    GATE,
    a_generation,
    a_retriever,
    an_index,
    an_index_spec,
    build_of,
    built,
    config_of,
    ended,
    first_facts,
    index_plan,
    job_of,
    jobs_of,
    running_facts,
)


def test_first_pass_makes_everything_but_a_build() -> None:
    plan = index_plan(an_index(), first_facts())
    assert [str(item["kind"]) for item in plan.children] == [
        "Secret",
        "Secret",
        "Secret",
        "ServiceAccount",
        "ServiceAccount",
        "NetworkPolicy",
        "NetworkPolicy",
        "Service",
        "PersistentVolumeClaim",
        "ConfigMap",
        "StatefulSet",
    ]
    assert shown(plan, "Serving") == ("False", "Progressing")
    assert shown(plan, "Ready") == ("Unknown", "Progressing")
    assert shown(plan, "Resolved") == ("True", "Resolved")


def test_a_retriever_that_answers_gets_the_first_build() -> None:
    plan = index_plan(an_index(), running_facts(an_index()))
    job = job_of(plan)
    assert job["metadata"]["labels"][labels.BUILD_GENERATION] == "g000001"
    assert shown(plan, "Indexed") == ("Unknown", "Building")
    assert shown(plan, "Ready") == ("Unknown", "Building")
    assert shown(plan, "Serving") == ("False", "Building")
    assert config_of(plan, job["metadata"]["name"])["generation"] == "g000001"


def test_no_build_before_the_retriever_answers() -> None:
    facts = running_facts(an_index())
    silent = replace(facts.pods[0], ready=False, observation=None, container_id="")
    plan = index_plan(an_index(), replace(facts, pods=(silent,), retriever=None))
    assert jobs_of(plan) == []
    assert shown(plan, "Indexed") == ("Unknown", "Starting")


def test_running_build_is_left_alone_and_shows_steps_of_ten_percent() -> None:
    index = an_index()
    plan = index_plan(index, running_facts(index, builds=(build_of(index, percent=37),)))
    assert jobs_of(plan) == []
    assert plan.status.build_percent == 30
    assert plan.status.building_generation == "g000001"
    assert "30 %" in message(plan, "Indexed")


def test_generation_that_answers_makes_it_serving_and_ready() -> None:
    index, facts = built(an_index())
    plan = index_plan(index, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("True", "Ready")
    assert shown(plan, "Indexed") == ("True", "Indexed")
    assert shown(plan, "GatePassed") == ("Unknown", "NoGate")
    assert shown(plan, "Stalled") is None
    assert shown(plan, "Reconciling") is None
    assert (plan.status.documents, plan.status.chunks, plan.status.bytes) == (2, 12, 4096)
    assert plan.status.last_indexed_time == EARLIER
    assert [item.hash for item in plan.status.sources] == ["h1"]


def test_second_look_at_the_same_facts_changes_nothing() -> None:
    index, facts = built(an_index())
    again = index_plan(index, facts, now=NOW + timedelta(hours=3))
    assert again.status == index.status
    assert jobs_of(again) == []
    assert again.deletions == ()
    assert again.serve is None


def test_finished_job_may_go_without_another_build() -> None:
    index, facts = built(an_index())
    plan = index_plan(index, replace(facts, builds=()))
    assert jobs_of(plan) == []
    assert is_true(plan, "Ready")


def test_ready_waits_for_the_retriever_to_tell_the_generation_that_was_just_built() -> None:
    # Given a build of an edited spec that has ended, and what the retriever told before that
    index, facts = built(an_index())
    newer = replace(facts.builds[0], name="docs-build-2-1", generation="g000002", finished_at=NOW)
    plan = index_plan(index, replace(facts, builds=(newer,)))
    # Then nobody claims that the old generation is of this spec
    assert shown(plan, "Ready") == ("Unknown", "Swapping")
    assert shown(plan, "Serving") == ("True", "Answering")
    assert jobs_of(plan) == []


def test_a_store_that_lost_everything_is_built_again() -> None:
    index, facts = built(an_index())
    empty = replace(facts, retriever=a_retriever(serving=None, generations=()))
    plan = index_plan(index, empty)
    assert job_of(plan)["metadata"]["labels"][labels.BUILD_GENERATION] == "g000002"
    assert shown(plan, "Ready") == ("Unknown", "Building")
    assert shown(plan, "Serving") == ("False", "Building")
    assert len(jobs_of(index_plan(index, replace(empty, builds=())))) == 1, "its Job may be gone too"
    just = replace(facts.builds[0], finished_at=NOW)
    soon = index_plan(index, replace(empty, builds=(just,)))
    assert jobs_of(soon) == [], "the retriever was asked before"
    assert soon.requeue_after is not None, "that it stays empty is no news"
    assert soon.requeue_after <= 16


def test_a_store_is_not_lost_where_a_busy_retriever_told_of_it_before_the_build_ended() -> None:
    # Given a first build that ended a minute ago, and a retriever whose last words are older than that
    index, facts = built(an_index())
    ended_then = replace(facts.builds[0], finished_at=NOW - timedelta(seconds=60))
    words = a_retriever(serving=None, generations=(), age=61.0)
    plan = index_plan(index, replace(facts, builds=(ended_then,), retriever=words))
    # Then nothing is built again, and it is looked at once more
    assert jobs_of(plan) == []
    assert plan.requeue_after is not None
    # When it tells the same again, asked long enough after the build's end
    again = index_plan(index, replace(facts, builds=(ended_then,), retriever=replace(words, age=8.0)))
    assert job_of(again)["metadata"]["labels"][labels.BUILD_GENERATION] == "g000002"


def test_request_asks_for_one_build_of_the_next_generation() -> None:
    index, facts = built(an_index())
    asked = index.model_copy(update={"build_requested_at": "today"})
    plan = index_plan(asked, facts)
    job = job_of(plan)
    assert job["metadata"]["labels"][labels.BUILD_GENERATION] == "g000002"
    assert job["metadata"]["annotations"][labels.BUILD_REQUESTED_AT] == "today"
    assert shown(plan, "Ready") == ("True", "Ready"), "a refresh does not take Ready away"
    assert [item.name for item in plan.deletions] == [facts.builds[0].name]


def test_schedule_builds_once_each_time_that_it_is_due() -> None:
    index, facts = built(an_index(schedule="0 * * * *"))
    before = index_plan(index, facts, now=NOW.replace(hour=2, minute=59))
    assert jobs_of(before) == []
    assert before.requeue_after == 60.0 - NOW.second
    due = index_plan(index, facts)  # 03:04:05, built at 02:54:05
    assert len(jobs_of(due)) == 1
    fresh = replace(facts.builds[0], created_at=NOW - timedelta(minutes=2))
    assert jobs_of(index_plan(index, replace(facts, builds=(fresh,)))) == []


def test_edit_of_the_sources_builds_again_while_the_old_generation_serves() -> None:
    index, facts = built(an_index())
    other = {**DOCS, "include": ["*.md"]}
    edited = index.model_copy(update={"spec": an_index_spec(sources=[other]), "generation": 2})
    plan = index_plan(edited, facts)
    assert len(jobs_of(plan)) == 1
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Building")


def test_changed_config_map_is_indexed_again() -> None:
    index, facts = built(an_index())
    changed = NamedFacts(name="handbook", usable=True, keys=("a.md",), content_hash="content-2")
    plan = index_plan(index, replace(facts, config_maps={"handbook": changed}))
    assert len(jobs_of(plan)) == 1


def test_an_edit_stops_the_build_of_what_was_before() -> None:
    index = an_index()
    running = build_of(index)
    edited = an_index(generation=2, chunking={"tokens": 128, "overlap": 8})
    plan = index_plan(edited, running_facts(edited, builds=(running,)))
    assert job_of(plan)["metadata"]["labels"][labels.BUILD_GENERATION] == "g000002"
    assert [item.name for item in plan.deletions] == [running.name]


def test_failed_build_is_told_and_tried_again_into_the_same_generation() -> None:
    index = an_index()
    failed = ended(build_of(index), error=("SourceUnavailable", "The repository can't be reached."))
    facts = running_facts(index, builds=(failed,))
    soon = index_plan(index, facts, now=NOW - timedelta(seconds=55))
    assert jobs_of(soon) == []
    assert soon.requeue_after == 10.0
    assert shown(soon, "Indexed") == ("False", "SourceUnavailable")
    assert shown(soon, "Ready") == ("False", "SourceUnavailable")
    assert is_true(soon, "Stalled")
    later = index_plan(index, facts)
    job = job_of(later)
    assert job["metadata"]["labels"][labels.BUILD_GENERATION] == "g000001"
    assert job["metadata"]["annotations"][labels.ATTEMPT] == "2"
    assert shown(later, "Ready") == ("False", "SourceUnavailable")
    first = config_of(index_plan(index, running_facts(index)), failed.name)
    assert config_of(later, job["metadata"]["name"])["token"] != first["token"]
    # the failure stays in view while it is retried: Ready does not flip with every try
    retried = replace(build_of(index), attempt=2)
    before = index.model_copy(update={"status": later.status})
    during = index_plan(before, running_facts(index, builds=(retried,)))
    assert shown(during, "Indexed") == ("False", "SourceUnavailable")
    assert shown(during, "Ready") == ("False", "SourceUnavailable")
    # until it ends
    good = running_facts(index, a_retriever("g000001"), builds=(ended(retried),))
    assert shown(index_plan(before, good), "Indexed") == ("True", "Indexed")


def test_generation_that_was_complete_is_not_built_again() -> None:
    index = an_index()
    failed = ended(build_of(index), error=("RetrieverUnavailable", "It stayed away."))
    retriever = a_retriever(None, generations=(a_generation("g000001"),))
    plan = index_plan(index, running_facts(index, retriever, builds=(failed,)))
    assert job_of(plan)["metadata"]["labels"][labels.BUILD_GENERATION] == "g000002"


@pytest.mark.parametrize(
    "reason",
    [
        "SourceShrunk",
        "SourceTooLarge",
        "RobotsRefused",
        "RetrieverRefused",
        "EmbeddingRefused",
        "StoreFull",
        "IndexEmpty",
        "GateInvalid",
    ],
)
def test_build_that_would_fail_again_waits_for_a_reason(reason: str) -> None:
    index = an_index()
    failed = ended(build_of(index), error=(reason, "What was found; what to do."))
    facts = running_facts(index, builds=(failed,))
    plan = index_plan(index, facts, now=NOW + timedelta(days=1))
    assert jobs_of(plan) == []
    assert shown(plan, "Indexed") == ("False", reason)
    asked = an_index(requested="once more")
    assert len(jobs_of(index_plan(asked, facts))) == 1
    eased = an_index(maxShrinkPercent=100)
    assert len(jobs_of(index_plan(eased, facts))) == 1


@pytest.mark.parametrize(
    "reason",
    [
        "VolumeMissing",
        "RetrieverUnavailable",
        "KeyRefused",
        "EmbeddingUnavailable",
        "StoreUnavailable",
        "BuildFenced",
    ],
)
def test_build_that_may_succeed_is_tried_again(reason: str) -> None:
    index = an_index()
    failed = ended(build_of(index), error=(reason, "What was found; what to do."))
    plan = index_plan(index, running_facts(index, builds=(failed,)))
    assert len(jobs_of(plan)) == 1
    assert shown(plan, "Indexed") == ("False", reason)


@pytest.mark.parametrize(("code", "reason"), [(61, "SourceShrunk"), (80, "GateFailed"), (137, "BuildFailed")])
def test_build_without_a_report_is_told_by_its_exit_code(code: int, reason: str) -> None:
    index = an_index()
    failed = replace(ended(build_of(index), error=("X", "y")), result=None, exit_code=code)
    plan = index_plan(index, running_facts(index, builds=(failed,)))
    assert shown(plan, "Indexed") == ("False", reason)
    assert f"exit code {code}" in message(plan, "Indexed")


def test_a_refresh_that_fails_leaves_ready_true() -> None:
    index, facts = built(an_index(schedule="0 * * * *", freshness={"maxLag": "2h"}))
    failed = ended(
        replace(facts.builds[0], name="other", generation="g000002", created_at=NOW - timedelta(minutes=3)),
        error=("SourceUnavailable", "Away."),
    )
    facts = replace(facts, builds=(failed,))
    plan = index_plan(index, facts)
    assert shown(plan, "Ready") == ("True", "Ready")
    assert shown(plan, "Indexed") == ("False", "SourceUnavailable")
    assert shown(plan, "Fresh") == ("True", "Fresh")
    late = index_plan(index, facts, now=NOW + timedelta(hours=2))
    assert shown(late, "Fresh") == ("False", "Stale")
    assert shown(late, "Serving") == ("True", "Answering")


def test_lag_is_looked_at_when_it_runs_out() -> None:
    index, facts = built(an_index(schedule="0 3 1 * *", freshness={"maxLag": "40d"}))
    almost = EARLIER + timedelta(days=40) - timedelta(seconds=30)
    assert index_plan(index, facts, now=almost).requeue_after == 31.0


def test_lag_that_the_schedule_can_not_keep_is_refused() -> None:
    index, facts = built(an_index(schedule="0 3 * * *", freshness={"maxLag": "1h"}))
    plan = index_plan(index, facts)
    assert shown(plan, "Fresh") == ("False", "LagUnreachable")
    assert shown(plan, "Ready") == ("True", "Ready")


def test_gate_that_fails_keeps_the_old_generation_and_names_the_questions() -> None:
    index, facts = built(an_index())
    gated = index.model_copy(update={"spec": an_index_spec(qualityGate=GATE), "generation": 2})
    wanted = job_of(index_plan(gated, facts))["metadata"]
    figures = {"passed": False, "asked": 10, "recall": 0.7, "mrr": 0.5, "ndcg": 0.6, "failed": ["q3", "q7"]}
    failed = ended(
        replace(
            facts.builds[0],
            name=wanted["name"],
            generation="g000002",
            inputs=wanted["labels"][labels.BUILD_INPUTS],
            created_at=NOW,
        ),
        error=("GateFailed", "recall 0.700 is below 0.900"),
        gate=figures,
    )
    plan = index_plan(gated, replace(facts, builds=(failed,)))
    assert shown(plan, "GatePassed") == ("False", "GateFailed")
    assert "q3, q7" in message(plan, "GatePassed")
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert is_true(plan, "Stalled")
    assert plan.status.gate is not None
    assert plan.status.gate.failed == ["q3", "q7"]
    assert plan.status.serving_generation == "g000001"
    assert jobs_of(plan) == []


def test_gate_that_passes_shows_its_figures() -> None:
    index = an_index(qualityGate=GATE)
    figures = {"passed": True, "asked": 10, "recall": 1.0, "mrr": 0.9, "ndcg": 0.95}
    done = ended(build_of(index), gate=figures)
    plan = index_plan(index, running_facts(index, a_retriever("g000001"), builds=(done,)))
    assert shown(plan, "GatePassed") == ("True", "GatePassed")
    assert "recall 1.000" in message(plan, "GatePassed")
    gone = index.model_copy(update={"status": plan.status})
    kept = a_retriever(generations=(a_generation(gate=GateFacts(passed=True, asked=10, recall=1.0)),))
    assert shown(index_plan(gone, running_facts(gone, kept)), "GatePassed") == ("True", "GatePassed")


def test_gate_is_pending_before_the_first_build() -> None:
    index = an_index(qualityGate=GATE)
    assert shown(index_plan(index, running_facts(index)), "GatePassed") == ("Unknown", "Pending")


def test_pinned_generation_is_rolled_back_to_and_forth_again() -> None:
    index, facts = built(an_index())
    two = a_retriever("g000002", generations=(a_generation("g000001"), a_generation("g000002")))
    pinned = index.model_copy(update={"spec": an_index_spec(generation="g000001"), "generation": 2})
    plan = index_plan(pinned, replace(facts, retriever=two))
    assert plan.serve == "g000001"
    assert shown(plan, "Ready") == ("Unknown", "Swapping")
    back = replace(two, serving="g000001")
    plan = index_plan(pinned, replace(facts, retriever=back))
    assert plan.serve is None
    assert shown(plan, "Ready") == ("True", "Ready")
    assert "spec.generation pins" in message(plan, "Ready")
    newest = replace(facts.builds[0], generation="g000002")
    assert index_plan(index, replace(facts, retriever=back, builds=(newest,))).serve == "g000002"


def test_builds_of_a_pinned_index_do_not_serve() -> None:
    index = an_index(generation=1)
    pinned = index.model_copy(update={"spec": an_index_spec(generation="g000001")})
    plan = index_plan(pinned, running_facts(pinned, a_retriever("g000001")))
    assert config_of(plan, jobs_of(plan)[0])["serve"] is False


def test_pin_to_a_generation_that_is_not_kept_names_those_that_are() -> None:
    index, facts = built(an_index())
    pinned = index.model_copy(update={"spec": an_index_spec(generation="g000009"), "generation": 2})
    plan = index_plan(pinned, facts)
    assert plan.serve is None
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "GenerationUnknown")
    assert "there is: g000001" in message(plan, "Ready")


def test_a_generation_that_failed_the_gate_is_never_swapped_to() -> None:
    index, facts = built(an_index(qualityGate=GATE))
    bad = a_generation("g000002", gate=GateFacts(passed=False))
    two = a_retriever("g000001", generations=(a_generation("g000001"), bad))
    newest = replace(facts.builds[0], generation="g000002")
    assert index_plan(index, replace(facts, retriever=two, builds=(newest,))).serve is None
