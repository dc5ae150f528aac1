# SPDX-License-Identifier: Apache-2.0
"""The truth table of an Assistant: what it names and what its gateway tells, and what the conditions then say."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nimblet import labels
from nimblet.plan.assistant import plan_invalid_assistant
from nimblet.plan.assistantfacts import AssistantFacts
from nimblet.plan.facts import Answer, ChildRef, FailureKind, Observation, WriteFailure
from nimblet.settings import Images, Settings
from tests.assistants import (
    a_gateway,
    a_reference,
    an_assistant,
    an_index,
    config,
    edited,
    gateway_revision,
    its_deployment,
    kinds,
    planned,
    references,
    served,
    serving,
)
from tests.builders import NOW, SETTINGS, child, failing
from tests.conditions import message, shown

FAILED = Observation(answer=Answer.FAILED, detail="ModelUnavailable: no answer", reason="ModelUnavailable")
DOWN: dict[str, Any] = {"serving": False, "reason": "OOMKilled", "message": "It was killed."}
STARTS: dict[str, Any] = {"serving": False, "reason": "Starting", "message": "It is starting."}
OWN_KEYS = {"name": "keys"}


def test_every_gateway_found_a_passage_and_got_a_token() -> None:
    plan = planned(an_assistant(replicas=2), serving(an_assistant(replicas=2)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("True", "Ready")
    assert message(plan, "Ready") == "All 2 replicas of this spec gave a passage and a token when asked."
    assert shown(plan, "Reconciling") is None
    assert shown(plan, "Stalled") is None
    assert plan.requeue_after is None
    assert plan.status.endpoint == "http://help-gateway.team.svc:8080/v1"
    assert plan.status.key_secret == "help-gateway-key"
    assert [(item.name, item.generation, item.chunks) for item in plan.status.indexes] == [
        ("handbook", "g000001", 40)
    ]


def test_second_look_at_the_same_facts_changes_nothing() -> None:
    assistant = served(an_assistant())
    again = planned(assistant, serving(assistant), now=NOW + timedelta(hours=1))
    assert again.status == assistant.status
    assert again.deletions == ()


def test_first_pass_makes_all_children_and_waits_for_the_gateway() -> None:
    plan = planned(an_assistant(replicas=2), references())
    assert kinds(plan) == [
        "Secret",
        "ServiceAccount",
        "NetworkPolicy",
        "Service",
        "PodDisruptionBudget",
        "ConfigMap",
        "Deployment",
    ]
    assert shown(plan, "Serving") == ("False", "Progressing")
    assert shown(plan, "Ready") == ("Unknown", "Progressing")


@pytest.mark.parametrize(
    ("facts", "reason", "words"),
    [
        (
            {"model": a_reference(found=False)},
            "ModelMissing",
            "CompactModel smollm2, named in modelRef, is not in",
        ),
        ({"model": a_reference(task="Embedding")}, "ModelTaskDiffers", "modelRef needs one of Chat"),
        ({"fallback": a_reference("nano", found=False)}, "ModelMissing", "nano, named in fallback.modelRef"),
        ({"fallback": a_reference("nano", task="Rerank")}, "ModelTaskDiffers", "fallback.modelRef needs"),
        ({"guard": a_reference("shield", found=False)}, "ModelMissing", "shield, named in guardRef"),
        ({"guard": a_reference("shield", task="Embedding")}, "ModelTaskDiffers", "one of Chat or Classify"),
        ({"guard": a_reference("shield", task="Classify")}, "InvalidSpec", "guardRef.blocked must name"),
        ({"indexes": (an_index(found=False),)}, "IndexMissing", "RetrievalIndex handbook, named in indexRefs"),
    ],
)
def test_what_is_missing_or_made_for_other_work_is_told_before_any_pod(
    facts: dict[str, Any], reason: str, words: str
) -> None:
    plan = planned(an_assistant(guardRef={"name": "shield"}), references(**facts))
    assert shown(plan, "Serving") == ("False", reason)
    assert shown(plan, "Ready") == ("False", reason)
    assert shown(plan, "Stalled") == ("True", reason)
    assert words in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)


@pytest.mark.parametrize(
    ("guard", "spec", "words"),
    [
        ({"task": "Chat"}, {"blocked": ["unsafe"]}, "is for a classifier"),
        ({"task": "Classify", "labels": ("ok", "bad")}, {"blocked": ["unsafe"]}, "has the labels ok, bad"),
    ],
)
def test_labels_that_the_guard_does_not_have_are_refused(
    guard: dict[str, Any], spec: dict[str, Any], words: str
) -> None:
    assistant = an_assistant(guardRef={"name": "shield", **spec})
    plan = planned(assistant, references(guard=a_reference("shield", **guard)))
    assert shown(plan, "Ready") == ("False", "InvalidSpec")
    assert words in message(plan, "Ready")


@pytest.mark.parametrize(
    ("facts", "reason", "status"),
    [
        ({"model": a_reference(**DOWN)}, "ModelNotServing", "False"),
        ({"model": a_reference(**STARTS)}, "ModelNotServing", "Unknown"),
        ({"guard": a_reference("shield", **DOWN)}, "ModelNotServing", "False"),
        ({"indexes": (an_index(**DOWN),)}, "IndexNotServing", "False"),
        ({"indexes": (an_index(**STARTS),)}, "IndexNotServing", "Unknown"),
        ({"indexes": (an_index(chunks=0),)}, "IndexEmpty", "False"),
    ],
)
def test_the_gateway_follows_what_it_answers_from(facts: dict[str, Any], reason: str, status: str) -> None:
    # Given an Assistant that serves, when one of its referents stops to
    assistant = served(an_assistant())
    plan = planned(assistant, serving(assistant, **facts))
    # Then it serves no more, whatever its pods said last, and its children stay
    assert shown(plan, "Serving") == ("False", reason)
    assert shown(plan, "Ready") == (status, reason)
    assert (shown(plan, "Stalled") is None) == (status == "Unknown")
    assert plan.deletions == ()


def test_one_index_of_two_that_is_away_leaves_it_serving_but_not_ready() -> None:
    assistant = an_assistant(indexRefs=[{"name": "handbook"}, {"name": "wiki"}])
    both = (an_index(), an_index("wiki"))
    revision = gateway_revision(assistant, references(indexes=both))
    facts = references(
        indexes=(an_index(), an_index("wiki", **DOWN)),
        deployment=its_deployment(assistant, revision),
        pods=(a_gateway(assistant, revision),),
    )
    plan = planned(assistant, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "IndexNotServing")
    assert "RetrievalIndex wiki, named in indexRefs, is not Serving: OOMKilled: It was killed." in message(
        plan, "Ready"
    )


def with_fallback(**fallback: Any) -> tuple[Any, AssistantFacts]:
    assistant = an_assistant(fallback={"modelRef": {"name": "nano"}})
    facts = references(fallback=a_reference("nano", **fallback))
    revision = gateway_revision(assistant, facts)
    deployment = its_deployment(assistant, revision)
    return assistant, replace(facts, deployment=deployment, pods=(a_gateway(assistant, revision),))


def test_a_fallback_keeps_it_serving_while_the_model_is_away() -> None:
    assistant, facts = with_fallback()
    partly = Observation(answer=Answer.PARTLY, detail="the fallback answers")
    pods = tuple(replace(pod, observation=partly) for pod in facts.pods)
    plan = planned(assistant, replace(facts, model=a_reference(**DOWN), pods=pods))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "ModelNotServing")


def test_a_fallback_that_is_away_is_told_and_does_no_harm() -> None:
    plan = planned(*with_fallback(**DOWN))
    assert shown(plan, "Ready") == ("True", "Ready")
    assert message(plan, "Ready").endswith("The fallback nano is not Serving.")


def test_grounding_off_needs_no_index_and_preferred_answers_without_one() -> None:
    off = an_assistant(grounding="Off", indexRefs=[])
    facts = references(indexes=())
    revision = gateway_revision(off, facts)
    up = replace(facts, deployment=its_deployment(off, revision), pods=(a_gateway(off, revision),))
    assert shown(planned(off, up), "Ready") == ("True", "Ready")
    assert message(planned(off, up), "Ready").startswith("All 1 replicas of this spec gave a token")
    preferred = an_assistant(grounding="Preferred")
    revision = gateway_revision(preferred, references())
    away = references(
        indexes=(an_index(**DOWN),),
        deployment=its_deployment(preferred, revision),
        pods=(a_gateway(preferred, revision),),
    )
    assert shown(planned(preferred, away), "Serving") == ("True", "Answering")
    assert shown(planned(preferred, away), "Ready") == ("False", "IndexNotServing")


@pytest.mark.parametrize(
    ("said", "serves", "ready"),
    [
        (FAILED, ("False", "SelfTestFailed"), ("False", "SelfTestFailed")),
        (replace(FAILED, reason="IndexEmpty"), ("False", "IndexEmpty"), ("False", "IndexEmpty")),
        (Observation(answer=Answer.UNPROVEN), ("False", "Starting"), ("Unknown", "Starting")),
        (replace(FAILED, answer=Answer.PARTLY), ("True", "Answering"), ("False", "SelfTestFailed")),
        (None, ("False", "Starting"), ("Unknown", "Starting")),
    ],
)
def test_what_the_gateway_tells_of_its_test_of_itself(
    said: Observation | None, serves: tuple[str, str], ready: tuple[str, str]
) -> None:
    assistant = an_assistant()
    revision = gateway_revision(assistant, references())
    plan = planned(assistant, serving(assistant, pods=(a_gateway(assistant, revision, observation=said),)))
    assert shown(plan, "Serving") == serves
    assert shown(plan, "Ready") == ready
    assert plan.requeue_after is None  # a gateway that says something else wakes it


def test_a_busy_gateway_after_an_operator_restart_keeps_serving_and_ready() -> None:
    assistant = served(an_assistant())
    revision = gateway_revision(assistant, references())
    busy = a_gateway(assistant, revision, observation=Observation(answer=Answer.BUSY))
    plan = planned(assistant, serving(assistant, pods=(busy,)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("True", "Ready")


def test_a_busy_gateway_that_answered_serves_on_whatever_keeps_the_spec_from_ready() -> None:
    assistant = edited(served(an_assistant()), replicas=2)
    revision = gateway_revision(assistant, references())
    busy = a_gateway(assistant, revision, observation=Observation(answer=Answer.BUSY, answered=True))
    plan = planned(assistant, serving(assistant, pods=(busy,)))
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("Unknown", "Starting")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.IMAGE_PULL, "ImagePullFailed"),
        (FailureKind.MOUNT, "MountFailed"),
        (FailureKind.OOM_KILLED, "OOMKilled"),
        (FailureKind.UNSCHEDULABLE, "Unschedulable"),
    ],
)
def test_a_failure_that_the_cluster_recorded_is_the_reason(kind: FailureKind, reason: str) -> None:
    assistant = an_assistant()
    revision = gateway_revision(assistant, references())
    pod = a_gateway(assistant, revision, ready=False, observation=None, failure=failing(kind))
    plan = planned(assistant, serving(assistant, pods=(pod,)))
    assert shown(plan, "Ready") == ("False", reason)


@pytest.mark.parametrize(
    ("facts", "reason", "ready"),
    [
        ({"model": a_reference("nano", found=False)}, "ModelMissing", ("False", "UpdateFailed")),
        ({"model": a_reference("nano", **DOWN)}, "ModelNotServing", ("False", "UpdateFailed")),
        ({"model": a_reference("nano", **STARTS)}, "ModelNotServing", ("Unknown", "ModelNotServing")),
    ],
)
def test_a_bad_edit_leaves_the_gateway_that_serves_alone_and_putting_it_right_heals(
    facts: dict[str, Any], reason: str, ready: tuple[str, str]
) -> None:
    # Given an Assistant that serves, when modelRef is set to a model that is not there, or does not serve
    before = served(an_assistant())
    after = edited(before, modelRef={"name": "nano"})
    up = serving(before)
    plan = planned(after, replace(up, **facts))
    # Then the older gateway serves on, untouched
    assert "Deployment" not in kinds(plan)
    assert "ConfigMap" not in kinds(plan)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ready
    assert reason in (plan.status.model_dump_json())
    policy = child(plan.children, "NetworkPolicy")
    assert policy == child(planned(before, up).children, "NetworkPolicy")
    # And when the new model serves, the gateway rolls to it
    healed = planned(after, replace(up, model=a_reference("nano")))
    assert "Deployment" in kinds(healed)
    assert shown(healed, "Serving") == ("True", "Answering")
    assert shown(healed, "Ready") == ("Unknown", "Progressing")
    assert shown(healed, "Stalled") is None


def test_a_model_that_is_not_resolved_yet_needs_nobody_and_makes_no_pod() -> None:
    model = a_reference(**STARTS, context_length=0)
    plan = planned(an_assistant(), references(model=model))
    assert shown(plan, "Ready") == ("Unknown", "ModelNotServing")
    assert "Deployment" not in kinds(plan)


def test_the_gateway_asks_for_the_adapter_that_the_spec_names() -> None:
    request = {"lora": [{"id": 0, "scale": 1.0}]}
    model = a_reference(adapters=("legal",), adapter_requests={"legal": json.dumps(request)})
    plan = planned(an_assistant(adapter="legal"), references(model=model))
    assert config(plan)["model"]["request"] == request
    assert "request" not in config(planned(an_assistant(), references(model=model)))["model"]
    early = planned(an_assistant(adapter="legal"), references(model=replace(model, adapter_requests={})))
    assert "Deployment" not in kinds(early)
    assert shown(early, "Ready") == ("Unknown", "Progressing")


def test_an_adapter_that_the_model_does_not_have_is_told_before_any_pod() -> None:
    model = a_reference(adapters=("legal",), adapter_requests={})
    plan = planned(an_assistant(adapter="other"), references(model=model))
    assert shown(plan, "Ready") == ("False", "AdapterMissing")
    assert "has no adapter other; it has: legal." in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)


def test_scaling_restarts_nobody_and_the_gateways_learn_how_many_share_the_limits() -> None:
    one, three = planned(an_assistant(), references()), planned(an_assistant(replicas=3), references())
    assert config(one)["replicas"] == 1
    assert config(three)["replicas"] == 3
    templates = [child(plan.children, "Deployment")["spec"]["template"] for plan in (one, three)]
    assert templates[0] == templates[1]
    assert one.status.configuration == three.status.configuration == config(one)["configuration"]


def test_an_edit_of_the_prompt_rolls_the_gateway_and_the_old_configuration_goes_last() -> None:
    before = served(an_assistant())
    after = edited(before, systemPrompt="Answer like a librarian.")
    old = ChildRef(kind="ConfigMap", name="help-gateway-old", uid="c1", labels={labels.CONFIG_HASH: "old"})
    up = serving(before, children=(old,))
    rolling = planned(after, up)
    assert config(rolling)["systemPrompt"] == "Answer like a librarian."
    assert shown(rolling, "Serving") == ("True", "Answering")
    assert rolling.deletions == ()
    revision = gateway_revision(after, up)
    done = replace(up, deployment=its_deployment(after, revision), pods=(a_gateway(after, revision),))
    assert [item.name for item in planned(after, done).deletions] == ["help-gateway-old"]


def test_suspended_is_neither_serving_nor_ready_nor_stalled() -> None:
    assistant = an_assistant(suspend=True)
    plan = planned(assistant, references())
    assert child(plan.children, "Deployment")["spec"]["replicas"] == 0
    assert shown(plan, "Serving") == ("False", "Suspended")
    assert shown(plan, "Ready") == ("False", "Suspended")
    assert shown(plan, "Stalled") is None
    gone = replace(serving(an_assistant()), model=a_reference(found=False))
    assert [item.name for item in planned(assistant, gone).deletions] == ["help-gateway"]


def test_newer_images_wait_for_an_edit() -> None:
    assistant = served(an_assistant())
    settings = Settings(images=Images(gateway="registry.example/gateway:2"))
    kept = planned(assistant, serving(assistant), settings=settings)
    assert shown(kept, "UpdateAvailable") == ("True", "NewerImages")
    assert kept.status.image == SETTINGS.images.gateway
    asked = assistant.model_copy(update={"restarted_at": "2026-01-02"})
    assert planned(asked, serving(assistant), settings=settings).status.image == "registry.example/gateway:2"


def test_a_status_that_names_another_image_than_the_pods_have_is_not_believed() -> None:
    assistant = served(an_assistant())
    facts = serving(assistant)
    assert facts.deployment is not None
    images = frozenset({assistant.status.image})
    forged = assistant.status.model_copy(update={"image": "evil.example/thief:1"})
    known = replace(facts, deployment=replace(facts.deployment, images=images))
    plan = planned(assistant.model_copy(update={"status": forged}), known)
    assert plan.status.image == SETTINGS.images.gateway


def test_a_refused_write_is_told_with_the_object() -> None:
    failure = WriteFailure(kind="Service", name="help-gateway", category="Conflict", message="not ours.")
    plan = planned(an_assistant(), serving(an_assistant(), write_failures=(failure,)))
    assert shown(plan, "Ready") == ("False", "Conflict")
    assert shown(plan, "Serving") == ("True", "Answering")


def test_invalid_spec_touches_nothing_and_keeps_serving() -> None:
    before = served(an_assistant()).status
    plan = plan_invalid_assistant(
        generation=2, status=before, errors="spec.grounding: unknown.", ready=True, now=NOW
    )
    assert plan.children == ()
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "InvalidSpec")
    assert plan.status.endpoint == before.endpoint


def test_invalid_spec_keeps_no_serving_once_no_gateway_is_ready() -> None:
    before, flaw = served(an_assistant()).status, "spec.grounding: unknown."
    plan = plan_invalid_assistant(generation=2, status=before, errors=flaw, ready=False, now=NOW)
    assert shown(plan, "Serving") == ("False", "InvalidSpec")
