# SPDX-License-Identifier: Apache-2.0
"""What the loader tells and the operator sizes of the catalogue's models agrees with what is published of them."""

import json
from collections.abc import Mapping

import pytest

from loader_testing.tensors import as_json, header
from nimblet.plan.artifact import Header
from nimblet.plan.devicesizing import DeviceDemand, size_on_devices, token_bytes
from nimblet.plan.layers import windowed_layers
from nimblet.plan.sizing import Demand, kv_cache_bytes, state_bytes
from nimblet.plan.task import CACHELESS
from nimblet_egress.errors import SourceError
from nimblet_loader.contract import encode
from nimblet_loader.modelfacts import Repository, repository_facts
from nimblet_loader.safetensors import parse_header
from tests.catalog.entries import BY_NAME
from tests.catalog.facts import known_facts, plain_facts, refusal
from tests.catalog.gguf import gguf_facts, is_lump
from tests.catalog.record import Figure

GIBIBYTE = 2**30
SHAPED = sorted(name for name, entry in BY_NAME.items() if entry.tensors)
QUANTIZED = [name for name in SHAPED if BY_NAME[name].gguf is not None]
MOST_TOKEN_BYTES = 130
"""Of a GGUF file's vocabulary and metadata a token, as the published sizes have it: merges, scores, templates."""


def header_of(name: str, **config: object) -> Header:
    """Return the header as the operator reads it off the wire."""
    entry = BY_NAME[name]
    facts = plain_facts(entry, **config) if config else known_facts(entry)
    return Header.model_validate_json(encode(facts))


def agrees(value: int, figure: Figure) -> bool:
    return abs(value - figure.value) <= figure.within * figure.value


def on(header: Header, *, gibibytes: int = 24, devices: int = 1, **more: object) -> DeviceDemand:
    fields: Mapping[str, object] = {"context_length": 8192, "parallel": 2, **more}
    return DeviceDemand(
        engine="VLLM", devices=devices, device_memory_bytes=gibibytes * GIBIBYTE, **json.loads(json.dumps(fields))
    )


@pytest.mark.parametrize("name", SHAPED)
def test_parameters_and_bytes_follow_from_the_shape(name: str) -> None:
    entry, told = BY_NAME[name], header_of(name)
    assert agrees(told.parameters, entry.parameters), f"{told.parameters} and {entry.parameters}"
    if entry.size is not None:
        assert agrees(told.tensor_bytes, entry.size), f"{told.tensor_bytes} and {entry.size}"


@pytest.mark.parametrize("name", [name for name in QUANTIZED if not is_lump(BY_NAME[name].tensors)])
def test_quantized_tensors_make_the_published_file(name: str) -> None:
    """Tensors by llama.cpp's mixture, and beside them no more than a vocabulary takes."""
    entry = BY_NAME[name]
    assert entry.gguf is not None
    assert entry.gguf.size is not None
    told, published = gguf_facts(entry, entry.gguf, known_facts(entry)), entry.gguf.size
    slack = published.within * published.value
    assert told.tensor_bytes <= published.value + slack
    assert published.value - slack <= told.tensor_bytes + MOST_TOKEN_BYTES * (told.vocab_size or 0)


@pytest.mark.parametrize("name", SHAPED)
def test_cache_of_a_token_is_the_published_one(name: str) -> None:
    told = header_of(name)
    assert token_bytes(told, on(told)) == BY_NAME[name].kv_kibibytes * 1024


@pytest.mark.parametrize("name", QUANTIZED)
def test_llamacpps_cache_of_a_window_is_the_published_one(name: str) -> None:
    """Of one window of tokens, where windowed layers hold as much as the others."""
    entry = BY_NAME[name]
    assert entry.gguf is not None
    stored = Header.model_validate_json(encode(gguf_facts(entry, entry.gguf, known_facts(entry))))
    demand = Demand(context_length=256, parallel=1, kv_cache_type="f16", prompt_cache_mebibytes=0, task=entry.task)
    wanted = 0 if stored.architecture in CACHELESS else entry.kv_kibibytes
    assert kv_cache_bytes(stored, demand) - state_bytes(stored, demand) == wanted * 1024 * 256


@pytest.mark.parametrize("name", SHAPED)
def test_context_is_what_the_model_was_made_for(name: str) -> None:
    assert header_of(name).context_length == BY_NAME[name].context


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - set(SHAPED)))
def test_what_is_pickled_is_refused_by_the_loader(name: str) -> None:
    found = refusal(BY_NAME[name])
    assert found is not None
    assert found.reason.name == "UnsafeFormat"


@pytest.mark.parametrize("name", ["chatglm3-6b", "nomic-embed-text"])
def test_code_of_a_repository_is_never_run(name: str) -> None:
    with pytest.raises(SourceError, match="needs code of the repository"):
        plain_facts(BY_NAME[name])


def test_windows_follow_the_models_own_pattern() -> None:
    counts = {name: sum(windowed_layers(header_of(name))) for name in SHAPED}
    assert {name: count for name, count in counts.items() if count} == {
        "embeddinggemma-300m": 20,
        "gemma-2-2b": 13,
        "gemma-2-9b": 21,
        "gemma-3-12b": 40,
        "gemma-3-1b": 22,
        "gemma-3-4b": 29,
        "gemma-4-e4b": 35,
        "gpt-oss-20b": 12,
        "neural-chat-7b": 32,
        "phi-3-mini": 32,
        "phi-4-mini": 32,  # longer than its context, so that it changes nothing
    }


def test_length_is_scaled_as_servers_scale_it() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert header_of("qwen3-8b", rope_scaling=yarn).context_length == 131072
    linear = {"type": "linear", "factor": 2.0}
    assert header_of("mistral-7b", rope_scaling=linear).context_length == 65536


@pytest.mark.parametrize(
    ("name", "gibibytes", "fits"),
    [
        ("llama-3.1-8b", 24, True),
        ("llama-3.1-8b", 16, False),
        ("qwen3-8b", 24, True),
        ("qwen3-8b", 20, False),
        ("qwen2.5-7b", 24, True),
        ("phi-4", 40, True),
        ("phi-4", 24, False),
        ("mixtral-8x7b", 80, False),
    ],
)
def test_models_on_one_device(name: str, gibibytes: int, *, fits: bool) -> None:
    header = header_of(name)
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
    found = header_of("llama-3.1-8b", quantization_config=config).quantization
    assert found is not None
    assert (found.method, found.bits, found.group_size) == told


def test_packed_words_are_counted_as_the_weights_they_hold() -> None:
    model = BY_NAME["llama-3.1-8b"]
    texts = {"config.json": as_json({**model.config, "quantization_config": {"quant_method": "awq", "bits": 4}})}
    told = parse_header(iter([header(packed())]))
    facts = repository_facts(Repository("", [told], texts, frozenset(texts)))
    assert facts.parameters == 16 * 128 * 8 + 128
    assert facts.tensor_types == {"F16": 512, "I32": 16 * 128 * 4 + 64}
