# SPDX-License-Identifier: Apache-2.0
"""Memory and CPU against figures computed by hand from the headers of the two real models."""

import time
from dataclasses import replace

import pytest

from nimblet.api.compactmodel import SizingStatus
from nimblet.plan.artifact import Header, per_layer
from nimblet.plan.layers import layers_of, windowed_layers
from nimblet.plan.sizing import (
    Demand,
    active_parameters,
    compute_bytes,
    cpu_millicores,
    draft_bytes,
    kv_cache_bytes,
    progress_deadline_seconds,
    runtime_bytes,
    scratch_volume_bytes,
    size_model,
    startup_seconds,
    state_bytes,
)
from nimblet.plan.suggestion import NOTHING, Suggestion, suggest
from nimblet.quantity import bytes_of
from tests.builders import GEMMA3_270M, a_header, a_model, base_facts, plan_of

MEBIBYTE = 2**20
DEMAND = Demand(context_length=2048, parallel=2, kv_cache_type="f16", prompt_cache_mebibytes=64)


def fitting(header: Header, demand: Demand, *, budget_bytes: int) -> Suggestion:
    return suggest(
        lambda tokens, slots: (
            size_model(header, replace(demand, context_length=tokens, parallel=slots)).total_bytes
        ),
        context_length=demand.context_length,
        parallel=demand.parallel,
        budget_bytes=budget_bytes,
    )


def sum_of_terms(sizing: SizingStatus) -> int:
    terms = sizing.weights_bytes + sizing.kv_cache_bytes + sizing.compute_bytes
    return terms + sizing.prompt_cache_bytes + sizing.runtime_bytes


def test_smollm2_kv_cache_is_two_layers_heads_dim_bytes_context_slots() -> None:
    # 2 (K, V) x 30 layers x 3 kv heads x head dim 64 x 2 bytes x 2048 tokens x 2 slots
    assert kv_cache_bytes(a_header(), DEMAND) == 2 * 30 * 3 * 64 * 2 * 2048 * 2 == 94_371_840


@pytest.mark.parametrize(("cache", "expected"), [("f16", 94_371_840), ("q8_0", 50_135_040), ("q4_0", 26_542_080)])
def test_quantized_kv_cache_takes_its_block_size(cache: str, expected: int) -> None:
    # q8_0: 34 bytes hold 32 elements; q4_0: 18 bytes
    assert kv_cache_bytes(a_header(), replace(DEMAND, kv_cache_type=cache)) == expected


def test_kv_cache_is_padded_to_256_tokens() -> None:
    odd = replace(DEMAND, context_length=2049)
    assert kv_cache_bytes(a_header(), odd) == 2 * 30 * 3 * 64 * 2 * 2304 * 2


def test_gemma3_holds_the_whole_context_in_every_sixth_layer_only() -> None:
    header = a_header(GEMMA3_270M)
    assert windowed_layers(header) == ((True,) * 5 + (False,)) * 3
    # 3 full layers x 4096, 15 windowed x (512 + ubatch 512), 1 kv head, width 256 + 256, 2 bytes, 2 slots
    demand = replace(DEMAND, context_length=4096)
    assert kv_cache_bytes(header, demand) == (3 * 4096 + 15 * 1024) * 512 * 2 * 2 == 56_623_104


def test_window_longer_than_the_context_costs_the_context() -> None:
    demand = replace(DEMAND, context_length=512)
    assert kv_cache_bytes(a_header(GEMMA3_270M), demand) == 18 * 512 * 512 * 2 * 2


def test_window_pattern_of_the_header_wins_over_the_architecture() -> None:
    header = a_header(GEMMA3_270M, slidingWindowPattern=[[1, 9], [0, 9]])
    assert windowed_layers(header) == (True,) * 9 + (False,) * 9
    assert windowed_layers(a_header(GEMMA3_270M, slidingWindowPattern=2)) == (True, False) * 9


