# SPDX-License-Identifier: Apache-2.0
"""Which model server a plan chooses and why, and what is refused before any pod."""

from dataclasses import replace
from typing import Any

import pytest

from nimblet.api.compactmodel import CompactModelStatus
from nimblet.plan.result import Plan
from nimblet.plan.runtime.choice import RUNTIMES, Choice, choose_runtime
from nimblet.plan.runtime.interface import Wish, server_version
from nimblet.plan.stage import Problem
from nimblet.settings import Settings
from tests.builders import a_model, a_node, base_facts, child, kinds, plan_of, served, serving_facts, stored
from tests.conditions import message, shown
from tests.repositories import LLAMA_SAFETENSORS, safetensors_text

IMAGES = {name: f"registry.example/{name.lower()}:v1.2.3" for name in RUNTIMES}
CHAT = Wish(format="Safetensors", task="Chat")


def chosen(named: str, wish: Wish, images: dict[str, str] | None = None) -> Choice:
    choice = choose_runtime(named, wish, IMAGES if images is None else images)
    assert isinstance(choice, Choice)
    return choice


def refused(named: str, wish: Wish, images: dict[str, str] | None = None) -> str:
    choice = choose_runtime(named, wish, IMAGES if images is None else images)
    assert isinstance(choice, Problem)
    assert choice.reason == "RuntimeUnsuitable"
    return choice.message


def test_auto_takes_llamacpp_for_gguf_and_says_why_not_the_others() -> None:
    choice = chosen("Auto", Wish(format="GGUF", task="Chat"))
    assert choice.runtime.name == "LlamaCpp"
    assert choice.why.startswith("LlamaCpp loads GGUF files (")
    assert "VLLM loads Safetensors files, not GGUF" in choice.why
    assert "TGI loads Safetensors files, not GGUF" in choice.why


@pytest.mark.parametrize("hardware", ["cpu", "xeon", "nvidia", "amd", "intel-gpu", "gaudi"])
def test_auto_takes_vllm_for_safetensors_on_every_class(hardware: Any) -> None:
    choice = chosen("Auto", replace(CHAT, hardware=hardware))
    assert (choice.runtime.name, choice.image) == ("VLLM", IMAGES["VLLM"])
    assert "TGI would do, but comes after it" in choice.why


def test_auto_takes_tgi_where_there_is_no_image_of_vllm() -> None:
    choice = chosen("Auto", replace(CHAT, hardware="gaudi"), {**IMAGES, "VLLM": ""})
    assert choice.runtime.name == "TGI"
    assert "the administrator's settings name no image of VLLM for gaudi" in choice.why


def test_an_administrators_own_image_runs_where_none_is_published() -> None:
    assert chosen("Auto", Wish(format="GGUF", task="Chat", hardware="gaudi")).runtime.name == "LlamaCpp"


def test_a_named_server_is_taken_and_said_to_be_named() -> None:
    assert chosen("TGI", CHAT).why.startswith("TGI: named in runtime.name")


@pytest.mark.parametrize(
    ("named", "wish", "told"),
    [
        ("LlamaCpp", CHAT, "LlamaCpp loads GGUF files, not Safetensors"),
        ("VLLM", Wish(format="GGUF", task="Chat"), "VLLM loads Safetensors files, not GGUF"),
        ("LlamaCpp", Wish(format="GGUF", task="Chat", hardware="gaudi"), "LlamaCpp does not run on gaudi"),
        ("Auto", Wish(format="GGUF", task="Chat", hardware="gaudi"), "LlamaCpp does not run on gaudi"),
        ("TGI", replace(CHAT, task="Rerank"), "TGI does Chat, not Rerank"),
        ("Auto", replace(CHAT, task="Classify"), "VLLM does Chat, Embedding, Rerank, not Classify"),
        ("VLLM", replace(CHAT, kv_cache_type="q8_0"), "VLLM knows no KV cache of type q8_0"),
        ("TGI", replace(CHAT, chat_template=True), "TGI takes no chat template"),
        ("VLLM", replace(CHAT, own_keys=True), "VLLM takes one key and no file of keys"),
        ("TGI", replace(CHAT, key_version=2), "TGI takes one key at a time"),
    ],
)
def test_what_a_server_can_not_do_is_refused(named: str, wish: Wish, told: str) -> None:
    published = {name: image for name, image in IMAGES.items() if wish.hardware in RUNTIMES[name].classes}
    message = refused(named, wish, published)
    assert told in message
    assert "Set runtime.name to Auto" in message


