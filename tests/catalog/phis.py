# SPDX-License-Identifier: Apache-2.0
"""Microsoft's Phi and IBM's granite in the catalogue. Data only."""

from typing import Final

from tests.catalog.record import CARD, GGUF, INDEX, Entry, Figure, config, counted, gibibytes, gigabytes
from tests.catalog.shapes import decoder, hybrid, phi, shape

_PHI3_MINI: Final = shape((3072, 32, 32, 32, 96, 8192, 32064), fused=True)
_PHI4: Final = shape((5120, 40, 40, 10, 128, 17920, 100352), fused=True)
_PHI4_MINI: Final = shape((3072, 32, 24, 8, 128, 8192, 200064), fused=True, tied=True)
_GRANITE_8B: Final = shape((4096, 40, 32, 8, 128, 12800, 49159), tied=True)
_MICRO: Final = shape((2560, 40, 40, 8, 64, 8192, 100352), tied=True)
_TINY: Final = shape((1536, 40, 12, 4, 128, 512, 100352), tied=True)
_EXPERTS: Final = 64
_MAMBA: Final = {
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 48,
}
_FULL: Final = (5, 15, 25, 35)

PHIS: Final = (
    Entry(
        name="phi-1.5",
        title="Phi-1.5",
        licence="MIT",
        config={
            "architectures": ["PhiForCausalLM"],
            "model_type": "phi",
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "intermediate_size": 8192,
            "vocab_size": 51200,
            "max_position_embeddings": 2048,
            "torch_dtype": "float16",
        },
        config_source="microsoft/phi-1_5",
        tensors=phi(hidden=2048, layers=24, vocabulary=51200),
        parameters=counted(1_418_270_720),
        repository="microsoft/phi-1_5",
        kv_kibibytes=192,
        context=2048,
        note="Phi-1 (microsoft/phi-1) has the same shape. Neither was taught to chat.",
    ),
    Entry(
        name="phi-3-mini",
        title="Phi-3 Mini 4K Instruct",
        licence="MIT",
        config=config(
            "Phi3ForCausalLM",
            "phi3",
            _PHI3_MINI,
            max_position_embeddings=4096,
            sliding_window=2047,
            auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        ),
        config_source="microsoft/Phi-3-mini-4k-instruct",
        tensors=decoder(_PHI3_MINI),
        parameters=counted(3_821_079_552),
        repository="microsoft/Phi-3-mini-4k-instruct",
        size=gibibytes(7.12),
        gguf=GGUF(repository="bartowski/Phi-3-mini-4k-instruct-GGUF", architecture="phi3", size=gigabytes(2.39)),
        kv_kibibytes=384,
        context=4096,
    ),
    Entry(
        name="phi-4",
        title="Phi-4",
        licence="MIT",
        config=config("Phi3ForCausalLM", "phi3", _PHI4, max_position_embeddings=16384, sliding_window=None),
        config_source="microsoft/phi-4",
        tensors=decoder(_PHI4),
        parameters=counted(14_659_507_200),
        repository="microsoft/phi-4",
        size=counted(29_319_014_400, INDEX),
        gguf=GGUF(repository="bartowski/phi-4-GGUF", architecture="phi3", size=gigabytes(9.05)),
        kv_kibibytes=200,
        context=16384,
    ),
    Entry(
        name="phi-4-mini",
        title="Phi-4 Mini Instruct",
        licence="MIT",
        config=config(
            "Phi3ForCausalLM",
            "phi3",
            _PHI4_MINI,
            max_position_embeddings=131072,
            sliding_window=262144,
            tie_word_embeddings=True,
            rope_scaling={"type": "longrope"},
            auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        ),
        config_source="microsoft/Phi-4-mini-instruct",
        tensors=decoder(_PHI4_MINI),
        parameters=counted(3_836_021_760),
        repository="microsoft/Phi-4-mini-instruct",
        size=gibibytes(7.15),
        gguf=GGUF(
            repository="bartowski/microsoft_Phi-4-mini-instruct-GGUF", architecture="phi3", size=gigabytes(2.49)
        ),
        kv_kibibytes=128,
        context=131072,
    ),
    Entry(
        name="granite-3.3-8b",
        title="Granite 3.3 8B Instruct",
        licence="Apache 2.0",
        config=config("GraniteForCausalLM", "granite", _GRANITE_8B, max_position_embeddings=131072),
        config_source="ibm-granite/granite-3.3-8b-instruct",
        tensors=decoder(_GRANITE_8B),
        parameters=counted(8_170_864_640),
        repository="ibm-granite/granite-3.3-8b-instruct",
        gguf=GGUF(
            repository="ibm-granite/granite-3.3-8b-instruct-GGUF", architecture="granite", size=gigabytes(4.94)
        ),
        kv_kibibytes=160,
        context=131072,
    ),
    Entry(
        name="granite-4.0-micro",
        title="Granite 4.0 Micro",
        licence="Apache 2.0",
        config=config(
            "GraniteMoeHybridForCausalLM",
            "granitemoehybrid",
            _MICRO,
            max_position_embeddings=131072,
            layer_types=["attention"] * 40,
            num_local_experts=0,
            num_experts_per_tok=0,
            tie_word_embeddings=True,
        ),
        config_source="ibm-granite/granite-4.0-micro",
        tensors=decoder(_MICRO),
        parameters=counted(3_402_836_480),
        repository="ibm-granite/granite-4.0-micro",
        gguf=GGUF(repository="ibm-granite/granite-4.0-micro-GGUF", architecture="granite", size=gigabytes(2.10)),
        kv_kibibytes=80,
        context=131072,
    ),
    Entry(
        name="granite-4.0-h-tiny",
        title="Granite 4.0 H Tiny",
        licence="Apache 2.0",
        config=config(
            "GraniteMoeHybridForCausalLM",
            "granitemoehybrid",
            _TINY,
            max_position_embeddings=131072,
            layer_types=["attention" if index in _FULL else "mamba" for index in range(40)],
            num_local_experts=_EXPERTS,
            num_experts_per_tok=6,
            tie_word_embeddings=True,
            **_MAMBA,
        ),
        config_source="ibm-granite/granite-4.0-h-tiny",
        tensors=hybrid(_TINY, full=_FULL, experts=_EXPERTS, shared=1024, mamba=_MAMBA),
        parameters=Figure(value=6_939_000_000, source=CARD, within=0.0001),
        repository="ibm-granite/granite-4.0-h-tiny",
        gguf=GGUF(
            repository="ibm-granite/granite-4.0-h-tiny-GGUF", architecture="granitehybrid", size=gigabytes(4.23)
        ),
        kv_kibibytes=8,
        context=131072,
        note="36 of 40 layers keep a state instead of keys and values; a token meets a billion parameters.",
    ),
)
