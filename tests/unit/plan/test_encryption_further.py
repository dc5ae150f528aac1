# SPDX-License-Identifier: Apache-2.0
"""Encrypted adapters and drafting models: keys of their own, refused like the model's, told in the status."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from nimblet.api.compactmodel import CompactModel, CompactModelSpec, CompactModelStatus
from nimblet.api.encryption import CACHE_ENCRYPTION_RULE, ENCRYPTION_RULE, LISTED_RULE
from nimblet.plan.facts import ModelFacts, SecretFacts
from nimblet.plan.modelloader import bindable
from tests.builders import (
    DIGEST,
    SETTINGS,
    SMOLLM2,
    SMOLLM2_URI,
    a_deployment,
    a_model,
    a_pod,
    a_secret,
    artifact_text,
    base_facts,
    child,
    kinds,
    plan_of,
    stored,
    stored_adapters,
    stored_draft,
)
from tests.conditions import message, shown
from tests.unit.plan.test_adapters import found

MANIFEST = "nimblet-encryption.json"
PINNED: Mapping[str, Any] = {"integrity": {"sha256": {MANIFEST: DIGEST}}}
BROKER: Mapping[str, Any] = {"kbs": {"resource": "kbs:///default/weights/legal"}}
MOUNTED: Mapping[str, Any] = {"keySecretRef": {"name": "opener"}}
KEY = a_secret(name="opener", keys=("identity",), hosts=(), content_hash="k-1", for_weights=True)


def sealed(uri: str, key: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encrypted source, pinned by its manifest."""
    encryption = {"model": "acme/legal", "revision": "1", **key}
    return {"source": {"uri": uri, "encryption": encryption}, **PINNED}


def with_adapter(key: Mapping[str, Any], **spec: Any) -> CompactModel:
    return a_model(adapters=[{"name": "legal", **sealed("hf://team/lora", key)}], **spec)


def with_draft(key: Mapping[str, Any], **spec: Any) -> CompactModel:
    return a_model(runtime={"speculative": {"type": "Draft", **sealed("hf://acme/draft", key)}}, **spec)


def resolved(model: CompactModel, **facts: Any) -> ModelFacts:
    """Return facts where all sources are resolved, and the Secret with the key is there."""
    further = stored_adapters(model, {"legal": found(digestSource="Spec")})
    if model.spec.runtime.speculative is not None:
        draft = artifact_text(uri="hf://acme/draft", header={**SMOLLM2, "parameters": 70_000_000})
        further = (stored_draft(model, draft),)
    known = {"artifacts": (stored(model), *further), "adapter_secrets": {"opener": KEY}}
    return base_facts(model, **{**known, **facts})


def pod_of(model: CompactModel) -> dict[str, Any]:
    pod: dict[str, Any] = child(plan_of(model, resolved(model)).children, "Deployment")["spec"]["template"]["spec"]
    return pod


MODELS = pytest.mark.parametrize(
    ("make", "container", "volume"),
    [(with_adapter, "loader-legal", "weights-key-legal"), (with_draft, "drafter", "draft-weights-key")],
    ids=["an adapter", "a drafting model"],
)


@MODELS
def test_the_key_is_mounted_into_the_one_container_that_decrypts(make: Any, container: str, volume: str) -> None:
    pod = pod_of(make(MOUNTED))
    [held] = [item for item in pod["volumes"] if item["name"] == volume]
    assert held["secret"]["secretName"] == "opener"
    having = [
        item["name"]
        for item in (*pod["initContainers"], *pod["containers"])
        if any(mount["name"] == volume for mount in item["volumeMounts"])
    ]
    assert having == [container]
    [loader] = [item for item in pod["initContainers"] if item["name"] == container]
    places = {mount["name"]: mount["mountPath"] for mount in loader["volumeMounts"]}
    assert places[volume] == "/etc/nimblet/weights-key"
    assert "opener" not in json.dumps([loader["args"], loader["env"]])


@MODELS
def test_a_brokers_key_is_asked_for_inside_of_the_pod(make: Any, container: str, volume: str) -> None:
    pod = pod_of(make(BROKER))
    [loader] = [item for item in pod["initContainers"] if item["name"] == container]
    source = json.loads(loader["env"][0]["value"])
    assert source["encryption"] == {"model": "acme/legal", "revision": "1", "resource": "default/weights/legal"}
    assert volume not in json.dumps(pod)


@MODELS
def test_the_resolver_gets_no_key(make: Any, container: str, volume: str) -> None:
    model = make(MOUNTED)
    job = child(plan_of(model, base_facts(model, adapter_secrets={"opener": KEY})).children, "Job")
    assert "opener" not in json.dumps(job)
    assert not {container, volume} & set(json.dumps(job).split('"'))


