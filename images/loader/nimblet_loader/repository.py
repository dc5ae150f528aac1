# SPDX-License-Identifier: Apache-2.0
"""Which files belong to a model in safetensors, by their names alone. Pure; knows no source and reads nothing.

The names are those that transformers writes (save_pretrained of models, tokenizers and processors), and that
sentence-transformers puts beside them: https://huggingface.co/docs/transformers/main_classes/model. None is code.
"""

import re
from collections.abc import Iterable
from typing import Final

CONFIG: Final = "config.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
POOLING: Final = "1_Pooling/config.json"
TEMPLATES: Final = frozenset({"chat_template.jinja", "chat_template.json"})
WEIGHTS: Final = "model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
"""What PEFT writes of an adapter (peft.utils.constants); neither belongs to a model."""
_FAST_TOKENIZER: Final = "tokenizer.json"
_SLOW_VOCABULARY: Final = frozenset({"vocab.json", "merges.txt", "vocab.txt"})
"""Left out beside a tokenizer.json, which holds the same: they would only be more to fetch and to pin."""
_BESIDE: Final = (
    TEMPLATES
    | _SLOW_VOCABULARY
    | {
        CONFIG,
        TOKENIZER_CONFIG,
        POOLING,
        _FAST_TOKENIZER,
        "generation_config.json",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.model",
        "tekken.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "preprocessor_config.json",
        "processor_config.json",
        "quantize_config.json",
        "quant_config.json",
        "hf_quant_config.json",
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    }
)
# Qwen 3.5 names its parts model.safetensors-00001-of-00004.safetensors
SHARD: Final = re.compile(r"^model(\.safetensors)?-(?P<part>\d{5})-of-(?P<parts>\d{5})\.safetensors$")


def is_weights(name: str) -> bool:
    """Tell whether a name below the model's folder is the model's tensors or a part of them."""
    return name == WEIGHTS or SHARD.match(name) is not None


def belongs(name: str) -> bool:
    """Tell whether a name below the model's folder is one of the files that a server may get."""
    return name in _BESIDE or is_weights(name)


def split_path(path: str) -> tuple[str, str]:
    """Return the model's folder that a path lies in ("" or ending with a slash), and its name below that."""
    folder, name = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
    for nested in (item for item in _BESIDE if "/" in item):
        if path == nested or path.endswith(f"/{nested}"):
            return path.removesuffix(nested), nested
    return folder, name


def needed(names: Iterable[str]) -> list[str]:
    """Return those of a folder's names that the model consists of: its tensors once, and what lies beside them."""
    own = sorted(name for name in names if belongs(name))
    unneeded: set[str] = set()
    if _FAST_TOKENIZER in own:
        unneeded |= _SLOW_VOCABULARY
    if WEIGHTS in own:
        unneeded |= {name for name in own if SHARD.match(name)} | {"model.safetensors.index.json"}
    return [name for name in own if name not in unneeded]


def foreign_path(path: str, format_: str, *, adapter: bool) -> bool:
    """Tell whether an artifact of this format, an adapter's or a model's, may not list a file of this path."""
    if format_ == "GGUF":
        return not path.lower().endswith(".gguf")
    if adapter:
        return path.rpartition("/")[2] not in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    return not belongs(split_path(path)[1])
