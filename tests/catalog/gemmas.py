# SPDX-License-Identifier: Apache-2.0
"""Google's Gemma in the catalogue. Data only."""

from typing import Final

from tests.catalog.record import CARD, GGUF, INDEX, Entry, Figure, config, counted, gigabytes
from tests.catalog.shapes import Shape, decoder, lump, shape, siglip

_2_2B: Final = shape((2304, 26, 8, 4, 256, 9216, 256000), tied=True, norms=4)
_2_9B: Final = shape((3584, 42, 16, 8, 256, 14336, 256000), tied=True, norms=4)
_3_1B: Final = shape((1152, 26, 4, 1, 256, 6912, 262144), tied=True, head_norms=True, norms=4)
_3_4B: Final = shape((2560, 34, 8, 4, 256, 10240, 262208), tied=True, head_norms=True, norms=4)
_3_12B: Final = shape((3840, 48, 16, 8, 256, 15360, 262208), tied=True, head_norms=True, norms=4)
_TERMS: Final = "Gemma Terms of Use"
_E4B: Final = 7_900_000_000
_BLIND: Final = "What sees images is not served."


def _gemma3(form: Shape, **text: object) -> dict[str, object]:
    """The published files leave out what is their class's default: heads of the 4B, length, vocabulary."""
    nested = {
        "model_type": "gemma3_text",
        "hidden_size": form.hidden,
        "num_hidden_layers": form.layers,
        "intermediate_size": form.feed_forward,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
        **text,
    }
    named = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "torch_dtype": "bfloat16",
    }
    return {**named, "text_config": nested, "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27}}


GEMMAS: Final = (
    Entry(
        name="gemma-2-2b",
        title="Gemma 2 2B",
        licence=_TERMS,
        gated=True,
        config=config(
            "Gemma2ForCausalLM",
            "gemma2",
            _2_2B,
            head_dim=256,
            max_position_embeddings=8192,
            sliding_window=4096,
        ),
        config_source="google/gemma-2-2b-it",
        tensors=decoder(_2_2B),
        parameters=counted(2_614_341_888),
        repository="google/gemma-2-2b-it",
        gguf=GGUF(repository="bartowski/gemma-2-2b-it-GGUF", architecture="gemma2", size=gigabytes(1.71)),
        kv_kibibytes=104,
        context=8192,
    ),
    Entry(
        name="gemma-2-9b",
        title="Gemma 2 9B",
        licence=_TERMS,
        gated=True,
        config=config(
            "Gemma2ForCausalLM",
            "gemma2",
            _2_9B,
            head_dim=256,
            max_position_embeddings=8192,
            sliding_window=4096,
        ),
        config_source="google/gemma-2-9b-it",
        tensors=decoder(_2_9B),
        parameters=counted(9_241_705_984),
        repository="google/gemma-2-9b-it",
        gguf=GGUF(repository="bartowski/gemma-2-9b-it-GGUF", architecture="gemma2", size=gigabytes(5.76)),
        kv_kibibytes=336,
        context=8192,
    ),
    Entry(
        name="gemma-3-1b",
        title="Gemma 3 1B",
        licence=_TERMS,
        gated=True,
        config=config(
            "Gemma3ForCausalLM",
            "gemma3_text",
            _3_1B,
            head_dim=256,
            max_position_embeddings=32768,
            sliding_window=512,
            sliding_window_pattern=6,
        ),
        config_source="google/gemma-3-1b-it",
        tensors=decoder(_3_1B),
        parameters=counted(999_885_952),
        repository="google/gemma-3-1b-it",
        gguf=GGUF(repository="ggml-org/gemma-3-1b-it-GGUF", architecture="gemma3", size=gigabytes(0.806)),
        kv_kibibytes=26,
        context=32768,
    ),
    Entry(
        name="gemma-3-4b",
        title="Gemma 3 4B",
        licence=_TERMS,
        gated=True,
        config=_gemma3(_3_4B),
        config_source="google/gemma-3-4b-it",
        tensors=decoder(_3_4B, "language_model.") | siglip(2560),
        parameters=counted(4_300_079_472),
        repository="google/gemma-3-4b-it",
        size=counted(8_600_158_944, INDEX),
        gguf=GGUF(repository="ggml-org/gemma-3-4b-it-GGUF", architecture="gemma3", size=gigabytes(2.49)),
        kv_kibibytes=136,
        context=131072,
        note=_BLIND,
    ),
    Entry(
        name="gemma-3-12b",
        title="Gemma 3 12B",
        licence=_TERMS,
        gated=True,
        config=_gemma3(_3_12B, num_attention_heads=16, num_key_value_heads=8),
        config_source="google/gemma-3-12b-it",
        tensors=decoder(_3_12B, "language_model.") | siglip(3840),
        parameters=counted(12_187_325_040),
        repository="google/gemma-3-12b-it",
        gguf=GGUF(repository="ggml-org/gemma-3-12b-it-GGUF", architecture="gemma3", size=gigabytes(7.30)),
        kv_kibibytes=384,
        context=131072,
        note=_BLIND,
    ),
    Entry(
        name="gemma-4-e4b",
        title="Gemma 4 E4B",
        licence="Apache 2.0",
        config={
            "architectures": ["Gemma4ForConditionalGeneration"],
            "model_type": "gemma4",
            "dtype": "bfloat16",
            "text_config": {
                "model_type": "gemma4_text",
                "hidden_size": 2560,
                "num_hidden_layers": 42,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "global_head_dim": 512,
                "intermediate_size": 10240,
                "vocab_size": 262144,
                "max_position_embeddings": 131072,
                "sliding_window": 512,
                "num_kv_shared_layers": 18,
                "layer_types": ["full_attention" if at % 6 == 5 else "sliding_attention" for at in range(42)],
            },
        },
        config_source="google/gemma-4-E4B-it",
        tensors=lump(_E4B, vocabulary=262144, hidden=2560),
        parameters=Figure(value=_E4B, source=f"{CARD}: 8 billion with embeddings", within=0.02),
        repository="google/gemma-4-E4B-it",
        gguf=GGUF(
            repository="ollama://turintech/gemma-4-e4b-it-artemis:q4_0",
            architecture="gemma4",
            quantization="Q4_0",
            size=gigabytes(4.216, "the listing of ollama.com/turintech/gemma-4-e4b-it-artemis"),
        ),
        kv_kibibytes=56,
        context=131072,
        note="18 of 42 layers use the keys and values of others. What sees and hears is not served.",
    ),
)
