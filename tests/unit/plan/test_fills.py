# SPDX-License-Identifier: Apache-2.0
"""Fill Jobs of one claim: one at a time, none sweeps what another filled, and no older pod loses its way out."""

from dataclasses import replace

from tests.builders import a_deployment, a_model, a_pod, child, edited, kinds, plan_of, stored, stored_adapters
from tests.cached import FOLDER, RWX, a_claim, facts_of, filled
from tests.unit.plan.test_cache_further import (
    ADAPTER_FOLDER,
    DRAFT,
    LEGAL,
    answered,
    arguments,
    fill_of,
    folder_of,
    lora,
    resolved,
)


def test_an_older_pod_keeps_the_egress_that_its_drafter_fetches_by() -> None:
    model = a_model(**RWX, runtime=dict(DRAFT))
    facts = resolved(model, fills=(filled(),))  # as after the upgrade: the draft's folder is not filled yet
    old = a_pod("old", cache_folder=FOLDER, beside=frozenset({"drafter"}))
    live = a_deployment("old", cache_folder=FOLDER)
    plan = plan_of(model, replace(facts, pods=(old,), deployment=live))
    assert "Deployment" not in kinds(plan)
    assert child(plan.children, "NetworkPolicy", "smollm2-model")["spec"]["egress"] != []


def test_no_job_begins_while_another_folder_of_the_claim_is_being_filled() -> None:
    first, second = {**LEGAL, "name": "first"}, dict(LEGAL)
    model = a_model(**RWX, adapters=[{**first, "source": {"uri": "hf://team/first"}}, second])
    texts = {"first": lora("e" * 64), "legal": lora()}
    facts = facts_of(model, artifacts=(stored(model), *stored_adapters(model, texts)), claim=a_claim())
    under_way = fill_of(ADAPTER_FOLDER, succeeded=False, finished_at=None)
    plan = plan_of(model, replace(facts, fills=(filled(), under_way)))
    assert "Job" not in kinds(plan)


def test_a_stray_job_is_gone_before_the_next_begins() -> None:
    model = a_model(**RWX, adapters=[dict(LEGAL)])
    stray = fill_of("9" * 32, succeeded=False, finished_at=None)
    plan = plan_of(model, resolved(model, fills=(filled(), stray)))
    assert [ref.name for ref in plan.deletions if ref.kind == "Job"] == [stray.name]
    assert "Job" not in kinds(plan)
    assert plan.requeue_after is not None


def test_no_folder_is_swept_whose_job_still_tells_that_it_is_filled() -> None:
    broken = {"name": "other", "source": {"uri": "hf://team/nothing"}}
    before = answered(a_model(**RWX, adapters=[dict(LEGAL)]))
    model = edited(before, **RWX, adapters=[dict(LEGAL), broken])  # `other` is never resolved
    passed = fill_of("7" * 32)  # an edit before this one: filled, and never served, since `other` was lacking
    text = lora("b" * 64)
    known = facts_of(
        model,
        artifacts=(stored(model), *stored_adapters(model, {"legal": text})),
        claim=a_claim(),
        fills=(filled(), passed),
    )
    plan = plan_of(model, known)
    args = arguments([item for item in plan.children if "-fill-" in str(item["metadata"])])
    assert args[:2] == ["--folder", folder_of(text)]
    gone = [ref.name for ref in plan.deletions if ref.kind == "Job"]
    assert passed.name in gone or passed.folder in args


def test_what_is_under_way_goes_on_and_is_told() -> None:
    first, second = {"name": "first", "source": {"uri": "hf://team/first"}}, dict(LEGAL)
    model = a_model(**RWX, adapters=[first, second])
    texts = {"first": lora("e" * 64), "legal": lora()}
    facts = facts_of(model, artifacts=(stored(model), *stored_adapters(model, texts)), claim=a_claim())
    under_way = fill_of(ADAPTER_FOLDER, succeeded=False, finished_at=None, download_percent=40)
    plan = plan_of(model, replace(facts, fills=(filled(), under_way)))
    assert plan.deletions == ()
    ended = plan_of(model, replace(facts, fills=(filled(), fill_of(ADAPTER_FOLDER))))
    assert "Job" in kinds(ended)


def test_the_steady_state_writes_nothing_whatever_the_order_of_adapters() -> None:
    first, second = {"name": "first", "source": {"uri": "hf://team/first"}}, dict(LEGAL)
    texts = {"first": lora("e" * 64), "legal": lora()}
    fills = (filled(), fill_of(ADAPTER_FOLDER), fill_of(folder_of(texts["first"])))
    seen = []
    for order in ([first, second], [second, first]):
        model = a_model(**RWX, adapters=order)
        facts = facts_of(
            model, artifacts=(stored(model), *stored_adapters(model, texts)), claim=a_claim(), fills=fills
        )
        plan = plan_of(model, facts)
        again = plan_of(model.model_copy(update={"status": plan.status}), facts)
        assert again.status == plan.status
        assert again.deletions == ()
        seen.append(again.status.cache)
    assert seen[0] == seen[1]
