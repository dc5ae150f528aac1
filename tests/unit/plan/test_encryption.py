# SPDX-License-Identifier: Apache-2.0
"""Encrypted weights in the plan: where the key is mounted, what may hold it, and what the status tells."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from nimblet.api.compactmodel import CompactModel, CompactModelSpec
from nimblet.api.encryption import CACHE_ENCRYPTION_RULE, ENCRYPTION_RULE, KEY_RULE, LISTED_RULE
from nimblet.plan.exitcodes import LOADER_REASONS
from nimblet.plan.facts import FailureKind, SecretFacts
from tests.builders import (
    DIGEST,
    SMOLLM2_URI,
    a_model,
    a_secret,
    base_facts,
    child,
    failed_job,
    failing,
    kinds,
    plan_of,
    served,
    serving_facts,
    starting_facts,
)
from tests.conditions import message, shown

MANIFEST = "nimblet-encryption.json"
BROKER: dict[str, Any] = {"kbs": {"resource": "kbs:///default/weights/smollm2"}}
MOUNTED: dict[str, Any] = {"keySecretRef": {"name": "opener"}}
KEY = a_secret(name="opener", keys=("identity",), hosts=(), content_hash="k-1", for_weights=True)


def a_spec(key: dict[str, Any], **spec: object) -> dict[str, Any]:
    encryption = {"model": "acme/smollm2", "revision": "1", **key}
    return {
        "source": {"uri": SMOLLM2_URI, "encryption": encryption},
        "integrity": {"sha256": {MANIFEST: DIGEST}},
        **spec,
    }


def encrypted(key: dict[str, Any]) -> CompactModel:
    return a_model(**a_spec(key))


def pod_of(plan: Any) -> dict[str, Any]:
    pod: dict[str, Any] = child(plan.children, "Deployment")["spec"]["template"]["spec"]
    return pod


def test_a_secrets_key_is_mounted_into_the_loader_and_nothing_else() -> None:
    model = encrypted(MOUNTED)
    plan = plan_of(model, base_facts(model, weights_key=KEY))
    pod = pod_of(plan)
    (volume,) = [item for item in pod["volumes"] if item["name"] == "weights-key"]
    assert volume["secret"]["secretName"] == "opener"
    assert volume["secret"]["items"] == [{"key": "identity", "path": "identity"}]
    (loader,) = pod["initContainers"]
    assert [it["mountPath"] for it in loader["volumeMounts"] if it["name"] == "weights-key"] == [
        "/etc/nimblet/weights-key"
    ]
    assert "weights-key" not in json.dumps(pod["containers"])


@pytest.mark.parametrize("key", [BROKER, MOUNTED])
def test_the_resolver_gets_no_key(key: dict[str, Any]) -> None:
    model = encrypted(key)
    job = child(plan_of(model, base_facts(model, artifacts=())).children, "Job")
    assert "opener" not in json.dumps(job)
    assert "weights-key" not in json.dumps(job["spec"]["template"]["spec"]["volumes"])


def test_a_brokers_key_is_asked_for_inside_of_the_pod() -> None:
    model = encrypted(BROKER)
    pod = pod_of(plan_of(model, base_facts(model)))
    (loader,) = pod["initContainers"]
    (source,) = [json.loads(it["value"]) for it in loader["env"] if it["name"] == "NIMBLET_SOURCE"]
    assert source["encryption"]["resource"] == "default/weights/smollm2"
    assert "weights-key" not in json.dumps(pod["volumes"])


@pytest.mark.parametrize(
    ("found", "reason", "said"),
    [
        (None, "SecretMissing", "opener is not in namespace"),
        (replace(KEY, usable=False), "SecretNotUsable", "not labelled"),
        (replace(KEY, keys=("token",)), "SecretNotUsable", "no key `identity`"),
        (replace(KEY, for_weights=False), "SecretNotUsable", 'nimblet.dev/weights-key: "for-tests"'),
    ],
)
def test_a_secret_that_was_not_meant_to_decrypt_stops_before_any_pod(
    found: SecretFacts | None, reason: str, said: str
) -> None:
    model = encrypted(MOUNTED)
    plan = plan_of(model, base_facts(model, weights_key=found))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", reason)
    assert said in message(plan, "Stalled")
    assert plan.requeue_after is not None


def test_pods_that_have_decrypted_need_the_secret_no_more() -> None:
    model = served(encrypted(MOUNTED))
    plan = plan_of(model, serving_facts(model, weights_key=None))
    assert shown(plan, "Ready") == ("True", "Ready")


def test_the_status_tells_where_the_key_was_and_when_it_was_released() -> None:
    broker, mounted, plain = encrypted(BROKER), encrypted(MOUNTED), a_model()
    before = plan_of(broker, base_facts(broker)).status.artifact
    after = plan_of(broker, serving_facts(broker)).status.artifact
    secret = plan_of(mounted, serving_facts(mounted, weights_key=KEY)).status.artifact
    nothing = plan_of(plain, serving_facts(plain)).status.artifact
    assert before is not None
    assert after is not None
    assert secret is not None
    assert nothing is not None
    assert (before.key, after.key, secret.key, nothing.key) == ("KBS", "KeyReleased", "Secret", None)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (a_spec({}), KEY_RULE),
        (a_spec({**BROKER, **MOUNTED}), KEY_RULE),
        (a_spec(BROKER, integrity=None), ENCRYPTION_RULE),
        (a_spec(BROKER, cache={}), CACHE_ENCRYPTION_RULE),
    ],
)
def test_specs_that_contradict_themselves_are_refused(spec: dict[str, Any], rule: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        CompactModelSpec.model_validate(spec)
    assert rule.message in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        {"uri": "https://h.example/m.gguf"},
        {"uri": "ollama://m:q4"},
        {"quantization": "Q4_0"},
        {"files": ["*.gguf"]},
    ],
)
def test_a_manifest_needs_a_source_that_lists_its_files(source: dict[str, Any]) -> None:
    spec: dict[str, Any] = a_spec(BROKER)
    spec["source"] = {**spec["source"], **source}
    with pytest.raises(ValidationError) as caught:
        CompactModelSpec.model_validate(spec)
    assert LISTED_RULE.message in str(caught.value)


@pytest.mark.parametrize(
    "resource",
    ["default/weights/x", "kbs://host/a/b/c", "kbs:///a/b", "kbs:///a/b/c/d", "kbs:///a/../c", "kbs:///a/b/c?x"],
)
def test_a_resource_is_a_path_at_the_guests_own_broker(resource: str) -> None:
    with pytest.raises(ValidationError):
        CompactModelSpec.model_validate(a_spec({"kbs": {"resource": resource}}))


@pytest.mark.parametrize("code", sorted(LOADER_REASONS))
@pytest.mark.parametrize("kind", [FailureKind.EXITED, FailureKind.CRASH_LOOP])
def test_a_loader_that_says_nothing_is_told_by_its_exit_code(code: int, kind: FailureKind) -> None:
    failure = replace(failing(kind, "ended", exit_code=code), container="loader")
    plan = plan_of(a_model(), starting_facts(failure))
    assert shown(plan, "Ready") == ("False", LOADER_REASONS[code].value)
    assert f"exit code {code}" in message(plan, "Ready")


def test_a_servers_exit_code_is_not_taken_for_a_loaders() -> None:
    plan = plan_of(a_model(), starting_facts(failing(FailureKind.EXITED, "ended", exit_code=37)))
    assert shown(plan, "Ready") == ("False", "ContainerExited")


@pytest.mark.parametrize("code", [33, 34, 35])
def test_a_resolver_that_says_nothing_is_told_by_its_exit_code(code: int) -> None:
    model = encrypted(BROKER)
    plan = plan_of(model, base_facts(model, artifacts=(), jobs=(failed_job(model, result=None, exit_code=code),)))
    assert shown(plan, "Resolved") == ("False", LOADER_REASONS[code].value)
