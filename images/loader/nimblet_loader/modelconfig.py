# SPDX-License-Identifier: Apache-2.0
"""Parses what lies beside a model's tensors: config.json, and of others only what sizing needs. Pure.

The input is hostile: each number has a bound, only named keys are kept, any flaw is SourceError HeaderInvalid.
Keys and their defaults are those of transformers (configuration_*.py of each model type, by class defaults).
"""

from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)

from nimblet_egress.errors import Reason, SourceError, listed, quoted

CONFIG_BYTES: Final = 2**20
"""Far above any config.json; one for a classifier of ten thousand labels has less."""
_LAYERS: Final = 1024

Number = Annotated[int, Field(ge=0, le=2**40)]
Size = Number | None
Word = Annotated[str, StringConstraints(max_length=64)]
PerLayer = Annotated[list[Number], Field(max_length=_LAYERS)]

NATIVE_TYPES: Final = frozenset(
    [
        "bamba",
        "bert",
        "bitnet",
        "cohere",
        "cohere2",
        "deepseek_v2",
        "deepseek_v3",
        "distilbert",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone4",
        "falcon",
        "falcon_h1",
        "falcon_mamba",
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gemma3n",
        "gemma3n_text",
        "glm",
        "glm4",
        "glm4_moe",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "granitemoe",
        "granitemoehybrid",
        "granitemoeshared",
        "helium",
        "internlm3",
        "jamba",
        "lfm2",
        "lfm2_moe",
        "llama",
        "llama4",
        "llama4_text",
        "llava",
        "mamba",
        "mamba2",
        "minimax",
        "mistral",
        "mistral3",
        "mixtral",
        "modernbert",
        "mpt",
        "nemotron",
        "nemotron_h",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "opt",
        "persimmon",
        "phi",
        "phi3",
        "phimoe",
        "qwen2",
        "qwen2_moe",
        "qwen2_vl",
        "qwen2_5_vl",
        "qwen3",
        "qwen3_moe",
        "qwen3_next",
        "roberta",
        "seed_oss",
        "smollm3",
        "smolvlm",
        "solar",
        "stablelm",
        "starcoder2",
        "xlm-roberta",
        "zamba",
        "zamba2",
    ]
)
"""Model types whose code transformers has itself (its auto/configuration_auto.py): an `auto_map` beside one is
passed over by every server that is not told to trust it. Of another type it names code that would have to run."""
CLASS_DEFAULTS: Final[Mapping[str, Mapping[str, int]]] = {
    "gemma": {"num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192},
    "gemma2": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "sliding_window_pattern": 2,
    },
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
    "cohere2": {"sliding_window": 4096, "sliding_window_pattern": 4},
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131072},
    "mixtral": {"num_key_value_heads": 8, "max_position_embeddings": 131072},
    "gpt_oss": {"head_dim": 64, "sliding_window": 128, "sliding_window_pattern": 2},
    "qwen3": {"head_dim": 128},
    "qwen3_next": {"full_attention_interval": 4},
}
"""What configurations of these types leave out where it is their class's default."""


