# SPDX-License-Identifier: Apache-2.0
"""Adapters: resolved as the model is, held against it before any pod, sized, missed where a server lacks them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from nimblet.api.adapter import ADAPTER_SOURCE_RULE, ADAPTER_TASK_RULE, ADAPTER_URL_RULE, UNIQUE_MESSAGE
from nimblet.api.compactmodel import CompactModel
from nimblet.conditions import Reason
from nimblet.plan.adapters import adapters_label, wanted_sources
from nimblet.plan.artifact import Header
from nimblet.plan.facts import Answer, ArtifactFacts, JobFacts, ModelFacts, Observation
from nimblet.plan.lora import lora_place_bytes, lora_rank
from nimblet.plan.modelloader import bindable
from nimblet.plan.runtime.interface import Wish
from nimblet.plan.runtime.llamacpp import LLAMACPP
from nimblet.plan.runtime.tgi import TGI
from nimblet.plan.runtime.vllm import VLLM
from tests.builders import (
    COMMIT,
    DIGEST,
    NOW,
    SETTINGS,
    SMOLLM2_FILE,
    a_deployment,
    a_header,
    a_model,
    a_pod,
    a_secret,
    a_spec,
    base_facts,
    child,
    edited,
    kinds,
    plan_of,
    served,
    serving_facts,
    stored,
    stored_adapters,
)
from tests.conditions import message, shown

URI = "hf://team/lora"
FILE = "lora.gguf"
LORA: Mapping[str, Any] = {"name": "legal", "source": {"uri": URI}}
PINNED: Mapping[str, Any] = {**LORA, "integrity": {"sha256": {FILE: DIGEST}}}
FITS: Mapping[str, Any] = {
    "rank": 8,
    "alpha": 16.0,
    "layers": 30,
    "embeddingLength": 576,
    "feedForwardLength": 1536,
}


def found(*, lora: Mapping[str, Any] | None = FITS, **fields: Any) -> dict[str, Any]:
    """Return what the resolver tells of an adapter."""
    header: dict[str, Any] = {
        "architecture": fields.pop("architecture", "llama"),
        "parameters": 1_000_000,
        "tensorBytes": 4_000_000,
        "contextLength": 0,
        "embeddingLength": 0,
        "blockCount": 0,
    }
    return {
        "version": 1,
        "uri": URI,
        "commit": COMMIT,
        "files": [{"path": FILE, "size": 4_001_000, "sha256": DIGEST}],
        "digestSource": "Source",
        "format": "GGUF",
        "header": {**header, "adapter": dict(lora)} if lora is not None else header,
        **fields,
    }


def with_adapter(**spec: Any) -> CompactModel:
    return a_model(**{"adapters": [dict(LORA)], **spec})


def known(model: CompactModel, *artifacts: ArtifactFacts, **facts: Any) -> ModelFacts:
    """Return facts where model and adapter are resolved; `artifacts` in place of a sound adapter's."""
    own = artifacts or stored_adapters(model, {"legal": found()})
    return base_facts(model, artifacts=(stored(model), *own), **facts)


def resolved(model: CompactModel, **fields: Any) -> ModelFacts:
    return known(model, *stored_adapters(model, {"legal": found(**fields)}))


def adapter_job(model: CompactModel, **fields: Any) -> JobFacts:
    """Return the adapter's resolver Job."""
    digest = wanted_sources(model, SETTINGS, {})[1]
    return replace(
        JobFacts(name=f"job-{digest}", uid="job-a", source_hash=digest, credentials_hash="", attempt=1), **fields
    )


def refused(reason: str) -> dict[str, Any]:
    report = {"version": 1, "error": {"reason": reason, "message": f"The hub said {reason}."}}
    return {"failed": True, "finished_at": NOW, "result": json.dumps(report)}