def test_an_image_of_an_unread_version_is_told() -> None:
    why = chosen("VLLM", CHAT, {"VLLM": "registry.example/vllm:v0.40.1"}).why
    assert why.endswith("its flags were read of VLLM 0.26.0 and 0.32.0, not of 0.40.1")
    assert "flags" not in chosen("VLLM", CHAT, {"VLLM": "registry.example/vllm:v0.32.0-x86_64"}).why
    assert "flags" not in chosen("VLLM", CHAT, {"VLLM": "registry.example/mine:stable"}).why


@pytest.mark.parametrize(
    ("runtime", "image", "version"),
    [
        ("LlamaCpp", "ghcr.io/ggml-org/llama.cpp:server-cuda-b11434", "11434"),
        ("VLLM", "docker.io/vllm/vllm-openai-cpu:v0.32.0-x86_64", "0.32.0"),
        ("VLLM", "vault.example/gaudi/vllm-0.26.0-ptupstream-2.9.0@sha256:" + "0" * 64, "0.26.0"),
        ("TGI", "ghcr.io/huggingface/text-generation-inference:3.3.7-intel-cpu", "3.3.7"),
        ("TGI", "ghcr.io/huggingface/text-generation-inference@sha256:" + "1" * 64, ""),
    ],
)
def test_an_images_reference_tells_the_servers_version(runtime: str, image: str, version: str) -> None:
    assert server_version(RUNTIMES[runtime], image) == version


def planned(runtime: str, text: str | None = None, **spec: Any) -> Plan[CompactModelStatus]:
    model = a_model(runtime={"name": runtime}, **spec)
    artifact = stored(model, text) if text is not None else stored(model)
    return plan_of(model, base_facts(model, artifacts=(artifact,)))


def test_a_plan_refuses_before_any_pod_and_names_the_next_step() -> None:
    plan = planned("VLLM")
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Stalled") == ("True", "FormatMismatch")
    assert shown(plan, "Ready") == ("False", "FormatMismatch")


def test_a_broken_edit_of_the_runtime_leaves_what_serves() -> None:
    model = served(a_model())
    facts = serving_facts(a_model())
    edited = model.model_copy(
        update={
            "spec": model.spec.model_copy(
                update={"runtime": model.spec.runtime.model_copy(update={"name": "TGI"})}
            ),
            "generation": 2,
        }
    )
    # the source asked for the other format, and has none
    facts = replace(facts, artifacts=(*facts.artifacts, stored(edited)))
    plan = plan_of(edited, facts)
    assert "Deployment" not in kinds(plan)
    assert plan.deletions == ()
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "UpdateFailed")


@pytest.mark.parametrize(("runtime", "name"), [("Auto", "VLLM"), ("VLLM", "VLLM"), ("TGI", "TGI")])
def test_status_tells_the_server_its_version_and_why(runtime: str, name: str) -> None:
    plan = planned(runtime, safetensors_text())
    assert "Deployment" in kinds(plan)
    resolved = plan.status.resolved
    assert resolved is not None
    assert resolved.runtime == name
    assert resolved.image == (Settings().images.vllm if name == "VLLM" else Settings().images.tgi)
    assert name in resolved.why
    assert LLAMA_SAFETENSORS["architecture"] == "LlamaForCausalLM"


def test_pods_keep_their_server_when_the_settings_name_another_image() -> None:
    model = a_model()
    first = served(model)
    newer = Settings.model_validate({"images": {"llamacpp": "registry.example/llama.cpp:server-b12000"}})
    plan = plan_of(first, serving_facts(model), settings=newer)
    resolved = plan.status.resolved
    assert resolved is not None
    assert resolved.image == Settings().images.llamacpp
    assert shown(plan, "UpdateAvailable") == ("True", "NewerImages")


@pytest.mark.parametrize(("count", "made"), [(3, True), (2, False)])
def test_heads_that_the_devices_can_not_share_are_refused(count: int, made: bool) -> None:
    model = a_model(hardware={"profile": "nvidia", "count": count})
    node = a_node(resources={"nvidia.com/gpu": 4})
    artifact = stored(model, safetensors_text())
    plan = plan_of(model, base_facts(model, artifacts=(artifact,), nodes=(node,)))
    assert ("Deployment" in kinds(plan)) is made
    if not made:
        assert shown(plan, "Stalled") == ("True", "RuntimeUnsuitable")
        assert "9 attention heads can't be divided among 2 devices" in message(plan, "Stalled")


def test_the_cache_of_vllm_on_a_cpu_holds_whole_blocks() -> None:
    model = a_model(runtime={"name": "VLLM", "contextLength": 1000, "parallel": 1})
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, safetensors_text()),)))
    args = child(plan.children, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    held = int(args[args.index("--kv-cache-memory-bytes") + 1])
    assert held >= 1024 * 2 * 30 * 3 * 64 * 2  # eight blocks of 128 tokens, in 16 bits
