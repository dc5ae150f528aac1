# SPDX-License-Identifier: Apache-2.0
"""What config.json tells: layers of every kind, pooling, labels; and that nothing hostile gets through."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loader_testing.tensors import CONFIG, as_json, file
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import HeaderFacts, encode
from nimblet_loader.modelconfig import CONFIG_BYTES
from nimblet_loader.modelfacts import Repository, repository_facts
from nimblet_loader.safetensors import parse_header

TENSORS = parse_header(iter([file()]))


def facts_of(raw: bytes, **others: bytes) -> HeaderFacts:
    texts = {"config.json": raw, **{name.replace("__", "/") + ".json": text for name, text in others.items()}}
    return repository_facts(Repository("", [TENSORS], texts, frozenset(texts)))


def told(**config: Any) -> HeaderFacts:
    return facts_of(as_json({**CONFIG, "num_hidden_layers": 4, **config}))


SSM = {"mamba_d_conv": 4, "mamba_d_state": 16, "mamba_expand": 2}


@pytest.mark.parametrize(
    ("config", "heads", "other"),
    [
        (
            {"model_type": "granitemoehybrid", "layer_types": ["mamba", "mamba", "attention", "mamba"], **SSM},
            ((0, 2), (2, 1), (0, 1)),
            {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.inner_size": 128},
        ),
        (
            {"model_type": "jamba", "attn_layer_period": 4, "attn_layer_offset": 1, **SSM},
            ((0, 1), (2, 1), (0, 2)),
            {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.inner_size": 128},
        ),
        (
            {"model_type": "bamba", "attn_layer_indices": [3], "mamba_n_heads": 4, "mamba_d_head": 32, **SSM},
            ((0, 3), (2, 1)),
            {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.inner_size": 128},
        ),
        (
            {
                "model_type": "qwen3_next",
                "linear_conv_kernel_dim": 4,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
            },
            ((0, 3), (2, 1)),
            {"ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.inner_size": 64, "ssm.group_count": 2},
        ),
        (
            {"model_type": "lfm2", "layer_types": ["conv", "full_attention", "conv", "conv"], "conv_L_cache": 3},
            ((0, 1), (2, 1), (0, 2)),
            {"shortconv.l_cache": 3},
        ),
        (
            {"model_type": "deepseek_v2", "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            1,
            {"attention.kv_lora_rank": 512, "rope.dimension_count": 64},
        ),
        (
            {
                "model_type": "gemma4_text",
                "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
                "sliding_window": 512,
                "head_dim": 32,
                "global_head_dim": 64,
                "num_global_key_value_heads": 1,
            },
            ((2, 3), (1, 1)),
            {"attention.key_length_swa": 32, "attention.value_length_swa": 32},
        ),
        ({"model_type": "gpt_bigcode", "multi_query": True, "num_key_value_heads": None}, 1, {}),
        ({"num_key_value_heads": None}, 4, {}),
    ],
)
def test_layers_and_states_by_model_type(config: dict[str, Any], heads: object, other: dict[str, int]) -> None:
    facts = told(**config)
    assert (facts.head_count_kv, facts.other) == (heads, other)


def test_layers_of_a_pattern_are_of_three_kinds() -> None:
    facts = told(
        model_type="nemotron_h",
        hybrid_override_pattern="M-*-",
        conv_kernel=4,
        ssm_state_size=16,
        mamba_num_heads=4,
        mamba_head_dim=32,
        n_groups=2,
    )
    assert facts.head_count_kv == ((0, 2), (2, 1), (0, 1))
    assert facts.feed_forward_length == ((0, 1), (128, 1), (0, 1), (128, 1))
    assert facts.other["ssm.inner_size"] == 128


@pytest.mark.parametrize(
    ("config", "pattern"),
    [
        ({"sliding_window": 64}, ((1, 4),)),
        ({"sliding_window": 64, "use_sliding_window": False}, None),
        ({"sliding_window": None}, None),
        ({"model_type": "gemma2"}, ((1, 1), (0, 1), (1, 1), (0, 1))),
        ({"sliding_window": 64, "sliding_window_pattern": 4}, ((1, 3), (0, 1))),
        (
            {"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"] * 2},
            ((0, 1), (1, 1), (0, 1), (1, 1)),
        ),
    ],
)
def test_windows_by_layer(config: dict[str, Any], pattern: object) -> None:
    assert told(**config).sliding_window_pattern == pattern


def test_experts_are_told() -> None:
    facts = told(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32)
    assert (facts.expert_count, facts.expert_used_count, facts.feed_forward_length) == (8, 2, 32)


def test_shared_caches_are_told() -> None:
    assert told(num_kv_shared_layers=2).other == {"attention.shared_kv_layers": 2}


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode_cls_token": True}, 2),
        ({"pooling_mode_lasttoken": True}, 3),
    ],
)
def test_pooling_of_an_embedding_model(modes: dict[str, bool], pooling: int) -> None:
    raw = as_json({**CONFIG, "architectures": ["Qwen3ForCausalLM"]})
    assert facts_of(raw, **{"1_Pooling__config": as_json(modes)}).pooling_type == pooling


def test_encoders_and_classifiers_are_known_by_their_class() -> None:
    encoder = told(architectures=["BertModel"])
    assert (encoder.causal_attention, encoder.pooling_type, encoder.classifier) == (False, 2, None)
    labels = {"1": "bad", "0": "good", "2": "neither"}
    judge = told(architectures=["XLMRobertaForSequenceClassification"], id2label=labels)
    assert (judge.causal_attention, judge.pooling_type, judge.classifier) == (False, None, True)
    assert (judge.classifier_outputs, judge.classifier_labels) == (3, ("good", "bad", "neither"))
    decoder = told(architectures=["Qwen3ForSequenceClassification"], id2label={"0": "x" * 99})
    assert (decoder.classifier_outputs, decoder.classifier_labels, decoder.causal_attention) == (1, None, None)


def reads_or_refuses(raw: bytes) -> None:
    try:
        encode(facts_of(raw))
    except SourceError as error:
        if error.reason not in (Reason.HeaderInvalid, Reason.UnsafeFormat):
            raise


@given(st.binary(max_size=1024))
@settings(max_examples=100, deadline=None)
def test_random_bytes_end_in_an_error_of_ours(raw: bytes) -> None:
    reads_or_refuses(raw)


KEYS = sorted(
    {*CONFIG, "text_config", "quantization_config", "layer_types", "rope_scaling", "id2label", "head_dim"}
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_a_known_key_is_read_or_refused(changes: dict[str, object]) -> None:
    reads_or_refuses(json.dumps({**CONFIG, **changes}).encode())


@pytest.mark.parametrize("filling", ["[],", "0,", '"",', '{"a":1},'])
@pytest.mark.parametrize("key", ["auto_map", "other", "layer_types", "text_config"])
def test_a_large_configuration_costs_bounded_memory(key: str, filling: str) -> None:
    body = filling * ((CONFIG_BYTES - 100) // len(filling))
    raw = (f'{{"{key}":[' + body + "0]}").encode()
    tracemalloc.start()
    try:
        reads_or_refuses(raw)
        assert tracemalloc.get_traced_memory()[1] < 32 * CONFIG_BYTES
    finally:
        tracemalloc.stop()
