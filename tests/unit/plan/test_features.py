# SPDX-License-Identifier: Apache-2.0
"""Suspend, restart, served name, chat template, own keys, access and scheduling in the plan."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nimblet import labels
from nimblet.plan.facts import ModelFacts, SecretFacts, TaintFacts, TextFacts
from nimblet.plan.result import Plan
from nimblet.settings import Images, Settings
from tests.builders import (
    SMOLLM2_URI,
    a_deployment,
    a_model,
    a_node,
    a_pod,
    a_secret,
    base_facts,
    child,
    edited,
    kinds,
    plan_of,
    revision_of,
    served,
    serving_facts,
)
from tests.conditions import message, shown

TEMPLATE = {"name": "prompts", "key": "chat.jinja"}
TEXT = TextFacts(name="prompts", keys=("chat.jinja",), content_hash="text-1")
OWN = {"apiKeysSecretRef": {"name": "mine"}}
KEYS = a_secret(name="mine", keys=("api-keys",), hosts=(), content_hash="keys-1")


def template_of(plan: Plan[Any]) -> dict[str, Any]:
    template: dict[str, Any] = child(plan.children, "Deployment")["spec"]["template"]
    return template


def server_of(plan: Plan[Any]) -> dict[str, Any]:
    server: dict[str, Any] = template_of(plan)["spec"]["containers"][0]
    return server


def test_suspended_keeps_all_but_the_pods() -> None:
    running = served(a_model(replicas=2))
    before = plan_of(running, serving_facts(running))
    suspended = edited(running, replicas=2, suspend=True)
    plan = plan_of(suspended, serving_facts(running))
    assert kinds(plan) == kinds(before)
    assert child(plan.children, "Deployment")["spec"]["replicas"] == 0
    assert template_of(plan) == template_of(before)
    assert plan.deletions == ()


def test_suspended_is_neither_serving_nor_ready_nor_stalled() -> None:
    model = a_model(suspend=True)
    facts = base_facts(model, deployment=a_deployment(revision_of(model), replicas=0, updated_replicas=0))
    plan = plan_of(model, facts)
    assert shown(plan, "Serving") == ("False", "Suspended")
    assert shown(plan, "Ready") == ("False", "Suspended")
    assert shown(plan, "Stalled") is None
    assert shown(plan, "Reconciling") is None
    assert plan.requeue_after is None


def test_suspended_starts_no_resolver() -> None:
    plan = plan_of(a_model(suspend=True), ModelFacts(nodes=(a_node(),), api_key="nk-1"))
    assert "Job" not in kinds(plan)
    assert shown(plan, "Resolved") == ("Unknown", "Suspended")
    assert shown(plan, "Ready") == ("False", "Suspended")


def test_suspending_a_broken_edit_stops_its_pods_all_the_same() -> None:
    old = a_model()
    broken = edited(served(old), runtime={"contextLength": 9000}, suspend=True)
    plan = plan_of(broken, serving_facts(old))
    assert [(item.kind, item.uid) for item in plan.deletions if item.kind == "Deployment"] == [
        ("Deployment", "uid-deployment")
    ]
    assert shown(plan, "Ready") == ("False", "Suspended")


def test_resumed_is_the_same_template() -> None:
    model = served(a_model())
    suspended = edited(model, suspend=True)
    resumed = edited(suspended)
    assert template_of(plan_of(resumed, serving_facts(model))) == template_of(plan_of(model, serving_facts(model)))


NEWER = Settings(images=Images(llamacpp="registry.example/llama.cpp:server-b2"))


def test_a_restart_changes_the_template_and_takes_newer_images() -> None:
    model = served(a_model())
    asked = model.model_copy(update={"restarted_at": "2026-01-02T03:04:05Z"})
    plan = plan_of(asked, serving_facts(model), settings=NEWER)
    assert template_of(plan)["metadata"]["annotations"] == {labels.RESTARTED_AT: "2026-01-02T03:04:05Z"}
    assert server_of(plan)["image"] == "registry.example/llama.cpp:server-b2"
    assert shown(plan, "Ready") == ("Unknown", "Progressing")


def test_taking_the_request_for_a_restart_away_restarts_nothing() -> None:
    asked = a_model().model_copy(update={"restarted_at": "now"})
    first = plan_of(asked, base_facts(asked))
    after = asked.model_copy(update={"restarted_at": "", "status": first.status})
    revision = child(first.children, "Deployment")["metadata"]["labels"][labels.REVISION]
    facts = base_facts(after, deployment=a_deployment(revision, restarted_at="now"), pods=(a_pod(revision),))
    plan = plan_of(after, facts, settings=NEWER)
    assert template_of(plan) == template_of(first)
    assert shown(plan, "UpdateAvailable") == ("True", "NewerImages")


@pytest.mark.parametrize("text", ["x" * 65, "two\nlines"])
def test_any_request_for_a_restart_is_good(text: str) -> None:
    asked = a_model().model_copy(update={"restarted_at": text})
    value = template_of(plan_of(asked, base_facts(asked)))["metadata"]["annotations"][labels.RESTARTED_AT]
    assert len(value) == 10


@pytest.mark.parametrize("fields", [{"suspend": True}, {"access": {"namespaces": ["a"]}}, {"replicas": 2}])
def test_what_restarts_no_pod_takes_no_newer_images(fields: dict[str, object]) -> None:
    model = served(a_model())
    plan = plan_of(edited(model, **fields), serving_facts(model), settings=NEWER)
    assert template_of(plan) == template_of(plan_of(model, serving_facts(model)))


def test_served_name_is_the_alias() -> None:
    named, plain = a_model(servedModelName="team/chat:1"), a_model()
    aliases = []
    for model in (named, plain):
        args = server_of(plan_of(model, base_facts(model)))["args"]
        aliases.append(args[args.index("--alias") + 1])
    assert aliases == ["team/chat:1", "smollm2"]


def test_chat_template_is_mounted_and_its_text_rolls_the_pods() -> None:
    model = a_model(runtime={"chatTemplate": TEMPLATE})
    plan = plan_of(model, base_facts(model, chat_template=TEXT))
    edit = plan_of(model, base_facts(model, chat_template=replace(TEXT, content_hash="text-2")))
    volume = {"name": "prompts", "items": [{"key": "chat.jinja", "path": "template.jinja"}]}
    assert {"name": "chat-template", "configMap": volume} in template_of(plan)["spec"]["volumes"]
    args = server_of(plan)["args"]
    assert args[args.index("--chat-template-file") + 1] == "/etc/nimblet/chat-template/template.jinja"
    assert template_of(plan)["spec"] == template_of(edit)["spec"]
    assert template_of(plan)["metadata"] != template_of(edit)["metadata"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "ConfigMap prompts is not in namespace team."),
        (replace(TEXT, keys=("other",)), "ConfigMap prompts has no key `chat.jinja`."),
        (replace(TEXT, content_hash=""), "The key `chat.jinja` of ConfigMap prompts holds no text."),
    ],
)
def test_missing_chat_template_stops_before_any_pod(found: TextFacts | None, said: str) -> None:
    model = a_model(runtime={"chatTemplate": TEMPLATE})
    plan = plan_of(model, base_facts(model, chat_template=found))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", "ConfigMapMissing")
    assert message(plan, "Ready").startswith(said)


def test_chat_template_that_goes_leaves_the_serving_pods_alone() -> None:
    model = a_model(runtime={"chatTemplate": TEMPLATE})
    first = plan_of(model, base_facts(model, chat_template=TEXT))
    revision = child(first.children, "Deployment")["metadata"]["labels"][labels.REVISION]
    plan = plan_of(model, base_facts(model, deployment=a_deployment(revision), pods=(a_pod(revision),)))
    assert "Deployment" not in kinds(plan)
    assert plan.deletions == ()
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")


def test_own_keys_are_mounted_beside_the_generated_one_and_roll_the_pods() -> None:
    model = a_model(access=OWN)
    plan = plan_of(model, base_facts(model, own_keys=KEYS))
    other = plan_of(model, base_facts(model, own_keys=replace(KEYS, content_hash="keys-2")))
    args = server_of(plan)["args"]
    files = [args[index + 1] for index, item in enumerate(args) if item == "--api-key-file"]
    assert files == ["/etc/nimblet/key/api-key", "/etc/nimblet/own-keys/api-key"]
    assert template_of(plan)["metadata"]["annotations"] == {labels.KEYS_HASH: "keys-1"}
    assert template_of(plan)["metadata"]["labels"] != template_of(other)["metadata"]["labels"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "SecretMissing"),
        (replace(KEYS, usable=False), "SecretNotUsable"),
        (replace(KEYS, keys=("other",)), "SecretNotUsable"),
    ],
)
def test_own_keys_that_can_not_be_used_stop_before_any_pod(found: SecretFacts | None, reason: str) -> None:
    model = a_model(access=OWN)
    plan = plan_of(model, base_facts(model, own_keys=found))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", reason)


def test_access_adds_callers_to_the_policy_and_changes_no_pod() -> None:
    plain = a_model()
    open_ = a_model(access={"namespaces": ["shop"], "namespaceSelector": {"matchLabels": {"tier": "front"}}})
    plan = plan_of(open_, base_facts(open_))
    policy = child(plan.children, "NetworkPolicy", "smollm2-model")["spec"]["ingress"]
    peers = [item.get("namespaceSelector", {}).get("matchLabels") for item in policy[0]["from"]]
    assert {"kubernetes.io/metadata.name": "shop"} in peers
    assert {"tier": "front"} in peers
    assert "shop" not in json.dumps(policy[1])
    assert template_of(plan) == template_of(plan_of(plain, base_facts(plain)))


POOL = {
    "nodeSelector": {"pool": "models"},
    "tolerations": [{"key": "dedicated", "value": "models", "effect": "NoSchedule"}],
    "podLabels": {"team": "blue"},
    "podAnnotations": {"example.com/note": "x"},
}


def test_scheduling_reaches_server_and_resolver() -> None:
    model = a_model(scheduling={**POOL, "priorityClassName": "high", "spread": [{"topologyKey": "zone"}]})
    job = child(plan_of(model, ModelFacts()).children, "Job")["spec"]["template"]
    server = template_of(plan_of(model, base_facts(model)))
    for template in (job, server):
        assert template["spec"]["nodeSelector"] == POOL["nodeSelector"]
        assert template["spec"]["tolerations"] == POOL["tolerations"]
        assert template["metadata"]["labels"]["team"] == "blue"
        assert template["metadata"]["annotations"] == POOL["podAnnotations"]
    assert server["spec"]["priorityClassName"] == "high"
    assert [item["topologyKey"] for item in server["spec"]["topologySpreadConstraints"]] == ["zone"]
    assert "priorityClassName" not in job["spec"]


def test_affinity_is_written_in_kubernetes_words() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    near = {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone"}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "podAffinityTerm": near}]
        },
    }
    model = a_model(scheduling={"affinity": affinity})
    assert template_of(plan_of(model, base_facts(model)))["spec"]["affinity"] == affinity


TAINTED = a_node("tainted", taints=(TaintFacts(key="dedicated", value="models"),))
POOLED = replace(TAINTED, name="pooled", labels={"pool": "models"})


@pytest.mark.parametrize(
    ("scheduling", "nodes", "said"),
    [
        ({}, (TAINTED,), "No node is tolerated by scheduling.tolerations: tainted has the taint "),
        (
            POOL,
            (a_node(),),
            "No node is chosen by scheduling: none of 1 has what nodeSelector pool=models asks for.",
        ),
        (POOL, (a_node(), POOLED), ""),
        ({"tolerations": [{"operator": "Exists"}]}, (TAINTED,), ""),
        ({"tolerations": [{"key": "dedicated", "value": "other"}]}, (TAINTED,), "No node is tolerated"),
        ({"tolerations": POOL["tolerations"]}, (replace(TAINTED, memory_bytes=1),), "No node is large enough"),
    ],
)
def test_placement_looks_at_the_nodes_that_scheduling_allows(
    scheduling: dict[str, object], nodes: tuple[Any, ...], said: str
) -> None:
    model = a_model(scheduling=scheduling)
    told = message(plan_of(model, base_facts(model, nodes=nodes)), "Placed")
    assert told.startswith(said or "No pod of this spec has a node yet.")


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["8"], True),
        ("NotIn", ["8"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["7"], True),
        ("Gt", ["8"], False),
        ("Lt", ["9"], True),
        ("Lt", ["x"], False),
    ],
)
def test_required_node_affinity_is_judged_as_the_scheduler_does(
    operator: str, values: list[str], fits: bool
) -> None:
    term = {"matchExpressions": [{"key": "cores", "operator": operator, "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    model = a_model(scheduling={"affinity": {"nodeAffinity": required}})
    node = replace(a_node(), labels={"cores": "8"})
    told = message(plan_of(model, base_facts(model, nodes=(node,))), "Placed")
    assert ("No node is chosen" in told) != fits


def test_credentials_and_own_keys_are_told_apart() -> None:
    model = a_model(source={"uri": SMOLLM2_URI, "credentialsSecretRef": {"name": "hub"}}, access=OWN)
    facts = base_facts(model, secret=a_secret(), own_keys=None)
    assert message(plan_of(model, facts), "Stalled").startswith("Secret mine is not in namespace team.")