def test_an_adapter_is_resolved_by_a_job_of_its_own_before_any_pod() -> None:
    model = with_adapter()
    plan = plan_of(model, base_facts(model))
    job = child(plan.children, "Job")
    source = json.loads(job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    assert (source["uri"], source["adapter"]) == (URI, True)
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Resolved") == ("Unknown", "Resolving")
    assert message(plan, "Resolved").startswith("Adapter legal: ")


def test_two_adapters_of_one_source_share_its_job() -> None:
    model = a_model(adapters=[dict(LORA), {**LORA, "name": "other"}])
    assert kinds(plan_of(model, base_facts(model))).count("Job") == 1
    sound = stored_adapters(model, {"legal": found(), "other": found()})
    plan = plan_of(model, known(model, *sound))
    loaders = child(plan.children, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert [item["name"] for item in loaders] == ["loader", "loader-legal", "loader-other"]


def test_a_model_without_adapters_sees_nothing_of_them() -> None:
    plan = plan_of(a_model(), base_facts(a_model()))
    assert "adapter" not in json.dumps(plan.children, default=str)
    assert plan.status.adapters is None


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"architecture": "qwen2"}, Reason.ADAPTER_MISMATCH, "for the architecture qwen2, and the model is llama"),
        ({"lora": {**FITS, "embeddingLength": 2048}}, Reason.ADAPTER_MISMATCH, "embedding of 2048"),
        ({"lora": {**FITS, "layers": 31}}, Reason.ADAPTER_MISMATCH, "reaches layer 31, and the model has 30"),
        ({"lora": {**FITS, "feedForwardLength": 8192}}, Reason.ADAPTER_MISMATCH, "feed-forward layers of 8192"),
        ({"format": "Safetensors"}, Reason.FORMAT_MISMATCH, "is in Safetensors and the model in GGUF"),
        ({"lora": None}, Reason.NOT_AN_ADAPTER, "describes a model"),
        ({"files": [{"path": "a,b:1.gguf", "size": 9}]}, Reason.UNSAFE_PATH, "file's name"),
    ],
)
def test_what_the_server_could_not_load_stops_before_any_pod(
    fields: dict[str, Any], reason: Reason, words: str
) -> None:
    model = with_adapter()
    plan = plan_of(model, resolved(model, **fields))
    assert shown(plan, "Ready") == ("False", reason)
    assert words in message(plan, "Ready")
    assert "Deployment" not in kinds(plan)


@pytest.mark.parametrize("name", ["a,b", "a:9", "a=b", "a b", "$(POD_UID)", "a\n--tools", 'a"b', "é", "a;b"])
def test_no_name_of_a_source_reads_as_another_adapter_or_flag(name: str) -> None:
    model = with_adapter()
    plan = plan_of(model, resolved(model, files=[{"path": f"{name}.gguf", "size": 9}]))
    assert shown(plan, "Ready") == ("False", Reason.UNSAFE_PATH)
    assert "Deployment" not in kinds(plan)


def test_an_adapter_may_not_be_called_as_the_model_is() -> None:
    model = a_model(adapters=[{**LORA, "name": "smollm2"}])
    plan = plan_of(model, known(model, *stored_adapters(model, {"smollm2": found()})))
    assert shown(plan, "Ready") == ("False", Reason.INVALID_SPEC)