def test_window_without_a_known_pattern_counts_every_layer_in_full() -> None:
    assert windowed_layers(a_header(slidingWindow=512)) == (False,) * 30


def test_kv_heads_per_layer_are_summed() -> None:
    header = a_header(headCountKv=[[3, 10], [0, 20]])
    assert kv_cache_bytes(header, DEMAND) == 2 * 10 * 3 * 64 * 2 * 2048 * 2


def test_smollm2_compute_is_the_feed_forward_of_one_ubatch_masks_work_and_logits() -> None:
    # f32: three of 1536 and five of 576; mask 2 bytes x 2048; work 9/8 byte x 1536;
    # logits of one token a slot, twice
    expected = 512 * (4 * (3 * 1536 + 5 * 576) + 2 * 2048 + 1728) + 2 * 4 * 49152 * 2
    assert compute_bytes(a_header(), DEMAND) == expected == 19_103_744


def test_compute_counts_the_second_mask_of_windowed_layers() -> None:
    full, windowed = a_header(GEMMA3_270M, slidingWindow=None), a_header(GEMMA3_270M)
    assert compute_bytes(windowed, DEMAND) - compute_bytes(full, DEMAND) == 512 * 2 * 1024


def test_compute_counts_every_expert_used() -> None:
    dense, mixture = a_header(), a_header(expertUsedCount=4)
    assert compute_bytes(mixture, DEMAND) - compute_bytes(dense, DEMAND) == 512 * 3 * (3 * 4 * 1536 + 1728)


def test_experts_that_a_token_does_not_meet_cost_no_cpu_and_no_scratch() -> None:
    # 30 layers of 8 experts of three tensors of 576 x 1536; a token meets two of them
    inside = 3 * 576 * 1536 * 8 * 30
    mixture = a_header(parameters=inside + 1000, expertCount=8, expertUsedCount=2)
    assert active_parameters(mixture) == inside // 4 + 1000
    assert active_parameters(a_header()) == a_header().parameters
    narrow = {"expert_feed_forward_length": 256}
    own = a_header(expertCount=8, expertUsedCount=2, parameters=inside + 1000, other=narrow)
    assert active_parameters(own) == inside + 1000 - 3 * 576 * 256 * 8 * 30 * 6 // 8
    assert compute_bytes(own, DEMAND) == compute_bytes(a_header(), DEMAND)


