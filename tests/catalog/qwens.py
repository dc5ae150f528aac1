# SPDX-License-Identifier: Apache-2.0
"""Qwen's models of the catalogue, and what was made of them. Data only."""

from typing import Final

from tests.catalog.record import FILES, GGUF, INDEX, Entry, Figure, config, counted, gigabytes
from tests.catalog.shapes import decoder, delta, shape

_25_7B: Final = shape((3584, 28, 28, 4, 128, 18944, 152064), biases=True)
_25_14B: Final = shape((5120, 48, 40, 8, 128, 13824, 152064), biases=True)
_3_4B: Final = shape((2560, 36, 32, 8, 128, 9728, 151936), head_norms=True, tied=True)
_3_8B: Final = shape((4096, 36, 32, 8, 128, 12288, 151936), head_norms=True)
_3_14B: Final = shape((5120, 40, 40, 8, 128, 17408, 151936), head_norms=True)
_35_9B: Final = shape((4096, 32, 16, 4, 256, 12288, 248320), head_norms=True)
_OWN: Final = "Apache 2.0"

QWENS: Final = (
    Entry(
        name="qwen2.5-7b",
        title="Qwen 2.5 7B Instruct",
        licence=_OWN,
        config=config(
            "Qwen2ForCausalLM",
            "qwen2",
            _25_7B,
            max_position_embeddings=32768,
            sliding_window=131072,
            use_sliding_window=False,
        ),
        config_source="Qwen/Qwen2.5-7B-Instruct",
        tensors=decoder(_25_7B),
        parameters=counted(7_615_616_512),
        repository="Qwen/Qwen2.5-7B-Instruct",
        size=counted(15_231_233_024, INDEX),
        gguf=GGUF(repository="bartowski/Qwen2.5-7B-Instruct-GGUF", architecture="qwen2", size=gigabytes(4.68)),
        kv_kibibytes=56,
        context=32768,
    ),
    Entry(
        name="qwen2.5-14b",
        title="Qwen 2.5 14B Instruct",
        licence=_OWN,
        config=config(
            "Qwen2ForCausalLM",
            "qwen2",
            _25_14B,
            max_position_embeddings=32768,
            sliding_window=131072,
            use_sliding_window=False,
        ),
        config_source="Qwen/Qwen2.5-14B-Instruct",
        tensors=decoder(_25_14B),
        parameters=counted(14_770_033_664),
        repository="Qwen/Qwen2.5-14B-Instruct",
        gguf=GGUF(repository="bartowski/Qwen2.5-14B-Instruct-GGUF", architecture="qwen2", size=gigabytes(8.99)),
        kv_kibibytes=192,
        context=32768,
    ),
    Entry(
        name="deepseek-r1-distill-qwen-7b",
        title="DeepSeek R1 Distill Qwen 7B",
        licence="MIT",
        config=config(
            "Qwen2ForCausalLM",
            "qwen2",
            _25_7B,
            max_position_embeddings=131072,
            sliding_window=4096,
            use_sliding_window=False,
        ),
        config_source="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        tensors=decoder(_25_7B),
        parameters=counted(7_615_616_512),
        repository="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        gguf=GGUF(
            repository="bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF", architecture="qwen2", size=gigabytes(4.68)
        ),
        kv_kibibytes=56,
        context=131072,
    ),
    Entry(
        name="qwen3-4b",
        title="Qwen 3 4B",
        licence=_OWN,
        config=config(
            "Qwen3ForCausalLM",
            "qwen3",
            _3_4B,
            head_dim=128,
            max_position_embeddings=40960,
            tie_word_embeddings=True,
        ),
        config_source="Qwen/Qwen3-4B",
        tensors=decoder(_3_4B),
        parameters=counted(4_022_468_096),
        repository="Qwen/Qwen3-4B",
        gguf=GGUF(repository="Qwen/Qwen3-4B-GGUF", architecture="qwen3", size=gigabytes(2.50)),
        kv_kibibytes=144,
        context=40960,
    ),
    Entry(
        name="qwen3-8b",
        title="Qwen 3 8B",
        licence=_OWN,
        config=config(
            "Qwen3ForCausalLM", "qwen3", _3_8B, head_dim=128, max_position_embeddings=40960, rope_scaling=None
        ),
        config_source="Qwen/Qwen3-8B",
        tensors=decoder(_3_8B),
        parameters=counted(8_190_735_360),
        repository="Qwen/Qwen3-8B",
        size=counted(16_381_470_720, INDEX),
        gguf=GGUF(repository="Qwen/Qwen3-8B-GGUF", architecture="qwen3", size=gigabytes(5.03)),
        kv_kibibytes=144,
        context=40960,
    ),
    Entry(
        name="qwen3-14b",
        title="Qwen 3 14B",
        licence=_OWN,
        config=config("Qwen3ForCausalLM", "qwen3", _3_14B, head_dim=128, max_position_embeddings=40960),
        config_source="Qwen/Qwen3-14B",
        tensors=decoder(_3_14B),
        parameters=counted(14_768_307_200),
        repository="Qwen/Qwen3-14B",
        size=counted(29_536_614_400, INDEX),
        gguf=GGUF(repository="Qwen/Qwen3-14B-GGUF", architecture="qwen3", size=gigabytes(9.00)),
        kv_kibibytes=160,
        context=40960,
    ),
    Entry(
        name="qwen3.5-9b",
        title="Qwen 3.5 9B",
        licence=_OWN,
        config={
            "architectures": ["Qwen3_5ForConditionalGeneration"],
            "model_type": "qwen3_5",
            "text_config": config(
                "",
                "qwen3_5_text",
                _35_9B,
                architectures=None,
                head_dim=256,
                max_position_embeddings=262144,
                full_attention_interval=4,
                linear_conv_kernel_dim=4,
                linear_key_head_dim=128,
                linear_num_key_heads=16,
                linear_num_value_heads=32,
                linear_value_head_dim=128,
            ),
        },
        config_source="Qwen/Qwen3.5-9B",
        tensors={
            **delta(_35_9B, interval=4, heads=(16, 32), length=128, prefix="language_model."),
            # beside what answers: what sees images, and what drafts
            "vision_tower.all": ("BF16", (456_000_000,)),
            "vision_tower.drafts": ("BF16", (240_000_000,)),
        },
        parameters=Figure(value=9_650_000_000, source=FILES, within=0.01),
        repository="Qwen/Qwen3.5-9B",
        size=gigabytes(19.3),
        gguf=GGUF(
            repository="unsloth/Qwen3.5-9B-GGUF",
            architecture="qwen35",
            size=Figure(value=5_629_108_736, source="size of Qwen3.5-9B.Q4_K_M.gguf at the hub", within=0.04),
        ),
        kv_kibibytes=32,
        context=262144,
        note="24 of 32 layers keep a state instead of keys and values. What sees images is not served.",
    ),
)