def test_a_broken_adapter_leaves_what_serves() -> None:
    before = served(a_model())
    model = edited(before, adapters=[dict(LORA)])
    live = serving_facts(before)
    facts = replace(live, jobs=(adapter_job(model, **refused("NotAnAdapter")),))
    plan = plan_of(model, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")
    assert shown(plan, "Resolved") == ("False", "NotAnAdapter")
    assert message(plan, "Resolved") == "Adapter legal: The hub said NotAnAdapter."
    assert "Deployment" not in kinds(plan)
    assert not [ref for ref in plan.deletions if ref.kind == "ConfigMap"]

    healed = plan_of(model, replace(known(model), deployment=live.deployment, pods=live.pods))
    assert "Deployment" in kinds(healed)
    assert shown(healed, "Ready") == ("Unknown", "Progressing")


def test_an_adapter_that_is_gone_from_the_spec_goes_when_no_pod_needs_it() -> None:
    old = with_adapter()
    model = edited(old)
    own = stored_adapters(old, {"legal": found()})
    facts = replace(serving_facts(model), artifacts=(stored(model), *own))
    assert [ref.name for ref in plan_of(model, facts).deletions] == [own[0].name]


def test_a_secret_of_an_adapter_goes_to_its_own_hosts_alone() -> None:
    source = {"uri": URI, "credentialsSecretRef": {"name": "own"}}
    model = a_model(adapters=[{**LORA, "source": source}])
    lacking = plan_of(model, base_facts(model))
    assert shown(lacking, "Ready") == ("False", Reason.SECRET_MISSING)
    assert message(lacking, "Ready").startswith("Adapter legal: Secret own is not")

    secret = a_secret(name="own", hosts=("models.example.com",))
    plan = plan_of(model, base_facts(model, adapter_secrets={"own": secret}))
    policies = child(plan.children, "ConfigMap", "smollm2-fetch")["data"]
    assert json.loads(policies["policy.json"])["credentialHosts"] == []
    assert json.loads(policies["adapter-legal.json"])["credentialHosts"] == ["models.example.com"]


@pytest.mark.parametrize(
    ("adapter", "source", "expected"),
    [(LORA, "Source", ("Unknown", "Pinned")), (PINNED, "Spec", ("True", "DigestsMatch"))],
)
def test_the_model_is_verified_with_all_of_its_adapters(
    adapter: Mapping[str, Any], source: str, expected: tuple[str, str]
) -> None:
    model = a_model(integrity={"sha256": {SMOLLM2_FILE: DIGEST}}, adapters=[dict(adapter)])
    own = stored(model)
    spec_digests = replace(own, text=own.text.replace('"digestSource":"Source"', '"digestSource":"Spec"'))
    facts = known(model, *stored_adapters(model, {"legal": found(digestSource=source)}))
    facts = replace(facts, artifacts=(spec_digests, *facts.artifacts[1:]))
    revision = child(plan_of(model, facts).children, "Deployment")["metadata"]["labels"]["nimblet.dev/revision"]
    serving = replace(facts, deployment=a_deployment(revision), pods=(a_pod(revision),))
    assert shown(plan_of(model, serving), "Verified") == expected


def test_ready_waits_until_the_server_lists_every_adapter() -> None:
    model = with_adapter()
    revision = child(plan_of(model, known(model)).children, "Deployment")["metadata"]["labels"][
        "nimblet.dev/revision"
    ]
    lacking = Observation(answer=Answer.PARTLY, reason="AdapterNotLoaded", detail="it has not loaded legal")
    facts = known(model, deployment=a_deployment(revision), pods=(a_pod(revision, observation=lacking),))
    plan = plan_of(model, facts)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", Reason.ADAPTER_NOT_LOADED)
    whole = replace(facts, pods=(a_pod(revision),))
    assert shown(plan_of(model, whole), "Ready") == ("True", "Ready")


def test_sizes_are_the_adapters_own_and_the_prompt_cache_is_off() -> None:
    model = with_adapter()
    sizing = plan_of(model, known(model)).status.sizing
    assert sizing is not None
    assert (sizing.adapter_bytes, sizing.prompt_cache_bytes) == (4_000_000, 0)
    deployment = child(plan_of(model, known(model)).children, "Deployment")
    server = deployment["spec"]["template"]["spec"]["containers"][0]
    plain = child(plan_of(a_model(), base_facts(a_model())).children, "Deployment")
    more = int(server["resources"]["requests"]["ephemeral-storage"])
    assert more > int(
        plain["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"]
    )


def test_a_server_with_places_keeps_one_of_the_largest_rank_for_each() -> None:
    header: Header = a_header()
    one = lora_place_bytes(header, (8,))
    # q and o: 576 + 576; k and v: 576 + 192; gate, up and down: 576 + 1536
    assert one == 30 * 8 * 2 * (2 * 1152 + 2 * 768 + 3 * 2112)
    assert lora_place_bytes(header, (5, 9)) == 2 * 2 * one
    assert lora_place_bytes(header, ()) == 0
    assert [lora_rank(ranks) for ranks in ((1,), (9, 4), (257,), (513,))] == [1, 16, 320, None]


def test_what_servers_can_not_do_with_adapters_is_told() -> None:
    scaled = Wish(format="Safetensors", task="Chat", adapter_ranks=(8,), adapter_scales=True)
    assert "scalePercent is LlamaCpp's" in VLLM.flaw(scaled)
    assert "scalePercent is LlamaCpp's" in TGI.flaw(scaled)
    assert LLAMACPP.flaw(scaled) == ""
    wide = Wish(format="Safetensors", task="Chat", adapter_ranks=(1024,))
    assert "up to rank 512, not 1024" in VLLM.flaw(wide)


def test_policies_look_at_adapters_too() -> None:
    ref = {"name": "sig", "key": "model.sig"}
    signature = {"signature": {"bundleRef": ref, "key": {"publicKeyRef": ref}}}
    signed = a_model(integrity=signature, adapters=[{**LORA, "integrity": signature}])
    half = a_model(integrity=signature, adapters=[dict(LORA)])
    assert bindable(signed, SETTINGS, gate_image="").signed is True
    assert bindable(half, SETTINGS, gate_image="").signed is False
    assert bindable(half, SETTINGS, gate_image="").plain == ("the model", "adapter legal")


def test_the_label_tells_server_and_names_in_their_order() -> None:
    one, other = adapters_label(("a", "b"), runtime="VLLM"), adapters_label(("b", "a"), runtime="VLLM")
    assert one.startswith("VLLM-")
    assert one != other


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"adapters": [LORA, LORA]}, UNIQUE_MESSAGE),
        ({"adapters": [LORA], "task": "Embedding"}, ADAPTER_TASK_RULE.message),
        ({"adapters": [{**LORA, "source": {"uri": "ollama://a"}}]}, ADAPTER_SOURCE_RULE.message),
        ({"adapters": [{**LORA, "source": {"uri": URI, "quantization": "F16"}}]}, ADAPTER_SOURCE_RULE.message),
        ({"adapters": [{**LORA, "source": {"uri": "https://h/a.gguf"}}]}, ADAPTER_URL_RULE.message),
        ({"adapters": []}, "at least 1 item"),
        ({"adapters": [{**LORA, "name": f"a{number}"} for number in range(9)]}, "at most 8 items"),
        ({"adapters": [{**LORA, "name": "A b"}]}, "should match pattern"),
        ({"adapters": [{**LORA, "scalePercent": 0}]}, "greater than or equal to 1"),
    ],
)
def test_specs_that_are_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        a_spec(**spec)
    assert words in str(caught.value)
