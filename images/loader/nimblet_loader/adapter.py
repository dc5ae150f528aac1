# SPDX-License-Identifier: Apache-2.0
"""Turns the headers of a LoRA adapter into the facts that plans need: llama.cpp's GGUF, or PEFT's files. Pure.

The names of GGUF's keys and tensors are those that llama.cpp b11434 reads (src/llama-adapter.cpp), the others
those that PEFT writes (save_pretrained of a LoraConfig). What a server would refuse to load is refused here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_loader.contract import AdapterFacts, HeaderFacts
from nimblet_loader.facts import sum_tensors
from nimblet_loader.gguf import GGUFHeader
from nimblet_loader.modelconfig import parse_json
from nimblet_loader.safetensors import SafetensorsHeader

MAX_TARGETS: Final = 16
_GGUF_TENSOR: Final = re.compile(r"^(?P<target>.+)\.weight\.lora_(?P<half>[ab])$")
_PEFT_TENSOR: Final = re.compile(r"^(?P<target>.+)\.lora_(?P<half>[AB])\.weight$")
_GGUF_LAYER: Final = re.compile(r"^blk\.(\d{1,4})\.")
_PEFT_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,4})\.")
_EMBEDDING: Final = "token_embd"
"""Its halves stand the other way around: nothing is learned of its shape."""
_READS_EMBEDDING: Final = frozenset(
    {"attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_gate", "ffn_up"}
    | {"q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj"}
)
_WRITES_EMBEDDING: Final = frozenset({"attn_output", "ffn_down", "o_proj", "down_proj"})
_WRITES_FEED_FORWARD: Final = frozenset({"ffn_gate", "ffn_up", "gate_proj", "up_proj"})
_READS_FEED_FORWARD: Final = frozenset({"ffn_down", "down_proj"})
"""Modules whose rows or columns are as wide as the model's embedding or its feed-forward layer."""

Name = Annotated[str, StringConstraints(max_length=512)]


class PeftConfig(BaseModel):
    """What is read of adapter_config.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peft_type: Annotated[str, StringConstraints(max_length=64)] = ""
    r: Annotated[int, Field(ge=1, le=4096)] = 8
    lora_alpha: Annotated[float, Field(ge=0, le=2**20, allow_inf_nan=False)] = 8.0
    base_model_name_or_path: Name | None = None
    bias: Annotated[str, StringConstraints(max_length=64)] = "none"
    use_dora: bool = False
    modules_to_save: JsonValue = None


@dataclass(frozen=True)
class _Half:
    """One of the two matrices of a module: what it is of, and how many numbers go in and out."""

    target: str
    first: bool
    inputs: int
    outputs: int


@dataclass(frozen=True)
class _Pair:
    """Both matrices of a module, as wide as the module itself."""

    target: str
    rank: int
    inputs: int
    outputs: int

    @property
    def module(self) -> str:
        """Return the module's name without its place."""
        return self.target.rpartition(".")[2]


def not_an_adapter(path: str, found: str) -> SourceError:
    """Return the error of a file that is no LoRA adapter."""
    return SourceError(
        Reason.NotAnAdapter,
        f"Expected {quoted(path)} to be a LoRA adapter; {found}. Name the adapter's own files in the adapter's "
        "source, and the model in spec.source.",
    )


def gguf_adapter_facts(path: str, headers: Sequence[tuple[GGUFHeader, int]]) -> HeaderFacts:
    """Return the facts of an adapter in GGUF; SourceError says what it is instead, or what is wrong with it."""
    if len(headers) != 1:
        raise not_an_adapter(path, f"it has {len(headers)} parts, and adapters have one")
    header = headers[0][0]
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        found = header.metadata.get(key, "model" if key == "general.type" else "")
        if found != wanted:
            raise not_an_adapter(path, f"its {key} is {quoted(str(found), limit=40)} and not {quoted(wanted)}")
    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", architecture):
        raise _flawed(path, "general.architecture is missing or no plain name")
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not 0 <= alpha <= 2**20:
        raise _flawed(path, "adapter.lora.alpha is no number")
    halves = [_gguf_half(path, item.name, item.shape) for item in header.tensors if not _is_norm(item.name)]
    facts = _facts(path, halves, _GGUF_LAYER, alpha=alpha, base_model=_base_name(header))
    tensors = sum_tensors(headers)
    return _header_facts(architecture, tensors.parameters, tensors.by_type, facts)


def peft_adapter_facts(
    folder: str, headers: Sequence[SafetensorsHeader], texts: Mapping[str, bytes], *, config: str
) -> HeaderFacts:
    """Return the facts of an adapter as PEFT writes it; SourceError says what is wrong with it."""
    path = folder + config
    told = parse_json(PeftConfig, path, texts[config])
    if told.peft_type.upper() != "LORA":
        raise not_an_adapter(path, f"its peft_type is {quoted(told.peft_type, limit=40)}")
    if told.use_dora or told.modules_to_save or told.bias != "none":
        raise SourceError(
            Reason.UnsupportedFormat,
            f"Expected plain LoRA in {quoted(path)}; found use_dora, modules_to_save or a bias, which no server "
            "here loads. Train it without them, or merge it into the model.",
        )
    header = headers[0]
    halves = [_peft_half(path, tensor.name, tensor.shape) for tensor in header.tensors]
    facts = _facts(
        path, halves, _PEFT_LAYER, alpha=told.lora_alpha, base_model=_plain(told.base_model_name_or_path)
    )
    return _header_facts("", header.parameters, header.bytes_by_type, facts)


