# SPDX-License-Identifier: Apache-2.0
"""What is recorded of a model of the catalogue: who publishes which figure, where its weights are. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.catalog.shapes import Shape, Tensors

Task = Literal["Chat", "Embedding", "Rerank"]
HUB: Final = "the hub's count of the repository's safetensors"
CARD: Final = "the model's card"
INDEX: Final = "total_size of model.safetensors.index.json"
KAITO: Final = "modelFileSize of KAITO's model catalogue (kaito-project/kaito, model_catalog.yaml)"
GPT4ALL: Final = "filesize of GPT4All's models3.json (nomic-ai/gpt4all)"
FILES: Final = "the hub's listing of the repository"
COUNTED: Final = 0.0
"""Told to the last one."""
ROUNDED: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published number, and how far the exact one may be off: it was rounded where it was published."""

    value: int
    source: str
    within: float = COUNTED


@dataclass(frozen=True, kw_only=True)
class GGUF:
    """A published GGUF file."""

    repository: str
    architecture: str
    quantization: str = "Q4_K_M"
    size: Figure | None = None
    """Of the file: its tensors, vocabulary and metadata. Where no tensors are recorded, what is sized by."""
    pooling: int | None = None
    """How states become one vector (llama.h, llama_pooling_type)."""
    labels: tuple[str, ...] = ()
    """Of a reranker's head."""
    repeats_embedding: bool = False
    """Files of before llama.cpp knew that the head is the embedding hold it twice."""
    other: Mapping[str, int] = field(default_factory=dict)
    """Further keys below the architecture."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model. Its CompactModels are in samples/catalog/<name>.yaml."""

    name: str
    title: str
    licence: str
    config: Mapping[str, object]
    config_source: str
    """The repository whose config.json it is, as far as it matters."""
    tensors: Tensors
    parameters: Figure
    gated: bool = False
    """The hub gives it only to accounts that accepted its licence."""
    task: Task = "Chat"
    repository: str = ""
    """Where safetensors of it are; "" where there are none that a server may load."""
    size: Figure | None = None
    """Of the safetensors' tensors."""
    gguf: GGUF | None = None
    texts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """JSON files beside config.json."""
    listing: tuple[str, ...] = ()
    """Where no file of the repository is loaded: what the hub lists there."""
    kv_kibibytes: int = 0
    """Keys and values of one token in 16 bits, windows not considered, by hand from the shape."""
    context: int = 0
    """Tokens that it was made for; 0 where config.json does not tell."""
    note: str = ""
    """What a user should know first."""


def config(architecture: str, type_: str, shape: Shape, **more: object) -> dict[str, object]:
    """Return the keys of a config.json that every family has."""
    return {
        "architectures": [architecture],
        "model_type": type_,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.feed_forward,
        "vocab_size": shape.vocabulary,
        "torch_dtype": "bfloat16",
        **more,
    }


def counted(value: int, source: str = HUB) -> Figure:
    """Return a figure that is told exactly."""
    return Figure(value=value, source=source)


def gibibytes(value: float) -> Figure:
    """Return a size of KAITO's catalogue: two decimals."""
    return Figure(value=int(value * 2**30), source=KAITO, within=0.003)


def gigabytes(value: float, repository: str = FILES) -> Figure:
    """Return a size as the hub lists files: three digits."""
    return Figure(value=int(value * 1e9), source=repository, within=ROUNDED)
