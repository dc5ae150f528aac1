# SPDX-License-Identifier: Apache-2.0
"""Mistral's models of the catalogue, and what was made of them. Data only."""

from typing import Final

from tests.catalog.record import CARD, GGUF, INDEX, Entry, Figure, config, counted, gibibytes, gigabytes
from tests.catalog.shapes import decoder, in_eight_bits, shape

_7B: Final = shape((4096, 32, 32, 8, 128, 14336, 32768))
_FIRST_7B: Final = shape((4096, 32, 32, 8, 128, 14336, 32000))
_NEMO: Final = shape((5120, 40, 32, 8, 128, 14336, 131072))
_MINISTRAL: Final = shape((4096, 34, 32, 8, 128, 14336, 131072))
_MIXTRAL: Final = shape((4096, 32, 32, 8, 128, 14336, 32000), experts=8)

MISTRALS: Final = (
    Entry(
        name="mistral-7b",
        title="Mistral 7B Instruct v0.3",
        licence="Apache 2.0",
        gated=True,
        config=config("MistralForCausalLM", "mistral", _7B, max_position_embeddings=32768, sliding_window=None),
        config_source="mistralai/Mistral-7B-Instruct-v0.3",
        tensors=decoder(_7B),
        parameters=counted(7_248_023_552),
        repository="mistralai/Mistral-7B-Instruct-v0.3",
        size=counted(14_496_047_104, INDEX),
        gguf=GGUF(
            repository="bartowski/Mistral-7B-Instruct-v0.3-GGUF", architecture="llama", size=gigabytes(4.37)
        ),
        kv_kibibytes=128,
        context=32768,
    ),
    Entry(
        name="mistral-nemo-12b",
        title="Mistral NeMo 12B Instruct 2407",
        licence="Apache 2.0",
        gated=True,
        config=config(
            "MistralForCausalLM",
            "mistral",
            _NEMO,
            head_dim=128,
            max_position_embeddings=131072,
            sliding_window=None,
        ),
        config_source="mistralai/Mistral-Nemo-Instruct-2407",
        tensors=decoder(_NEMO),
        parameters=counted(12_247_782_400),
        repository="mistralai/Mistral-Nemo-Instruct-2407",
        gguf=GGUF(
            repository="bartowski/Mistral-Nemo-Instruct-2407-GGUF", architecture="llama", size=gigabytes(7.48)
        ),
        kv_kibibytes=160,
        context=131072,
    ),
    Entry(
        name="ministral-3-8b",
        title="Ministral 3 8B Instruct 2512",
        licence="Apache 2.0",
        config={
            "architectures": ["Mistral3ForConditionalGeneration"],
            "model_type": "mistral3",
            "dtype": "bfloat16",
            "text_config": config(
                "",
                "ministral3",
                _MINISTRAL,
                architectures=None,
                head_dim=128,
                max_position_embeddings=262144,
                rope_parameters={"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16384},
            ),
            "quantization_config": {"quant_method": "fp8"},
        },
        config_source="mistralai/Ministral-3-8B-Instruct-2512",
        tensors={
            **in_eight_bits(decoder(_MINISTRAL, "language_model.")),
            "vision_tower.all": ("BF16", (420_000_000,)),
        },
        parameters=Figure(value=8_900_000_000, source=CARD, within=0.01),
        repository="mistralai/Ministral-3-8B-Instruct-2512",
        size=gibibytes(9.70),
        gguf=GGUF(
            repository="mistralai/Ministral-3-8B-Instruct-2512-GGUF", architecture="mistral3", size=gigabytes(5.20)
        ),
        kv_kibibytes=136,
        context=262144,
        note="What sees images is not served.",
    ),
    Entry(
        name="neural-chat-7b",
        title="NeuralChat 7B v3-1",
        licence="Apache 2.0",
        config=config(
            "MistralForCausalLM", "mistral", _FIRST_7B, max_position_embeddings=32768, sliding_window=4096
        ),
        config_source="Intel/neural-chat-7b-v3-1",
        tensors=decoder(_FIRST_7B),
        parameters=counted(7_241_732_096),
        repository="Intel/neural-chat-7b-v3-1",
        gguf=GGUF(repository="TheBloke/neural-chat-7B-v3-1-GGUF", architecture="llama", size=gigabytes(4.37)),
        kv_kibibytes=128,
        context=32768,
        note="Tuned by Intel on Gaudi.",
    ),
    Entry(
        name="mixtral-8x7b",
        title="Mixtral 8x7B Instruct",
        licence="Apache 2.0",
        gated=True,
        config=config(
            "MixtralForCausalLM",
            "mixtral",
            _MIXTRAL,
            num_local_experts=8,
            num_experts_per_tok=2,
            max_position_embeddings=32768,
        ),
        config_source="mistralai/Mixtral-8x7B-Instruct-v0.1",
        tensors=decoder(_MIXTRAL),
        parameters=counted(46_702_792_704),
        repository="mistralai/Mixtral-8x7B-Instruct-v0.1",
        size=counted(93_405_585_408, INDEX),
        kv_kibibytes=128,
        context=32768,
        note="A token meets 13 billion parameters, but memory holds all: allowLarge: true serves it.",
    ),
)
