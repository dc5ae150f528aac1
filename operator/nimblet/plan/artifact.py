# SPDX-License-Identifier: Apache-2.0
"""What the resolver found, as the plan reads it. The loader's image owns the format; a contract test ties both.

The text was written in the tenant's namespace: a forged artifact may mislead the sizing of the tenant's own
pod and nothing else, since the loader checks every byte against the spec again.
"""

import base64
import binascii
import zlib
from itertools import chain, islice, repeat
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from nimblet.api.common import Sha256

DIGEST: Final = "Digest"
"""Verified by digests, not by a signature."""

MAX_FILES: Final = 48
"""Of one model; the loader's limit too."""
UNPACKED_BYTES: Final = 65_536
"""Most that a packed message may unpack to: it was written in the tenant's namespace."""

Format = Literal["GGUF", "Safetensors"]
Count = Annotated[int, Field(ge=0, le=2**62)]
Layers = Annotated[int, Field(ge=0, le=1024)]
Key = Annotated[str, Field(max_length=64)]
Label = Annotated[str, Field(max_length=32)]
Runs = tuple[tuple[Count, Layers], ...]


class ArtifactModel(BaseModel):
    """Base: frozen; keys a newer loader adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class File(ArtifactModel):
    """One pinned file."""

    path: Annotated[str, Field(min_length=1, max_length=512)]
    size: Annotated[int, Field(ge=1, le=2**50)]
    sha256: Sha256 | None = None
    tag: Annotated[str, Field(max_length=256)] | None = None
    """The source's own name of these bytes; for a file of an image its layer and its place in there."""


class Quantization(ArtifactModel):
    """How the weights of a safetensors repository are quantized: awq, gptq, fp8, compressed-tensors and others."""

    method: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=32)]
    bits: Annotated[int, Field(ge=1, le=32)] | None = None
    group_size: Count | None = None


class Lora(ArtifactModel):
    """What the headers tell about a LoRA adapter; the widths are None where no matrix shows them."""

    rank: Annotated[int, Field(ge=1, le=2**20)]
    alpha: float = 0.0
    layers: Layers = 0
    embedding_length: Count | None = None
    feed_forward_length: Count | None = None
    base_model: Annotated[str, Field(max_length=128)] | None = None


class Header(ArtifactModel):
    """Facts of the headers that plans need; per-layer values are one number or (value, layers) runs.

    Of safetensors `architecture` is the class that config.json names (`LlamaForCausalLM`) and `model_type` its
    family (`llama`); of GGUF llama.cpp's name (`llama`), with no `model_type`. `other` holds sizes of latent
    attention and recurrent layers by GGUF's keys in both. Layers without attention have 0 in `head_count_kv`.
    """

    architecture: str
    parameters: Count
    tensor_bytes: Count
    tensor_types: dict[str, Count] = Field(default_factory=dict)
    token_embedding_bytes: Count | None = None
    output_tied: bool = False
    context_length: Count
    embedding_length: Count
    feed_forward_length: Count | Runs | None = None
    block_count: Layers
    head_count: Count | Runs | None = None
    head_count_kv: Count | Runs | None = None
    key_length: Count | None = None
    value_length: Count | None = None
    sliding_window: Count | None = None
    sliding_window_pattern: Count | Runs | None = None
    vocab_size: Count | None = None
    vocabulary: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the first tokens, where it was asked for."""
    merge_count: Count | None = None
    expert_count: Count | None = None
    expert_used_count: Count | None = None
    pooling_type: Count | None = None
    causal_attention: bool | None = None
    classifier: bool | None = None
    classifier_outputs: Count | None = None
    classifier_labels: Annotated[tuple[Label, ...], Field(max_length=16)] | None = None
    chat_template: bool = False
    model_type: Annotated[str, Field(max_length=64)] | None = None
    dtype: Annotated[str, Field(max_length=16)] | None = None
    quantization: Quantization | None = None
    other: Annotated[dict[Key, Count], Field(max_length=32)] = Field(default_factory=dict)
    adapter: Lora | None = None
    """Set where the files are a LoRA adapter; the shape of a model is then zero."""


class Signer(ArtifactModel):
    """Who signed, as the resolver found it."""

    method: Literal["Key", "Certificate", "Sigstore"]
    name: Annotated[str, Field(max_length=256)]


class Artifact(ArtifactModel):
    """A resolved, pinned source."""

    version: Literal[1]
    uri: str
    commit: str
    files: Annotated[tuple[File, ...], Field(min_length=1, max_length=MAX_FILES)]
    digest_source: Literal["Spec", "Signature", "Source", "Resolver", "None"]
    signer: Signer | None = None
    format: Format
    header: Header

    @property
    def method(self) -> str:
        """How the resolver verified the files: a signature's method, Digest, or empty for not at all."""
        if self.digest_source == "Signature":
            return self.signer.method if self.signer is not None else ""
        return DIGEST if self.digest_source == "Spec" else ""

    @property
    def total_bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(file.size for file in self.files)

    @property
    def is_image(self) -> bool:
        """Whether the files lie in the layers of an image, each with a digest that the resolver measured."""
        return all(file.sha256 is not None and "+" in (file.tag or "") for file in self.files)


class _FetchReport(ArtifactModel):
    version: Literal[1]
    sha256: dict[Annotated[str, Field(max_length=512)], Sha256] = Field(default_factory=dict, max_length=MAX_FILES)


class LoaderFailure(ArtifactModel):
    """The reason and message a failed loader left."""

    reason: str
    message: str


class _Packed(ArtifactModel):
    version: Literal[1]
    packed: Annotated[str, Field(max_length=4096)]


class _FailureReport(ArtifactModel):
    version: Literal[1]
    error: LoaderFailure


def unpacked(text: str) -> str:
    """Return what a loader's message says: the text itself, or what it holds deflated where it was too long."""
    try:
        packed = _Packed.model_validate_json(text).packed
    except ValidationError:
        return text
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(base64.b64decode(packed, validate=True), UNPACKED_BYTES)
        return raw.decode() if inflater.eof else ""
    except (binascii.Error, zlib.error, UnicodeDecodeError):
        return ""


def parse_artifact(text: str) -> Artifact | None:
    """Return the artifact in `text`, or None when it is none of this version."""
    try:
        return Artifact.model_validate_json(text)
    except ValidationError:
        return None


def parse_digests(text: str) -> dict[str, str]:
    """Return the SHA-256 of each file that a loader's termination message tells, none if it is no such message."""
    try:
        return _FetchReport.model_validate_json(unpacked(text)).sha256
    except ValidationError:
        return {}


def parse_failure(text: str) -> LoaderFailure | None:
    """Return the failure in a loader's termination message, or None when it holds none."""
    try:
        return _FailureReport.model_validate_json(text).error
    except ValidationError:
        return None


def per_layer(value: Count | Runs | None, *, layers: int, default: int) -> tuple[int, ...]:
    """Return one number a layer out of a single number or runs; a run list that is short is filled with 0.

    Never more work than `layers`, whatever the runs claim: the text came from the tenant's namespace.
    """
    if value is None:
        return (default,) * layers
    if isinstance(value, int):
        return (value,) * layers
    flat = chain.from_iterable(repeat(number, min(count, layers)) for number, count in value)
    return tuple(islice(chain(flat, repeat(0)), layers))
