# SPDX-License-Identifier: Apache-2.0
"""Guessing ahead: the argv of each server, what each can't do, and the memory that checking takes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from nimblet.api.modelruntime import ModelRuntime
from nimblet.plan.artifact import Format
from nimblet.plan.facts import ModelFacts
from nimblet.plan.result import Plan
from nimblet.plan.runtime.choice import RUNTIMES, runtime_flaw
from nimblet.plan.runtime.interface import Speculation, Wish
from nimblet.plan.sizing import Demand, compute_bytes, size_model
from nimblet.plan.speculative import speculation_of
from tests.builders import (
    GEMMA3_270M,
    MINILM,
    SMOLLM2,
    a_header,
    a_model,
    a_secret,
    a_serve,
    artifact_text,
    base_facts,
    child,
    kinds,
    plan_of,
    stored,
    stored_draft,
)
from tests.conditions import message, shown
from tests.repositories import safetensors_text

NGRAM = Speculation(type="NGram", draft_tokens=8)
DRAFT = Speculation(type="Draft", draft_tokens=4, least_tokens=2, model_file="d/m.gguf", folder="d")
DEMAND = Demand(context_length=2048, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=64)
IMAGES = {name: f"registry.example/{name.lower()}:v1" for name in RUNTIMES}


def options(runtime: str, speculation: Speculation, **serve: Any) -> dict[str, str]:
    """Return what the argv says of guessing ahead, by flag."""
    args = list(RUNTIMES[runtime].container(a_serve(speculation=speculation, **serve)).args)
    return {name: value for name, value in pairwise(args) if name.startswith("--spec")}


def refused(runtime: str, speculation: Speculation, *, parallel: int = 2) -> str:
    format_: Format = "GGUF" if runtime == "LlamaCpp" else "Safetensors"
    wish = Wish(format=format_, task="Chat", speculation=speculation, parallel=parallel)
    return runtime_flaw(RUNTIMES[runtime], wish, IMAGES)


def test_without_it_no_server_is_told_anything() -> None:
    for runtime in RUNTIMES.values():
        assert not [word for word in runtime.container(a_serve()).args if word.startswith("--spec")]


def test_llamacpp_looks_into_the_requests_own_text_alone() -> None:
    assert options("LlamaCpp", NGRAM) == {
        "--spec-type": "ngram-simple",
        "--spec-ngram-simple-size-n": "6",
        "--spec-ngram-simple-size-m": "8",
    }
    assert options("LlamaCpp", replace(NGRAM, ngram_size=3))["--spec-ngram-simple-size-n"] == "3"


def test_llamacpp_drafts_on_the_same_devices() -> None:
    told = {
        "--spec-type": "draft-simple",
        "--spec-draft-model": "/draft/d/m.gguf",
        "--spec-draft-n-max": "4",
        "--spec-draft-n-min": "2",
    }
    assert options("LlamaCpp", DRAFT) == told
    assert options("LlamaCpp", DRAFT, hardware="nvidia") == {**told, "--spec-draft-ngl": "all"}


def test_vllm_is_given_json_of_our_own() -> None:
    told = json.loads(options("VLLM", NGRAM)["--speculative-config"])
    assert told == {
        "method": "ngram",
        "num_speculative_tokens": 8,
        "prompt_lookup_max": 4,
        "prompt_lookup_min": 4,
    }
    drafted = json.loads(options("VLLM", replace(DRAFT, folder="$(X)"))["--speculative-config"])
    assert drafted == {"method": "draft_model", "model": "/draft/$$(X)", "num_speculative_tokens": 4}


def test_tgi_is_given_the_number_of_tokens() -> None:
    assert options("TGI", NGRAM) == {"--speculate": "8"}


@pytest.mark.parametrize(
    ("runtime", "speculation", "parallel", "told"),
    [
        (
            "LlamaCpp",
            replace(NGRAM, draft_tokens=5),
            2,
            "guesses nothing where draftTokens (5) is below ngramSize (6)",
        ),
        ("LlamaCpp", replace(NGRAM, draft_tokens=64), 32, "a parallel of 32 leaves 63 draftTokens"),
        ("VLLM", DRAFT, 2, "takes no speculative.minDraftTokens"),
        ("TGI", DRAFT, 2, "TGI takes no drafting model"),
        ("TGI", replace(NGRAM, ngram_size=3), 2, "takes no speculative.ngramSize"),
    ],
)
def test_what_a_server_can_not_do_is_refused(
    runtime: str, speculation: Speculation, parallel: int, told: str
) -> None:
    assert told in refused(runtime, speculation, parallel=parallel)


@pytest.mark.parametrize(("runtime", "speculation"), [("LlamaCpp", NGRAM), ("LlamaCpp", DRAFT), ("VLLM", NGRAM)])
def test_what_a_server_can_do_is_taken(runtime: str, speculation: Speculation) -> None:
    assert refused(runtime, speculation) == ""


def test_a_refusal_is_told_before_any_pod() -> None:
    model = a_model(runtime={"speculative": {"type": "NGram", "draftTokens": 2}})
    plan = plan_of(model, base_facts(model))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", "RuntimeUnsuitable")
    assert "draftTokens (2) is below ngramSize (6)" in message(plan, "Ready")


def test_a_spec_that_leaves_sizes_open_gets_them() -> None:
    asked = ModelRuntime.model_validate({"speculative": {"type": "NGram"}})
    assert speculation_of(asked) == Speculation(type="NGram", draft_tokens=16)
    assert speculation_of(ModelRuntime()) is None


def test_the_logits_of_guesses_are_counted() -> None:
    guessing = replace(DEMAND, draft_tokens=16)
    # 4 bytes x 49,152 tokens x 2 slots x 16 guesses; in the graph they take the room of a layer's tensors
    assert compute_bytes(a_header(), guessing) - compute_bytes(a_header(), DEMAND) == 4 * 49_152 * 2 * 16
    # of a large vocabulary and narrow layers they take more: 512 x 4 x (3 x 2048 + 5 x 640) is a layer's room
    logits, layer = 4 * 262_144 * 2 * 16, 512 * 4 * (3 * 2048 + 5 * 640)
    header = a_header(GEMMA3_270M)
    assert compute_bytes(header, guessing) - compute_bytes(header, DEMAND) == logits + (logits - layer)


def test_the_arithmetic_names_the_guesses() -> None:
    sizing = size_model(a_header(), replace(DEMAND, draft_tokens=16))
    assert any("logits of 17 tokens a slot" in line for line in sizing.formula)
    assert not any("a slot" in line for line in size_model(a_header(), DEMAND).formula)


def test_guessing_ahead_changes_the_pods_memory() -> None:
    def memory(**runtime: object) -> str:
        model = a_model(runtime=runtime)
        deployment = child(plan_of(model, base_facts(model)).children, "Deployment")
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])

    assert memory(speculative={"type": "NGram"}) != memory()


SMALL = {**SMOLLM2, "parameters": 50_000_000, "tensorBytes": 40_000_000, "vocabulary": "0" * 16}
SOURCE = {"uri": "hf://acme/small-GGUF"}


def a_drafted(source: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Return a model with a drafting model, whose source is `source`."""
    return a_model(runtime={"speculative": {"type": "Draft", "source": source or SOURCE, **fields}})


