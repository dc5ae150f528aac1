# SPDX-License-Identifier: Apache-2.0
"""Architectures that no pinned server, or not the named one, has code for are refused before any pod."""

from typing import Any

import pytest

from nimblet.plan.runtime.choice import RUNTIMES, choose_runtime, unknown
from nimblet.plan.runtime.interface import Wish
from nimblet.plan.stage import Problem
from tests.builders import SETTINGS, a_model, base_facts, kinds, plan_of, stored
from tests.conditions import message, shown
from tests.repositories import LLAMA_SAFETENSORS, safetensors_text

IMAGES = {name: f"registry.example/{name.lower()}:v1.2.3" for name in RUNTIMES}


def wish(architecture: str, model_type: str, **more: Any) -> Wish:
    return Wish(
        format="Safetensors",
        task=more.pop("task", "Chat"),
        architecture=architecture,
        model_type=model_type,
        **more,
    )


@pytest.mark.parametrize(
    ("architecture", "model_type", "able"),
    [
        ("LlamaForCausalLM", "llama", {"VLLM", "TGI"}),
        ("Qwen3ForCausalLM", "qwen3", {"VLLM"}),
        ("Qwen3_5ForConditionalGeneration", "qwen3_5", {"VLLM"}),
        ("Gemma4ForConditionalGeneration", "gemma4", {"VLLM"}),
        ("PhiForCausalLM", "phi", {"VLLM", "TGI"}),
        ("MPTForCausalLM", "mpt", {"TGI"}),
        ("BaiChuanForCausalLM", "baichuan", {"TGI"}),
        ("QWenLMHeadModel", "qwen", set()),
        ("Phi4FlashForCausalLM", "phi4flash", set()),
    ],
)
def test_each_server_knows_what_it_publishes(architecture: str, model_type: str, able: set[str]) -> None:
    asked = wish(architecture, model_type)
    assert {name for name in ("VLLM", "TGI") if RUNTIMES[name].knows(asked)} == able
    assert bool(unknown(asked)) is not bool(able)


def test_gaudi_has_a_list_of_its_own() -> None:
    tgi = RUNTIMES["TGI"]
    assert tgi.knows(wish("Qwen3ForCausalLM", "qwen3", hardware="gaudi"))
    assert not tgi.knows(wish("Qwen3ForCausalLM", "qwen3", hardware="nvidia"))
    assert tgi.knows(wish("LlamaForCausalLM", "llama", hardware="gaudi"))


@pytest.mark.parametrize(
    ("architecture", "task", "known"),
    [
        ("BertModel", "Embedding", True),
        ("XLMRobertaForSequenceClassification", "Rerank", True),
        ("Qwen3ForSequenceClassification", "Rerank", True),
        ("Qwen3ForCausalLM", "Embedding", True),
        ("BertModel", "Chat", False),
        ("DebertaModel", "Embedding", False),
    ],
)
def test_vllm_makes_vectors_and_scores_of_what_generates(architecture: str, task: Any, *, known: bool) -> None:
    assert RUNTIMES["VLLM"].knows(wish(architecture, "", task=task)) is known


def test_a_named_server_that_does_not_know_it_names_the_one_that_does() -> None:
    found = choose_runtime("VLLM", wish("MPTForCausalLM", "mpt"), IMAGES)
    assert isinstance(found, Problem)
    assert found.reason == "RuntimeUnsuitable"
    assert "VLLM 0.32.0 knows no MPTForCausalLM (mpt). TGI would do." in found.message


def strange(**spec: Any) -> Any:
    header = {**LLAMA_SAFETENSORS, "architecture": "QWenLMHeadModel", "modelType": "qwen"}
    return a_model(**spec), safetensors_text(header=header)


def test_what_no_server_knows_makes_no_pod() -> None:
    model, text = strange()
    plan = plan_of(model, base_facts(model, artifacts=(stored(model, text),)))
    assert "Deployment" not in kinds(plan)
    assert shown(plan, "Ready") == ("False", "UnsupportedModel")
    assert "QWenLMHeadModel, which the pinned vLLM and TGI do not know" in message(plan, "Ready")


def test_the_administrator_may_vouch_for_newer_images() -> None:
    model, text = strange()
    settings = SETTINGS.model_copy(update={"extra_architectures": ("QWenLMHeadModel",)})
    facts = base_facts(model, artifacts=(stored(model, text, settings=settings),))
    assert "Deployment" in kinds(plan_of(model, facts, settings=settings))
