# SPDX-License-Identifier: Apache-2.0
"""Sizing on devices against figures computed by hand."""

import time
from dataclasses import replace
from typing import Any

import pytest

from nimblet.plan.artifact import Header
from nimblet.plan.devicesizing import (
    ENGINES,
    DeviceDemand,
    Engine,
    device_cache,
    device_weights,
    size_on_devices,
    split_problem,
    token_bytes,
    usable_bytes,
)
from nimblet.plan.enginesizing import size_engine
from nimblet.plan.sizing import Demand
from nimblet.plan.suggestion import NOTHING

GIBIBYTE = 2**30
DEMAND = DeviceDemand(engine="VLLM", devices=1, device_memory_bytes=24 * GIBIBYTE, context_length=8192, parallel=2)
LLAMA = {
    "architecture": "LlamaForCausalLM",
    "modelType": "llama",
    "parameters": 8_030_261_248,
    "tensorBytes": 16_060_522_496,
    "tensorTypes": {"BF16": 16_060_522_496},
    "contextLength": 131072,
    "embeddingLength": 4096,
    "blockCount": 32,
    "headCount": 32,
    "headCountKv": 8,
    "keyLength": 128,
    "valueLength": 128,
    "vocabSize": 128256,
}


def header(**overrides: Any) -> Header:
    return Header.model_validate({**LLAMA, **overrides})


def test_one_device_by_hand() -> None:
    sizing = size_on_devices(header(), DEMAND)
    weights = int(16_060_522_496 * 1.02)
    kv = 2 * 32 * 8 * 128 * 2 * 8192 * 2
    engine = 2355 * 2**20 + int(0.05 * weights)
    assert (sizing.weights_bytes, sizing.kv_cache_bytes, sizing.engine_bytes) == (weights, kv, engine)
    assert sizing.needed_bytes == weights + kv + engine
    assert sizing.usable_bytes == int(24 * GIBIBYTE * 0.92)
    assert (sizing.fits, sizing.shortage, sizing.suggestion) == (True, "", NOTHING)
    assert sizing.kv_token_bytes == 128 * 1024
    assert sizing.kv_tokens == (sizing.usable_bytes - weights - engine) // (128 * 1024)
    assert (sizing.host_bytes, sizing.host_millicores) == (8 * GIBIBYTE, 3000)