def drafted_facts(model: Any, draft: str, *, base: str | None = None) -> ModelFacts:
    text = base or artifact_text(header={**SMOLLM2, "vocabulary": "0" * 16})
    return base_facts(model, artifacts=(stored(model, text), stored_draft(model, draft)))


def drafted(header: dict[str, Any], **fields: Any) -> Plan[Any]:
    model = a_drafted()
    return plan_of(model, drafted_facts(model, artifact_text(header=header, **fields)))


def test_a_drafting_model_is_resolved_beside_the_model() -> None:
    model = a_drafted()
    plan = plan_of(model, base_facts(model))
    assert shown(plan, "Resolved") == ("False", "Resolving") or shown(plan, "Resolved") == ("Unknown", "Resolving")
    assert message(plan, "Resolved").startswith("Drafting model: ")
    assert "Deployment" not in kinds(plan)
    assert kinds(plan).count("Job") == 1


def test_a_drafting_model_is_fetched_to_a_volume_of_its_own() -> None:
    plan = drafted(SMALL)
    spec = child(plan.children, "Deployment")["spec"]["template"]["spec"]
    assert [item["name"] for item in spec["initContainers"]] == ["loader", "drafter"]
    mounts = {item["name"]: item["mountPath"] for item in spec["containers"][0]["volumeMounts"]}
    assert mounts["draft-models"] == "/draft"
    args = spec["containers"][0]["args"]
    assert args[args.index("--spec-draft-model") + 1].startswith("/draft/")
    assert plan.status.draft is not None
    assert plan.status.draft.parameters == 50_000_000
    assert plan.status.sizing is not None
    assert (plan.status.sizing.draft_bytes or 0) > 40_000_000


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({**SMALL, "vocabSize": 49_152 + 129}, "its vocabulary has 49281 tokens, and the model's 49152"),
        ({**SMALL, "vocabulary": "1" * 16}, "the tokens of its vocabulary are others"),
        ({**SMALL, "parameters": 200_000_000}, "it has 200M parameters, and the model 135M"),
        ({**MINILM, "vocabSize": 49_152}, "it makes no text (bert)"),
    ],
)
def test_a_model_that_can_not_draft_is_told_before_any_pod(header: dict[str, Any], told: str) -> None:
    plan = drafted(header)
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", "DraftMismatch")
    assert told in message(plan, "Ready")