class _Json(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Rope(_Json):
    """How positions are stretched. Per-kind tables (`rope_parameters` of Gemma 3) have none of these keys."""

    rope_type: Word | None = Field(default=None, validation_alias=AliasChoices("rope_type", "type"))
    factor: Annotated[float, Field(gt=0, le=2**20)] | None = None
    original_max_position_embeddings: Size = None


class GroupWeights(_Json):
    """Of compressed-tensors: how the weights of a group of layers are stored."""

    num_bits: Size = None
    group_size: Annotated[int, Field(ge=-1, le=2**40)] | None = None


class Group(_Json):
    """Of compressed-tensors: one group of layers."""

    weights: GroupWeights | None = None


class QuantizationConfig(_Json):
    """The keys of the known methods, under all of their names."""

    quant_method: Word | None = None
    quant_algo: Word | None = None
    bits: Size = Field(default=None, validation_alias=AliasChoices("bits", "w_bit", "weight_bits"))
    group_size: Annotated[int, Field(ge=-1, le=2**40)] | None = Field(
        default=None, validation_alias=AliasChoices("group_size", "q_group_size")
    )
    load_in_4bit: bool | None = None
    load_in_8bit: bool | None = None
    config_groups: Annotated[dict[str, Group], Field(max_length=64)] | None = None


class TextConfig(_Json):
    """Shape of a language model, by any of the names that model types have for one thing."""

    model_type: Word = ""
    hidden_size: Size = Field(
        default=None, validation_alias=AliasChoices("hidden_size", "n_embd", "d_model", "dim")
    )
    layers: Annotated[int, Field(ge=0, le=_LAYERS)] | None = Field(
        default=None,
        validation_alias=AliasChoices("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    )
    heads: Size = Field(
        default=None, validation_alias=AliasChoices("num_attention_heads", "n_head", "n_heads", "num_heads")
    )
    kv_heads: Size = Field(
        default=None,
        validation_alias=AliasChoices("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"),
    )
    head_dim: Size = Field(
        default=None, validation_alias=AliasChoices("head_dim", "attention_head_dim", "kv_channels")
    )
    global_head_dim: Size = None
    global_kv_heads: Size = Field(default=None, validation_alias="num_global_key_value_heads")
    feed_forward: Number | PerLayer | None = Field(
        default=None,
        validation_alias=AliasChoices("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"),
    )
    expert_feed_forward: Size = Field(default=None, validation_alias="moe_intermediate_size")
    vocab_size: Size = Field(default=None, validation_alias=AliasChoices("vocab_size", "padded_vocab_size"))
    positions: Size = Field(
        default=None,
        validation_alias=AliasChoices(
            "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx"
        ),
    )
    rope_scaling: Rope | None = Field(
        default=None, validation_alias=AliasChoices("rope_scaling", "rope_parameters")
    )
    sliding_window: Size = None
    use_sliding_window: bool | None = None
    sliding_window_pattern: Annotated[int, Field(ge=1, le=_LAYERS)] | None = Field(
        default=None, validation_alias=AliasChoices("sliding_window_pattern", "_sliding_window_pattern")
    )
    layer_types: Annotated[list[Word], Field(max_length=_LAYERS)] | None = Field(
        default=None, validation_alias=AliasChoices("layer_types", "layers_block_type")
    )
    full_attention_interval: Annotated[int, Field(ge=1, le=_LAYERS)] | None = None
    attention_layers: PerLayer | None = Field(
        default=None, validation_alias=AliasChoices("attn_layer_indices", "full_attn_idxs")
    )
    attention_period: Annotated[int, Field(ge=1, le=_LAYERS)] | None = Field(
        default=None, validation_alias="attn_layer_period"
    )
    attention_offset: Number = Field(default=0, validation_alias="attn_layer_offset")
    hybrid_override_pattern: Annotated[str, StringConstraints(max_length=_LAYERS)] | None = None
    experts: Size = Field(
        default=None, validation_alias=AliasChoices("num_local_experts", "num_experts", "n_routed_experts")
    )
    experts_used: Size = Field(
        default=None, validation_alias=AliasChoices("num_experts_per_tok", "num_experts_per_token", "moe_topk")
    )
    kv_lora_rank: Size = None
    qk_rope_head_dim: Size = None
    multi_query: bool | None = None
    new_decoder_architecture: bool | None = None
    tie_word_embeddings: bool | None = None
    dtype: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        default=None, validation_alias=AliasChoices("dtype", "torch_dtype")
    )
    conv_kernel: Size = Field(
        default=None,
        validation_alias=AliasChoices(
            "mamba_d_conv", "linear_conv_kernel_dim", "conv_kernel", "conv_kernel_size", "d_conv"
        ),
    )
    state_size: Size = Field(
        default=None,
        validation_alias=AliasChoices(
            "mamba_d_state", "linear_key_head_dim", "ssm_state_size", "state_size", "d_state"
        ),
    )
    state_groups: Size = Field(
        default=None,
        validation_alias=AliasChoices("mamba_n_groups", "linear_num_key_heads", "n_groups", "mamba_ngroups"),
    )
    state_heads: Size = Field(
        default=None, validation_alias=AliasChoices("mamba_n_heads", "linear_num_value_heads", "mamba_num_heads")
    )
    state_head_dim: Size = Field(
        default=None, validation_alias=AliasChoices("mamba_d_head", "linear_value_head_dim", "mamba_head_dim")
    )
    state_inner: Size = Field(default=None, validation_alias=AliasChoices("mamba_d_ssm", "intermediate_size_ssm"))
    state_expand: Size = Field(default=None, validation_alias=AliasChoices("mamba_expand", "expand"))
    shared_layers: Size = Field(default=None, validation_alias="num_kv_shared_layers")
    short_conv: Size = Field(default=None, validation_alias="conv_L_cache")

    @field_validator("dtype", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        return value.removeprefix("torch.") if isinstance(value, str) else value

    def default(self, key: str) -> int | None:
        """Return the class's default of this model type for a key that configurations may leave out."""
        return CLASS_DEFAULTS.get(self.model_type, {}).get(key)


class ModelConfig(TextConfig):
    """A config.json: the shape is its own, or that of `text_config` where the model reads more than text."""

    architectures: Annotated[list[Word], Field(max_length=16)] | None = None
    auto_map: Annotated[dict[Word, str | list[str | None]], Field(max_length=64)] | None = None
    is_encoder_decoder: bool | None = None
    id2label: Annotated[dict[str, str], Field(max_length=65_536)] | None = None
    quantization_config: QuantizationConfig | None = None
    text_config: TextConfig | None = Field(
        default=None, validation_alias=AliasChoices("text_config", "llm_config")
    )

    @property
    def text(self) -> TextConfig:
        """Return the part that describes the language model."""
        return self if self.text_config is None else self.text_config


class TokenizerConfig(_Json):
    """Of tokenizer_config.json: whether it holds a chat template (one, or several by name)."""

    chat_template: str | Annotated[list[dict[str, str]], Field(max_length=64)] | None = None


class PoolingConfig(_Json):
    """Of sentence-transformers' 1_Pooling/config.json: how the states of all tokens become one."""

    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_lasttoken: bool = False


_M = TypeVar("_M", bound=BaseModel)


def parse_config(path: str, raw: bytes) -> ModelConfig:
    """Parse a config.json, or raise SourceError; UnsafeFormat where the model needs code of its own."""
    config = parse_json(ModelConfig, path, raw)
    kinds = {config.model_type, config.text.model_type}
    if config.auto_map and not kinds & NATIVE_TYPES:
        raise SourceError(
            Reason.UnsafeFormat,
            f"Expected {quoted(path)} to describe a model that servers know; its model type "
            f"{quoted(config.model_type)} needs code of the repository (auto_map), and none is run. Use a model "
            "of another type, or this one as GGUF.",
        )
    return config


def parse_json(model: type[_M], path: str, raw: bytes) -> _M:
    """Parse one JSON file by its model; SourceError HeaderInvalid names the keys that are wrong, never values."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        flaws = [f"{'.'.join(str(part) for part in e['loc'])[:80] or 'JSON'}: {e['msg']}" for e in error.errors()]
        raise invalid(path, listed(flaws, limit=5)) from error


def invalid(path: str, flaw: str) -> SourceError:
    """Return the error about a file that describes no model."""
    return SourceError(
        Reason.HeaderInvalid,
        f"Expected {quoted(path)} to describe a model; found {flaw}. The file is damaged, or of another tool: use "
        "another source.",
    )
