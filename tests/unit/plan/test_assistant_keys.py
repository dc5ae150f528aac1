# SPDX-License-Identifier: Apache-2.0
"""The keys of an Assistant: its own, its users', and that none is rendered but in its Secret."""

from dataclasses import replace

import pytest

from nimblet import labels
from nimblet.plan.facts import KeyFacts, SecretFacts
from tests.assistants import (
    a_gateway,
    an_assistant,
    gateway_revision,
    its_deployment,
    kinds,
    planned,
    references,
    served,
)
from tests.builders import child
from tests.conditions import shown

OWN_KEYS = {"name": "keys"}


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "SecretMissing"),
        (SecretFacts(name="keys", usable=False, hosts=(), keys=("ada",), content_hash="h"), "SecretNotUsable"),
    ],
)
def test_own_keys_that_can_not_be_used_stop_before_any_pod(secret: SecretFacts | None, reason: str) -> None:
    plan = planned(an_assistant(apiKeysSecretRef=OWN_KEYS), references(own_keys=secret))
    assert shown(plan, "Ready") == ("False", reason)
    assert "Deployment" not in kinds(plan)
    assert plan.requeue_after == 5


def test_own_keys_are_mounted_and_a_change_of_them_restarts_nobody() -> None:
    assistant = an_assistant(apiKeysSecretRef=OWN_KEYS)
    secret = SecretFacts(name="keys", usable=True, hosts=(), keys=("ada",), content_hash="h1")
    first = planned(assistant, references(own_keys=secret))
    later = planned(assistant, references(own_keys=replace(secret, keys=("ada", "bob"), content_hash="h2")))
    assert child(first.children, "Deployment") == child(later.children, "Deployment")
    volumes = {
        item["name"]: item for item in child(first.children, "Deployment")["spec"]["template"]["spec"]["volumes"]
    }
    assert [item["secret"]["name"] for item in volumes["keys"]["projected"]["sources"]] == [
        "keys",
        "help-gateway-key",
    ]


def test_a_key_is_rotated_by_gateways_that_accept_both() -> None:
    assistant = served(an_assistant(access={"keyVersion": 2}))
    revision = gateway_revision(an_assistant(), references())
    up = references(
        api_key="nk-2",
        other_keys={1: "nk-1"},
        key=KeyFacts(version=1),
        deployment=its_deployment(assistant, revision),
        pods=(a_gateway(assistant, revision),),
    )
    plan = planned(assistant, up)
    template = child(plan.children, "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"][labels.KEY_VERSIONS] == "1-2"
    keys = template["spec"]["volumes"][2]["projected"]["sources"][0]["secret"]
    assert keys["items"] == [
        {"key": "key-1", "path": "nimblet-generated-1"},
        {"key": "key-2", "path": "nimblet-generated-2"},
    ]
    assert sorted(child(plan.children, "Secret")["data"]) == ["api-key", "key-1", "key-2"]
    assert shown(plan, "Serving") == ("True", "Answering")


def test_no_key_is_in_the_configuration() -> None:
    text = child(planned(an_assistant(), references()).children, "ConfigMap")["data"]["config.json"]
    assert "nk-" not in text
