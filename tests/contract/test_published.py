# SPDX-License-Identifier: Apache-2.0
"""What the loader tells and the operator sizes of well-known models agrees with what is published of them."""

import json
from collections.abc import Mapping

import pytest

from loader_testing.tensors import as_json, header
from nimblet.plan.artifact import Header
from nimblet.plan.devicesizing import DeviceDemand, size_on_devices, token_bytes
from nimblet.plan.layers import windowed_layers
from nimblet.plan.sizing import Demand, kv_cache_bytes
from nimblet_loader.contract import HeaderFacts, encode
from nimblet_loader.modelfacts import Repository, repository_facts
from nimblet_loader.safetensors import parse_header
from tests.published import MODELS, Published

GIBIBYTE = 2**30
BY_NAME = {model.name: model for model in MODELS}


def facts_of(model: Published, **config: object) -> HeaderFacts:
    told = parse_header(iter([header(model.tensors)]))
    texts = {"config.json": as_json({**model.config, **config})}
    return repository_facts(Repository("", [told], texts, frozenset(texts)))


def header_of(model: Published, **config: object) -> Header:
    """Return the header as the operator reads it off the wire."""
    return Header.model_validate_json(encode(facts_of(model, **config)))


def on(header: Header, *, gibibytes: int = 24, devices: int = 1, **more: object) -> DeviceDemand:
    fields: Mapping[str, object] = {"context_length": 8192, "parallel": 2, **more}
    return DeviceDemand(
        engine="VLLM", devices=devices, device_memory_bytes=gibibytes * GIBIBYTE, **json.loads(json.dumps(fields))
    )


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_bytes_and_parameters_are_the_published_ones(name: str) -> None:
    model = BY_NAME[name]
    header = header_of(model)
    exact = model.source.startswith("total_size")
    assert header.tensor_bytes == pytest.approx(model.published_bytes, rel=0 if exact else 0.01)
    assert header.parameters * 2 == header.tensor_bytes


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_cache_of_a_token_is_the_published_one_in_both_sizings(name: str) -> None:
    model = BY_NAME[name]
    header = header_of(model)
    assert token_bytes(header, on(header)) == model.kv_kibibytes * 1024
    # llama.cpp's of one window of tokens, where windowed layers hold as much as the others
    demand = Demand(context_length=256, parallel=1, kv_cache_type="f16", prompt_cache_mebibytes=0)
    assert kv_cache_bytes(header, demand) == model.kv_kibibytes * 1024 * 256


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_context_is_what_the_model_was_made_for(name: str) -> None:
    assert header_of(BY_NAME[name]).context_length == BY_NAME[name].context


def test_windows_follow_the_models_own_pattern() -> None:
    counts = {name: sum(windowed_layers(header_of(model))) for name, model in BY_NAME.items()}
    assert {name: count for name, count in counts.items() if count} == {
        "Gemma-2-9B": 21,
        "Gemma-3-4B": 29,
        "Gemma-3-12B": 40,
        "Phi-3-mini-4k": 32,
    }


def test_length_is_scaled_as_servers_scale_it() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert header_of(BY_NAME["Qwen3-8B"], rope_scaling=yarn).context_length == 131072
    linear = {"type": "linear", "factor": 2.0}
    assert header_of(BY_NAME["Mistral-7B-v0.3"], rope_scaling=linear).context_length == 65536


@pytest.mark.parametrize(
    ("name", "gibibytes", "fits"),
    [
        ("Llama-3.1-8B", 24, True),
        ("Llama-3.1-8B", 16, False),
        ("Qwen3-8B", 24, True),
        ("Qwen3-8B", 20, False),
        ("Qwen2.5-7B-Instruct", 24, True),
        ("Phi-4", 40, True),
        ("Phi-4", 24, False),
        ("Mixtral-8x7B", 80, False),
    ],
)
def test_models_on_one_device(name: str, gibibytes: int, *, fits: bool) -> None:
    header = header_of(BY_NAME[name])
    assert size_on_devices(header, on(header, gibibytes=gibibytes)).fits is fits


def packed(dtype: str = "I32", rows: int = 16) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        "model.layers.0.mlp.up_proj.qweight": (dtype, (rows, 128)),
        "model.layers.0.mlp.up_proj.qzeros": ("I32", (1, 16)),
        "model.layers.0.mlp.up_proj.scales": ("F16", (1, 128)),
        "model.layers.0.input_layernorm.weight": ("F16", (128,)),
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, ("awq", 4, 128)),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, ("awq", 4, 64)),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, ("gptq", 4, None)),
        ({"quant_method": "fp8"}, ("fp8", 8, None)),
        ({"load_in_4bit": True, "quant_method": "bitsandbytes"}, ("bitsandbytes", 4, None)),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 8, "group_size": None}, "targets": ["Linear"]}
                },
            },
            ("compressed-tensors", 8, None),
        ),
        ({"quant_method": "Strange Name!"}, ("strange-name-", None, None)),
    ],
)
def test_quantization_is_told(config: dict[str, object], told: tuple[str, int | None, int | None]) -> None:
    found = header_of(BY_NAME["Llama-3.1-8B"], quantization_config=config).quantization
    assert found is not None
    assert (found.method, found.bits, found.group_size) == told


def test_packed_words_are_counted_as_the_weights_they_hold() -> None:
    model = BY_NAME["Llama-3.1-8B"]
    texts = {"config.json": as_json({**model.config, "quantization_config": {"quant_method": "awq", "bits": 4}})}
    told = parse_header(iter([header(packed())]))
    facts = repository_facts(Repository("", [told], texts, frozenset(texts)))
    assert facts.parameters == 16 * 128 * 8 + 128
    assert facts.tensor_types == {"F16": 512, "I32": 16 * 128 * 4 + 64}