def test_a_padded_vocabulary_fits_llamacpp() -> None:
    assert "Deployment" in kinds(drafted({**SMALL, "vocabSize": 49_152 + 128}))


def test_a_draft_in_another_format_is_told() -> None:
    model = a_drafted()
    plan = plan_of(model, drafted_facts(model, safetensors_text()))
    assert shown(plan, "Stalled") == ("True", "FormatMismatch")
    assert "Drafting model: it is in Safetensors" in message(plan, "Ready")


def test_a_model_may_draft_for_itself() -> None:
    model = a_drafted({"uri": a_model().spec.source.uri})
    plan = plan_of(model, base_facts(model))
    assert "Deployment" in kinds(plan)
    assert kinds(plan).count("Job") == 0


def test_the_secret_of_a_drafting_model_is_looked_at_and_goes_to_its_own_hosts() -> None:
    model = a_drafted({**SOURCE, "credentialsSecretRef": {"name": "other"}})
    plan = plan_of(model, base_facts(model))
    assert shown(plan, "Ready") == ("False", "SecretMissing")
    assert message(plan, "Ready").startswith("Drafting model: Secret other")
    secret = a_secret(name="other", hosts=("hub.example",))
    facts = replace(base_facts(model), adapter_secrets={"other": secret})
    children: Sequence[Any] = plan_of(model, facts).children
    policies = next(item for item in children if item["metadata"]["name"].endswith("-fetch"))
    assert json.loads(policies["data"]["draft.json"])["credentialHosts"] == ["hub.example"]
    assert json.loads(policies["data"]["policy.json"])["credentialHosts"] == []


def test_the_vocabulary_is_asked_for_where_there_is_a_draft_alone() -> None:
    def asked(model: Any) -> list[bool]:
        children: Sequence[Any] = plan_of(model, replace(base_facts(model), artifacts=())).children
        pods = [item["spec"]["template"]["spec"] for item in children if item["kind"] == "Job"]
        return ["vocabulary" in json.loads(pod["containers"][0]["env"][0]["value"]) for pod in pods]

    assert asked(a_drafted()) == [True, True]
    assert asked(a_model(runtime={"speculative": {"type": "NGram"}})) == [False]