def test_devices_share_weights_and_heads() -> None:
    two, sixteen = replace(DEMAND, devices=2), replace(DEMAND, devices=16)
    assert device_weights(header(), two) == -(-int(16_060_522_496 * 1.02) // 2)
    assert device_cache(header(), two) == device_cache(header(), DEMAND) // 2
    # eight heads on sixteen devices: each holds one
    assert device_cache(header(), sixteen) == device_cache(header(), DEMAND) // 8
    assert size_on_devices(header(), two).host_bytes == 12 * GIBIBYTE


def test_heads_that_can_not_be_divided_are_told() -> None:
    sizing = size_on_devices(header(), replace(DEMAND, devices=3))
    assert (sizing.fits, sizing.suggestion) == (False, NOTHING)
    assert sizing.shortage == "32 attention heads can't be divided among 3 devices."


@pytest.mark.parametrize(
    ("kv_heads", "engine", "devices", "shared"),
    [
        (10, "VLLM", 2, True),
        (10, "VLLM", 4, False),  # Phi-4: vLLM's attention layers assert that the heads come out even
        (8, "VLLM", 4, True),
        (2, "VLLM", 4, True),  # each device holds a copy
        (2, "TGI", 2, True),
        (2, "TGI", 4, False),  # TGI copies none but a single one
        (1, "TGI", 4, True),
    ],
)
def test_heads_of_keys_and_values_are_divided_too(
    kv_heads: int, engine: Engine, devices: int, *, shared: bool
) -> None:
    phi = header(headCount=40, headCountKv=kv_heads, embeddingLength=5120)
    told = size_on_devices(phi, replace(DEMAND, engine=engine, devices=devices)).shortage
    wanted = f"{kv_heads} heads of keys and values can't be divided among {devices} devices by {engine}."
    assert told == ("" if shared else wanted)


def test_layers_without_keys_and_values_and_latent_ones_do_not_hinder_sharing() -> None:
    hybrid = header(headCountKv=[[0, 28], [8, 4]])
    mla = {"attention.kv_lora_rank": 512, "rope.dimension_count": 64}
    latent = header(blockCount=27, headCount=16, headCountKv=1, keyLength=128, other=mla)
    for shape in (hybrid, latent):
        assert split_problem(shape, 4, "VLLM") == ""
        assert split_problem(shape, 4, "TGI") == ""


def test_what_would_fit_is_suggested() -> None:
    demand = replace(DEMAND, context_length=131072, parallel=4)
    sizing = size_on_devices(header(), demand)
    assert not sizing.fits
    assert "VLLM may use 22.08Gi of 24.00Gi" in sizing.shortage
    context, slots = sizing.suggestion.context_length, sizing.suggestion.parallel
    assert slots == 0
    assert size_on_devices(header(), replace(demand, context_length=context)).fits
    assert not size_on_devices(header(), replace(demand, context_length=context + 256)).fits
    shorter = replace(demand, context_length=16384)
    slots = size_on_devices(header(), shorter).suggestion.parallel
    assert size_on_devices(header(), replace(shorter, parallel=slots)).fits
    assert not size_on_devices(header(), replace(shorter, parallel=slots + 1)).fits


def test_nothing_is_suggested_where_the_weights_alone_are_too_much() -> None:
    assert size_on_devices(header(), replace(DEMAND, device_memory_bytes=8 * GIBIBYTE)).suggestion == NOTHING


def test_cache_of_eight_bits_is_half() -> None:
    assert device_cache(header(), replace(DEMAND, kv_cache_type="fp8")) * 2 == device_cache(header(), DEMAND)


def test_windowed_layers_hold_the_window_and_one_step() -> None:
    windowed = header(slidingWindow=1024, slidingWindowPattern=[[1, 31], [0, 1]])
    layer = 2 * 8 * 128 * 2
    # 1023 + 2048 tokens are 3072 in blocks of 16
    assert device_cache(windowed, DEMAND) == 2 * layer * (31 * 3072 + 8192)
    assert device_cache(windowed, replace(DEMAND, context_length=2000)) == 2 * layer * 32 * 2000
    assert token_bytes(windowed, DEMAND) == 128 * 1024


def test_tgi_holds_the_whole_context_in_windowed_layers_too() -> None:
    # Gemma 3 4B: 29 of 34 layers have a window, and TGI's blocks are of one size for all of them
    gemma = {"blockCount": 34, "headCount": 8, "headCountKv": 4, "keyLength": 256, "valueLength": 256}
    windowed = header(**gemma, slidingWindow=1024, slidingWindowPattern=[[1, 29], [0, 5]])
    asked = replace(DEMAND, engine="TGI", context_length=32768, parallel=1)
    assert device_cache(windowed, asked) == 2 * 34 * 4 * 256 * 2 * 32768
    assert "layers of a window" not in size_on_devices(windowed, asked).formula[1]
    assert "29 layers of a window" in size_on_devices(windowed, replace(asked, engine="VLLM")).formula[1]


def test_recurrent_layers_keep_a_state_a_slot() -> None:
    ssm = {"ssm.conv_kernel": 4, "ssm.state_size": 128, "ssm.inner_size": 8192, "ssm.group_count": 1}
    hybrid = header(headCountKv=[[0, 28], [8, 4]], other=ssm)
    state = 3 * (8192 + 2 * 128) + 128 * 8192
    assert device_cache(hybrid, DEMAND) == 2 * (4 * 2 * 8 * 128 * 2 * 8192 + 28 * state * 4)


def test_latent_attention_is_whole_on_every_device() -> None:
    mla = {"attention.kv_lora_rank": 512, "rope.dimension_count": 64}
    latent = header(blockCount=27, headCount=16, headCountKv=1, keyLength=128, other=mla)
    assert token_bytes(latent, DEMAND) == 27 * 576 * 2
    assert device_cache(latent, replace(DEMAND, devices=2)) == device_cache(latent, DEMAND)


def test_encoders_keep_nothing() -> None:
    sizing = size_on_devices(header(causalAttention=False), DEMAND)
    assert (sizing.kv_cache_bytes, sizing.kv_token_bytes, sizing.kv_tokens, sizing.fits) == (0, 0, 0, True)


def test_weights_of_32_bits_are_loaded_in_16() -> None:
    wide = header(tensorTypes={"F32": 16_060_522_496})
    assert device_weights(wide, DEMAND) == int(16_060_522_496 // 2 * 1.02)
    scales = header(tensorTypes={"F32": 16_060_522_496}, quantization={"method": "fp8", "bits": 8})
    assert device_weights(scales, DEMAND) == int(16_060_522_496 * 1.02)


def test_adapters_draft_and_what_others_keep_count() -> None:
    draft = header(parameters=1_000_000_000, tensorBytes=2_000_000_000, tensorTypes={}, blockCount=16)
    more = replace(DEMAND, adapter_bytes=100_000_000, draft=draft, reserved_bytes=GIBIBYTE)
    plain, sizing = size_on_devices(header(), DEMAND), size_on_devices(header(), more)
    assert sizing.added_bytes == 100_000_000 + device_weights(draft, DEMAND) + device_cache(draft, DEMAND)
    assert sizing.needed_bytes - plain.needed_bytes == sizing.added_bytes
    assert usable_bytes(more) == int(23 * GIBIBYTE * 0.92)
    assert any(line.startswith("adapters and draft model") for line in sizing.formula)


def test_formula_shows_the_numbers() -> None:
    formula = size_on_devices(header(), DEMAND).formula
    assert "kv cache: 131072 bytes a token (f16) x 8192 tokens x 2 slots = 2.00Gi a device" in formula
    assert "host: 4.00Gi + 4.00Gi x 1 devices" in formula
    assert len(formula) <= 12


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_an_engines_share_can_be_set(engine: str) -> None:
    demand = replace(DEMAND, engine="TGI" if engine == "TGI" else "VLLM")
    assert usable_bytes(demand) == int(24 * GIBIBYTE * ENGINES[demand.engine].utilization)
    assert usable_bytes(replace(demand, utilization=0.5)) == 12 * GIBIBYTE


OWN = Demand(context_length=8192, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=0)


@pytest.mark.parametrize("devices", [1, 2])
def test_memory_that_devices_must_have_is_just_enough(devices: int) -> None:
    status = size_engine(header(), OWN, "VLLM", devices=devices)
    assert status.device_memory_bytes is not None
    each = status.device_memory_bytes // devices
    demand = replace(DEMAND, devices=devices)
    assert size_on_devices(header(), replace(demand, device_memory_bytes=each)).fits
    assert not size_on_devices(header(), replace(demand, device_memory_bytes=each - 2**20)).fits
    assert (status.memory, status.cpu) == (f"{4096 + 4096 * devices}Mi", f"{2 + devices}")


def test_pod_without_devices_holds_weights_and_cache_itself() -> None:
    status = size_engine(header(), OWN, "VLLM", devices=0)
    weights, kv = device_weights(header(), DEMAND), device_cache(header(), DEMAND)
    assert (status.weights_bytes, status.kv_cache_bytes) == (weights, kv)
    assert status.total_bytes == weights + kv + 4 * GIBIBYTE + int(0.05 * weights)
    assert status.device_memory_bytes is None


@pytest.mark.parametrize("devices", [0, 1])
def test_overrides_replace_the_containers_sizes(devices: int) -> None:
    status = size_engine(header(), replace(OWN, cpu="3", memory="5Gi"), "TGI", devices=devices)
    assert (status.memory, status.cpu, status.threads) == ("5120Mi", "3", 3)


@pytest.mark.parametrize("devices", [0, 1])
def test_draft_and_adapters_of_a_pod(devices: int) -> None:
    draft = header(tensorBytes=2_000_000_000, tensorTypes={}, blockCount=16)
    plain, more = OWN, replace(OWN, adapter_bytes=10**8, draft=draft)
    sizes = [size_engine(header(), demand, "VLLM", devices=devices) for demand in (plain, more)]
    totals = [size.device_memory_bytes or size.total_bytes for size in sizes]
    assert totals[1] - totals[0] >= 10**8 + 2_000_000_000
    assert len(sizes[1].formula) <= 12


def test_hostile_header_costs_no_time() -> None:
    begun = time.process_time()  # the processor's, for others want it too
    hostile = header(blockCount=1024, headCountKv=[[2**40, 1024]] * 100, keyLength=2**60, tensorBytes=2**62)
    sizing = size_on_devices(hostile, replace(DEMAND, context_length=2**20, parallel=64))
    assert (sizing.fits, sizing.suggestion) == (False, NOTHING)
    assert time.process_time() - begun < 10