def test_compute_takes_attention_where_it_is_wider_than_the_feed_forward() -> None:
    wide = a_header(feedForwardLength=512, embeddingLength=512, headCount=16, headCountKv=8, keyLength=128)
    wide = wide.model_copy(update={"value_length": 128})
    # 2 x 16 heads x 128 and 8 x (128 + 128) beside five of 512; work over the attention's output
    expected = 512 * (4 * (4096 + 2048 + 2560) + 2 * 2048 + 9 * 2048 // 8) + 2 * 4 * 49152 * 2
    assert compute_bytes(wide, DEMAND) == expected


def test_merges_are_assumed_where_nobody_counted_them() -> None:
    counted, uncounted = a_header(), a_header(mergeCount=None)
    assert runtime_bytes(uncounted, DEMAND) - runtime_bytes(counted, DEMAND) == 120 * (2 * 49152 - 48900)


def test_smollm2_total_is_the_sum_of_its_terms() -> None:
    sizing = size_model(a_header(), DEMAND)
    assert sizing.weights_bytes == 96_576_768
    assert sizing.prompt_cache_bytes == 64 * MEBIBYTE
    # program 8 MiB, 64 KiB a layer, 160 bytes a token and 12 more a slot, 120 a merge, margin of at least 8 MiB
    assert sizing.runtime_bytes == 16 * MEBIBYTE + 30 * 65536 + 49152 * (160 + 12 * 2) + 120 * 48900
    assert sizing.total_bytes == sum_of_terms(sizing) == 310_816_480
    assert sizing.memory == "297Mi"


def test_cpu_is_two_operations_a_weight_and_token() -> None:
    # 2 x 134,515,008 x 10 tokens/s x 2 slots / 13e9 = 0.4139 cores, rounded up to 50m
    assert cpu_millicores(a_header(), DEMAND) == 450
    sizing = size_model(a_header(), DEMAND)
    assert (sizing.cpu, sizing.threads) == ("450m", 1)


@pytest.mark.parametrize(("parameters", "expected"), [(1, 100), (2**61, 32000)])
def test_cpu_stays_in_its_bounds(parameters: int, expected: int) -> None:
    assert cpu_millicores(a_header(parameters=parameters), DEMAND) == expected


def test_overrides_replace_the_result_and_keep_the_arithmetic() -> None:
    plain = size_model(a_header(), DEMAND)
    forced = size_model(a_header(), replace(DEMAND, cpu="2500m", memory="1Gi"))
    assert forced.total_bytes == plain.total_bytes
    assert (forced.memory, forced.cpu, forced.threads) == ("1024Mi", "2500m", 3)
    assert any("overridden by 1Gi" in line for line in forced.formula)
    assert any("450m, overridden by 2500m" in line for line in forced.formula)


def test_formula_shows_the_numbers() -> None:
    small = "(key 64 + value 64) x 3 kv heads x (30 layers x 2048 tokens) x 2 bytes (f16) x 2 slots = 90Mi"
    assert f"kv cache: {small}" in size_model(a_header(), DEMAND).formula
    windowed = "(3 layers x 2048 tokens + 15 windowed layers x 1024 tokens)"
    assert any(windowed in line for line in size_model(a_header(GEMMA3_270M), DEMAND).formula)
    mixed = size_model(a_header(headCountKv=[[3, 10], [0, 20]]), DEMAND).formula
    assert any("x 3 kv heads x (10 layers x" in line for line in mixed)
    varied = size_model(a_header(headCountKv=[[3, 10], [9, 20]]), DEMAND).formula
    assert any("x 3 to 9 kv heads x (30 layers x" in line for line in varied)


def test_largest_context_and_slots_are_the_last_that_fit() -> None:
    header, demand = a_header(), replace(DEMAND, context_length=8192, parallel=8)
    budget = size_model(header, replace(demand, context_length=4096)).total_bytes
    assert fitting(header, demand, budget_bytes=budget).context_length == 4096
    assert fitting(header, demand, budget_bytes=budget - 1).context_length == 4096 - 256
    assert fitting(header, demand, budget_bytes=1) == NOTHING
    budget = size_model(header, replace(demand, parallel=3)).total_bytes
    assert fitting(header, demand, budget_bytes=budget).parallel == 3
    assert fitting(header, demand, budget_bytes=budget - 1).parallel == 2


def test_suggestions_read_as_a_sentence() -> None:
    assert NOTHING.text == ""
    assert Suggestion(context_length=512, parallel=0).text == " A contextLength of 512 would fit."
    assert Suggestion(context_length=0, parallel=2).text == " Parallel of 2 would fit."
    both = Suggestion(context_length=512, parallel=2).text
    assert both == " A contextLength of 512 or parallel of 2 would fit."


def test_layers_without_heads_keep_a_state_where_the_header_tells_its_size() -> None:
    # Jamba's like: 4 of 32 layers attend; conv 4, state 16, inner 8192: 3 x 8192 and 16 x 8192 in f32 a slot
    ssm = {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.inner_size": 8192}
    header = a_header(blockCount=32, headCountKv=[[0, 14], [8, 4], [0, 14]], other=ssm)
    attention = 4 * 8 * (64 + 64) * 2 * 2048 * 2
    assert kv_cache_bytes(header, DEMAND) == attention + 28 * (3 + 16) * 8192 * 4 * 2
    assert any("28 recurrent layers x" in line for line in size_model(header, DEMAND).formula)


def test_every_fourth_layer_attends_where_an_interval_says_so() -> None:
    # Qwen3-Next's like: conv over 2 x 16 x 128 + 4096, memory of 128 x 4096, 36 of 48 layers
    sizes = {"ssm.conv_kernel": 4, "ssm.state_size": 128, "ssm.inner_size": 4096, "ssm.group_count": 16}
    header = a_header(blockCount=48, headCountKv=2, other={**sizes, "full_attention_interval": 4})
    state = 3 * (4096 + 2 * 16 * 128) + 128 * 4096
    assert kv_cache_bytes(header, DEMAND) == 12 * 2 * 128 * 2 * 2048 * 2 + 36 * state * 4 * 2


def test_feed_forward_layers_of_a_hybrid_keep_nothing() -> None:
    ssm = {"ssm.conv_kernel": 4, "ssm.state_size": 128, "ssm.inner_size": 8192, "ssm.group_count": 8}
    header = a_header(
        blockCount=4, headCountKv=[[0, 2], [8, 1], [0, 1]], feedForwardLength=[[0, 1], [9, 1], [0, 2]], other=ssm
    )
    assert [bool(layer.state) for layer in layers_of(header)] == [True, False, False, True]
    both = a_header(architecture="falcon-h1", other=ssm)
    assert all(layer.state and layer.heads for layer in layers_of(both))


def test_short_convolutions_keep_their_last_inputs() -> None:
    header = a_header(blockCount=2, headCountKv=[[0, 1], [8, 1]], other={"shortconv.l_cache": 3})
    assert [layer.state for layer in layers_of(header)] == [576 * 2, 0]


LOGGED_BY_THE_SERVER = {
    (768, 8): 88.52,
    (768, 4): 54.52,
    (1536, 8): 92.52,
    (3072, 2): 56.52,
    (1024, 8): 68.52,
    (1408, 6): 70.02,
}
"""MiB of the compute buffer that llama.cpp b11434 tells for a Qwen 3 MoE of width 2048, 32 heads of 128, 4 of keys
and values, at a context of 512, by an expert's width and the experts used (`python -m tests.bench shapes`)."""


@pytest.mark.parametrize(("expert", "logged"), LOGGED_BY_THE_SERVER.items())
def test_experts_hold_what_each_of_them_gives(expert: tuple[int, int], logged: float) -> None:
    width, used = expert
    header = a_header(
        architecture="qwen3moe",
        embeddingLength=2048,
        headCount=32,
        headCountKv=4,
        keyLength=128,
        valueLength=128,
        feedForwardLength=6144,
        vocabSize=32000,
        expertCount=32,
        expertUsedCount=used,
        other={"expert_feed_forward_length": width},
    )
    demand = replace(DEMAND, context_length=512, parallel=1)
    work = 512 * 9 * max(width * used, 32 * 128) // 8
    graph = compute_bytes(header, demand) - work - 4 * 32000
    assert 0.99 < graph / MEBIBYTE / logged < 1.07


def test_receptance_models_keep_states_alone() -> None:
    # RWKV 7's like, without heads: two shifted tokens and a matrix of 64 x width a layer; QRWKV names heads, too
    wkv = {"wkv.head_size": 64}
    header = a_header(blockCount=24, headCount=0, headCountKv=0, embeddingLength=2048, other=wkv)
    assert kv_cache_bytes(header, DEMAND) == 24 * (2 + 64) * 2048 * 4 * 2
    named = a_header(architecture="arwkv7", headCount=0, headCountKv=4, other={**wkv, "token_shift_count": 1})
    assert {(layer.heads, layer.state) for layer in layers_of(named)} == {(0, 576 * (1 + 64))}


def test_latent_attention_keeps_one_vector_a_token() -> None:
    # DeepSeek-V2-Lite: 512 + 64 numbers in each of 27 layers; unfolded files keep heads, keys and values
    mla = {"attention.kv_lora_rank": 512, "rope.dimension_count": 64}
    folded = a_header(blockCount=27, headCount=16, headCountKv=1, keyLength=576, valueLength=512, other=mla)
    assert kv_cache_bytes(folded, DEMAND) == 27 * 576 * 2 * 2048 * 2
    unfolded = a_header(blockCount=27, headCount=16, headCountKv=16, keyLength=192, valueLength=128, other=mla)
    assert kv_cache_bytes(unfolded, DEMAND) == 27 * 16 * 320 * 2 * 2048 * 2
    assert any("latent 576" in line for line in size_model(folded, DEMAND).formula)


def test_layers_that_share_or_have_heads_of_their_own_size() -> None:
    shared = a_header(other={"attention.shared_kv_layers": 20})
    assert sum(layer.heads > 0 for layer in layers_of(shared)) == 10
    own = {"attention.key_length_swa": 32, "attention.value_length_swa": 32}
    windowed = a_header(slidingWindow=512, slidingWindowPattern=2, other=own)
    assert {(layer.windowed, layer.width) for layer in layers_of(windowed)} == {(True, 64), (False, 128)}


def test_adapters_and_a_drafting_model_are_counted() -> None:
    plain, draft = size_model(a_header(), DEMAND), a_header(parameters=10_000_000, tensorBytes=9_000_000)
    more = size_model(a_header(), replace(DEMAND, adapter_bytes=5_000_000, draft=draft, kv_cache_type="q4_0"))
    drafted = draft_bytes(replace(DEMAND, draft=draft, kv_cache_type="q4_0"))
    vocabulary = runtime_bytes(draft, DEMAND) - 8 * MEBIBYTE
    assert drafted == 9_000_000 + kv_cache_bytes(draft, DEMAND) + compute_bytes(draft, DEMAND) + vocabulary
    assert (more.adapter_bytes, more.draft_bytes) == (5_000_000, drafted)
    assert more.total_bytes == sum_of_terms(more) + 5_000_000 + drafted
    assert (plain.adapter_bytes, plain.draft_bytes) == (None, None)
    assert any(line.startswith("draft model: 10M") for line in more.formula)


def test_states_of_a_drafting_model_are_kept_twice() -> None:
    """Once in its cache and once in the slots' checkpoints, from which a wrong guess is taken back."""
    header = a_header(blockCount=2, headCountKv=[[0, 1], [8, 1]], other={"shortconv.l_cache": 3})
    plain = a_header(blockCount=2, headCountKv=[[0, 1], [8, 1]])
    more, less = (draft_bytes(replace(DEMAND, draft=draft)) for draft in (header, plain))
    assert more - less == 2 * state_bytes(header, DEMAND) == 2 * 4 * 2 * 576 * 2


def test_hostile_header_costs_no_time() -> None:
    begun = time.process_time()  # the processor's, for others want it too
    header = a_header(contextLength=2**62, headCountKv=[[1, 1024]] * 1000, blockCount=1024)
    assert fitting(header, replace(DEMAND, context_length=2**20, parallel=64), budget_bytes=1) == NOTHING
    assert per_layer(((7, 1024),) * 100_000, layers=3, default=0) == (7, 7, 7)
    assert per_layer(((7, 1),), layers=3, default=0) == (7, 0, 0)
    assert time.process_time() - begun < 5


def test_default_context_is_4096_or_the_models_own_maximum() -> None:
    model = a_model()
    resolved = plan_of(model, base_facts(model)).status.resolved
    assert resolved is not None
    assert resolved.context_length == 4096


def test_volume_deadline_and_startup_grow_with_the_file() -> None:
    size = 98_362_432
    assert scratch_volume_bytes(size) == bytes_of("163Mi")
    assert progress_deadline_seconds(size) == 600 + 18
    assert startup_seconds(size) == 61