def _header_facts(
    architecture: str, parameters: int, by_type: Mapping[str, int], adapter: AdapterFacts
) -> HeaderFacts:
    """Return what an adapter's files tell; what only a model has is zero."""
    return HeaderFacts(
        architecture=architecture,
        parameters=parameters,
        tensor_bytes=sum(by_type.values()),
        tensor_types=dict(sorted(by_type.items())),
        output_tied=False,
        context_length=0,
        embedding_length=0,
        block_count=0,
        chat_template=False,
        adapter=adapter,
    )


def _is_norm(name: str) -> bool:
    """Tell whether the server passes a tensor over: vectors of norms, which it does not apply."""
    return name.endswith("_norm.weight")


def _gguf_half(path: str, name: str, shape: tuple[int, ...]) -> _Half:
    """Return a matrix; GGUF names the width of a row first. Those of experts have a third dimension."""
    found = _GGUF_TENSOR.match(name)
    if found is None or len(shape) not in (2, 3):
        raise _foreign(path, name)
    return _Half(found["target"], found["half"] == "a", shape[0], shape[1])


def _peft_half(path: str, name: str, shape: tuple[int, ...]) -> _Half:
    found = _PEFT_TENSOR.match(name)
    if found is None or len(shape) != 2:  # noqa: PLR2004 - a matrix
        raise _foreign(path, name)
    return _Half(found["target"], found["half"] == "A", shape[1], shape[0])


def _facts(
    path: str, halves: Iterable[_Half], layer: re.Pattern[str], *, alpha: float, base_model: str | None
) -> AdapterFacts:
    pairs = _paired(path, halves)
    known = [pair for pair in pairs if pair.module != _EMBEDDING]
    layers = [int(found[1]) + 1 for pair in pairs if (found := layer.search(pair.target))]
    embedding = {pair.inputs for pair in known if pair.module in _READS_EMBEDDING}
    embedding |= {pair.outputs for pair in known if pair.module in _WRITES_EMBEDDING}
    feed_forward = {pair.outputs for pair in known if pair.module in _WRITES_FEED_FORWARD}
    feed_forward |= {pair.inputs for pair in known if pair.module in _READS_FEED_FORWARD}
    if len(embedding) > 1:
        raise _flawed(path, f"its matrices are of models as wide as {sorted(embedding)}")
    modules = sorted({re.sub(r"[^A-Za-z0-9_]", "", pair.module)[:64] or "unknown" for pair in pairs})
    return AdapterFacts(
        rank=max(pair.rank for pair in pairs),
        alpha=alpha,
        layers=max(layers, default=0),
        embedding_length=next(iter(embedding), None),
        # layers may differ in it: then nothing is said
        feed_forward_length=next(iter(feed_forward)) if len(feed_forward) == 1 else None,
        targets=tuple(modules[:MAX_TARGETS]),
        base_model=base_model,
    )


def _paired(path: str, halves: Iterable[_Half]) -> list[_Pair]:
    """Return the modules with both of their matrices; one without the other fits no server."""
    firsts: dict[str, _Half] = {}
    seconds: dict[str, _Half] = {}
    for half in halves:
        (firsts if half.first else seconds)[half.target] = half
    odd = firsts.keys() ^ seconds.keys()
    if odd:
        raise _flawed(path, f"{listed(odd, limit=3)} has one matrix of two")
    pairs = []
    for target, first in firsts.items():
        second = seconds[target]
        # of the embedding both matrices have the rank first
        flipped = target.rpartition(".")[2] == _EMBEDDING
        rank = first.inputs if flipped else first.outputs
        if rank != second.inputs or rank < 1:
            raise _flawed(path, f"the matrices of {quoted(target, limit=80)} do not fit each other")
        pairs.append(_Pair(target, rank, first.outputs if flipped else first.inputs, second.outputs))
    if not pairs:
        raise not_an_adapter(path, "it has no matrices")
    return pairs


def _base_name(header: GGUFHeader) -> str | None:
    value = header.metadata.get("general.base_model.0.name")
    return _plain(value) if isinstance(value, str) else None


def _plain(name: str | None) -> str | None:
    """Return a name fit for a status."""
    return "".join(c for c in name if c.isascii() and c.isprintable())[:128] or None if name is not None else None


def _foreign(path: str, name: str) -> SourceError:
    return not_an_adapter(path, f"its tensor {quoted(name, limit=80)} is no matrix of one")


def _flawed(path: str, flaw: str) -> SourceError:
    return SourceError(
        Reason.HeaderInvalid,
        f"Expected a sound LoRA adapter in {quoted(path)}; {flaw}. The file is damaged, or of another tool: use "
        "another one.",
    )