@pytest.mark.parametrize(
    ("key", "reason", "said"),
    [
        (None, "SecretMissing", "Secret opener is not in namespace"),
        (replace(KEY, usable=False), "SecretNotUsable", "not labelled"),
        (replace(KEY, for_weights=False), "SecretNotUsable", 'nimblet.dev/weights-key: "for-tests"'),
    ],
)
@pytest.mark.parametrize(("make", "whose"), [(with_adapter, "Adapter legal: "), (with_draft, "Drafting model: ")])
def test_a_secret_that_was_not_meant_to_decrypt_stops_before_any_pod(
    make: Any, whose: str, key: SecretFacts | None, reason: str, said: str
) -> None:
    model = make(MOUNTED)
    plan = plan_of(model, resolved(model, adapter_secrets={"opener": key} if key is not None else {}))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", reason)
    assert message(plan, "Stalled").startswith(whose)
    assert said in message(plan, "Stalled")
    assert plan.requeue_after is not None


@pytest.mark.parametrize("make", [with_adapter, with_draft])
def test_no_pod_gets_a_secret_that_was_named_while_the_model_was_suspended(make: Any) -> None:
    # given a model whose template names what nobody lends, and that has no pods yet
    asleep, unlent = make(MOUNTED, suspend=True), {"adapter_secrets": {"opener": replace(KEY, usable=False)}}
    made = child(plan_of(asleep, resolved(asleep, **unlent)).children, "Deployment")
    assert made["spec"]["replicas"] == 0
    # when it is woken
    awake, standing = make(MOUNTED), a_deployment(made["metadata"]["labels"]["nimblet.dev/revision"])
    plan = plan_of(awake, resolved(awake, **unlent, deployment=standing))
    # then it stays without
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", "SecretNotUsable")


def test_the_status_tells_where_each_key_is_and_when_it_was_released() -> None:
    for make in (with_adapter, with_draft):
        model = make(BROKER)
        facts = resolved(model)
        before = plan_of(model, facts)
        revision = child(before.children, "Deployment")["metadata"]["labels"]["nimblet.dev/revision"]
        after = plan_of(model, replace(facts, deployment=a_deployment(revision), pods=(a_pod(revision),)))
        assert [keys(plan.status) for plan in (before, after)] == [["KBS"], ["KeyReleased"]]
    plain = a_model(adapters=[{"name": "legal", "source": {"uri": "hf://team/lora"}}])
    assert keys(plan_of(plain, resolved(plain)).status) == [None]


def keys(status: CompactModelStatus) -> list[str | None]:
    """Return where the keys of all but the model are, as the status has it."""
    draft = [status.draft.key] if status.draft is not None else []
    return [*(adapter.key for adapter in status.adapters or ()), *draft]


def test_policies_learn_which_of_the_weights_are_plaintext_and_where_the_keys_are() -> None:
    own = sealed(SMOLLM2_URI, BROKER)
    cases: tuple[tuple[CompactModel, tuple[str, ...], set[str]], ...] = (
        (with_adapter(MOUNTED, **own), (), {"KBS", "Secret"}),
        (with_draft(BROKER, **own), (), {"KBS"}),
        (with_adapter(BROKER), ("the model",), {"KBS"}),
        (a_model(adapters=[{"name": "legal", "source": {"uri": "hf://a/b"}}], **own), ("adapter legal",), {"KBS"}),
    )
    for model, plain, places in cases:
        subject = bindable(model, SETTINGS, gate_image="")
        assert (subject.plain, set(subject.key_places)) == (plain, places)


CACHED: dict[str, Any] = {"cache": {}}


@pytest.mark.parametrize(
    ("make", "spec", "rule"),
    [
        (with_adapter, CACHED, CACHE_ENCRYPTION_RULE),
        (with_draft, CACHED, CACHE_ENCRYPTION_RULE),
        (with_adapter, {"adapters": [{"name": "a", **sealed("https://h/a", BROKER)}]}, LISTED_RULE),
    ],
)
def test_no_plaintext_goes_to_a_cache_and_no_manifest_to_a_url(make: Any, spec: dict[str, Any], rule: Any) -> None:
    given = make(BROKER).spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    with pytest.raises(ValidationError) as caught:
        CompactModelSpec.model_validate({**given, **spec})
    assert rule.message in str(caught.value)


@pytest.mark.parametrize("make", [with_adapter, with_draft])
def test_what_nobody_vouches_for_is_not_decrypted(make: Any) -> None:
    given = make(BROKER).spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for holder in (*given.get("adapters", ()), given.get("runtime", {}).get("speculative", {})):
        holder.pop("integrity", None)
    with pytest.raises(ValidationError) as caught:
        CompactModelSpec.model_validate(given)
    assert ENCRYPTION_RULE.message in str(caught.value)
