# SPDX-License-Identifier: Apache-2.0
"""The loader's inputs and outputs as JSON: the contract with the operator.

Everything from outside is parsed here, once, and unknown keys are refused. It must not do I/O.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_egress.paths import unsafe_path
from nimblet_egress.policy import AllowRule, Contract, EgressPolicy, S3Policy
from nimblet_egress.target import parse_target
from nimblet_loader.repository import foreign_path

VERSION: Final = 1
MAX_MESSAGE_BYTES = 4096
"""Kubernetes keeps at most this much of a container's termination message."""
MAX_FILES = 48
"""Files of one model: so many digests fit a termination message, packed (message.py)."""

_HUB_HOST: Final = "huggingface.co"
_HUB_DOWNLOAD_HOSTS: Final = ("*.huggingface.co", "*.hf.co")
"""Where the public hub redirects file downloads to; without them the default policy could fetch nothing."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**62)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
Format = Literal["GGUF", "Safetensors"]
LayerValues = Count | tuple[tuple[Count, Count], ...]
"""One number for all layers, or runs of (value, number of layers) in layer order."""


_M = TypeVar("_M", bound=BaseModel)


def url_file_name(url: str) -> str:
    """Return the file name that a URL ends with; SourceError UnsafePath if it has no usable one."""
    name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    flaw = unsafe_path(name)
    if flaw is not None:
        raise SourceError(
            Reason.UnsafePath,
            f"The URL must end with a plain file name; found {quoted(name)}: {flaw}. Use another URL.",
        )
    return name


class Signature(Contract):
    """A signature by OpenSSF model-signing v1, and whose it must be.

    `trust` is by method the PEM of the public key, the PEM of the root certificates, or sigstore's trust
    configuration as JSON. `identity` and `issuer` are whom a certificate must name.
    """

    method: Literal["Key", "Certificate", "Sigstore"]
    bundle: Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
    trust: Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
    identity: Annotated[str, StringConstraints(pattern=r"^[ -~]{1,256}$")] | None = None
    issuer: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")] | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.method == "Sigstore" and (self.identity is None or self.issuer is None):
            raise ValueError("the method Sigstore needs identity and issuer: its roots sign for everybody")
        return self


class Signer(Contract):
    """Who signed: the method, and the key's SHA-256, the certificate's subject or the identity."""

    method: Literal["Key", "Certificate", "Sigstore"]
    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Encryption(Contract):
    """That the weights are encrypted, and which model and revision their signed manifest must be of.

    `resource` is the key's path, `repository/type/tag`, at the guest's key service; without it the key is a
    mounted file.
    """

    model: ModelName
    revision: ModelName
    resource: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){2}$"),
        ]
        | None
    ) = None


class Source(Contract):
    """Where a model comes from (`NIMBLET_SOURCE`, for both commands).

    `prefer` names the format to take where the source holds both; GGUF when absent.
    `sha256` maps a file's path to its expected digest. With `signature` the signed digests take its place once the
    signature is verified (signature.py). `vocabulary` asks for a digest of the tokens. With `adapter` it holds a
    LoRA adapter, and nothing else is taken.
    """

    version: Literal[1]
    uri: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    revision: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")] | None = None
    files: tuple[Annotated[str, StringConstraints(min_length=1, max_length=512)], ...] = ()
    quantization: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")] | None = None
    prefer: Literal["Safetensors"] | None = None
    sha256: dict[str, Sha256] = Field(default_factory=dict)
    signature: Signature | None = None
    secret: bool = False
    role_arn: Annotated[str, StringConstraints(pattern=r"^arn:[\x21-\x7e]{1,250}$")] | None = None
    encryption: Encryption | None = None
    adapter: Literal[True] | None = None
    vocabulary: Literal[True] | None = None

    @property
    def scheme(self) -> str:
        """Return the URI's scheme in lower case."""
        return self.uri.partition("://")[0].lower()


class OCIPolicy(Contract):
    """The admin's registries, as `host` or `host:port`, that are spoken to in plain HTTP; all others in https."""

    plain_http: tuple[str, ...] = ()


class FetchPolicy(EgressPolicy):
    """The admin's limits for all traffic of the loader. Times in seconds, sizes in bytes."""

    version: Literal[1]
    hf_endpoint: str = "https://huggingface.co"
    s3: S3Policy = S3Policy()
    ollama_registry: str = "https://registry.ollama.ai"
    oci: OCIPolicy = OCIPolicy()
    max_file_bytes: Annotated[int, Field(gt=0)] = 64 * 2**30
    user_agent: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,200}$")] = "nimblet-loader/1"

    def rules(self) -> tuple[AllowRule, ...]:
        """Return the policy's rules; an empty list means the hub's endpoint alone, at public addresses.

        For the public hub that includes the hosts its downloads are redirected to.
        """
        if self.allow:
            return self.allow
        host = parse_target(self.hf_endpoint).host
        extra = _HUB_DOWNLOAD_HOSTS if host == _HUB_HOST else ()
        return tuple(AllowRule(host=name) for name in (host, *extra))


class ArtifactFile(Contract):
    """One pinned file: its path below the destination, size in bytes and, where known, digest.

    `tag` is the source's own name of these bytes where the commit pins nothing: an S3 ETag, a layer's digest.
    With `sealedSize` the source holds the file encrypted, in so many bytes and under its name with `.age` behind
    it; `tag` is of those, size and digest are of the plaintext.
    """

    path: str
    size: Annotated[int, Field(ge=1, le=2**50)]
    sha256: Sha256 | None = None
    tag: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,256}$")] | None = None
    sealed_size: Annotated[int, Field(ge=1, le=2**50)] | None = None

    @model_validator(mode="after")
    def _safe(self) -> Self:
        flaw = unsafe_path(self.path)
        if flaw is not None:
            raise ValueError(f"path {quoted(self.path)} is unsafe: {flaw}")
        return self


class Quantization(Contract):
    """How the weights of a safetensors repository are quantized, as its config.json says."""

    method: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    bits: Annotated[int, Field(ge=1, le=32)] | None = None
    group_size: Count | None = None


class AdapterFacts(Contract):
    """What the headers tell about a LoRA adapter: its largest rank, its alpha, and what model it fits.

    `layers` is how many layers a model must have at least; the widths are left out where no matrix shows them.
    """

    rank: Annotated[int, Field(ge=1, le=2**20)]
    alpha: Annotated[float, Field(ge=0, le=2**20, allow_inf_nan=False)]
    layers: Count
    embedding_length: Count | None = None
    feed_forward_length: Count | None = None
    targets: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")], ...] = ()
    base_model: Annotated[str, StringConstraints(max_length=128)] | None = None


class HeaderFacts(Contract):
    """What the headers tell about a model, summed over its parts; a safetensors repository's config.json too.

    `keyLength` and `valueLength` are effective (derived from embedding and heads where absent).
    `slidingWindowPattern` is a period (int) or runs of (1 = windowed, 0 = full; layers).
    `classifier` is true where a classification head is there; `classifierOutputs` counts its labels, and
    `classifierLabels` names them where they are few and short.
    `vocabulary` digests the first tokens of a GGUF file, where the source asks for it (gguf.py, TOKENS).
    `mergeCount` counts the merges of a BPE vocabulary; other vocabularies have 0.
    `tensorTypes` maps ggml or safetensors type names to bytes. `other` holds further per-architecture integers
    by GGUF's key, from config.json translated into them.
    Of safetensors alone: `architecture` is the class that config.json names, `modelType` its family, `dtype` the
    type that it asks to compute in; layers without attention have 0 in `headCountKv`; `contextLength` has the
    scaling of positions in it.
    Of a LoRA adapter `adapter` tells the shape; the model's is zero, and in safetensors the architecture empty.
    """

    architecture: Annotated[str, StringConstraints(max_length=64)]
    name: Annotated[str, StringConstraints(max_length=128)] | None = None
    parameters: Count
    tensor_bytes: Count
    tensor_types: dict[str, Count]
    token_embedding_bytes: Count | None = None
    output_tied: bool
    file_type: Count | None = None
    context_length: Count
    embedding_length: Count
    feed_forward_length: LayerValues | None = None
    block_count: Count
    head_count: LayerValues | None = None
    head_count_kv: LayerValues | None = None
    key_length: Count | None = None
    value_length: Count | None = None
    sliding_window: Count | None = None
    sliding_window_pattern: LayerValues | None = None
    vocab_size: Count | None = None
    vocabulary: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    merge_count: Count | None = None
    expert_count: Count | None = None
    expert_used_count: Count | None = None
    pooling_type: Count | None = None
    causal_attention: bool | None = None
    classifier: Literal[True] | None = None
    classifier_outputs: Count | None = None
    classifier_labels: tuple[Annotated[str, StringConstraints(min_length=1, max_length=32)], ...] | None = None
    chat_template: bool
    chat_template_sha256: Sha256 | None = None
    model_type: Annotated[str, StringConstraints(max_length=64)] | None = None
    dtype: Annotated[str, StringConstraints(max_length=16)] | None = None
    quantization: Quantization | None = None
    other: dict[str, Count] = Field(default_factory=dict)
    adapter: AdapterFacts | None = None


class Artifact(Contract):
    """A resolved source: everything that later steps need, pinned.

    `commit` is the source's 40-hex commit, or `sha256:<hex>` where the source has none. `digestSource` says
    who vouches for the weakest digest: the user's spec, a signature by whom the spec names, the source itself, the
    resolver, which measured it, or nobody. `manifest` is the signed list of a source whose files are all
    encrypted.
    """

    version: Literal[1]
    uri: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|sha256:[0-9a-f]{64})$")]
    files: Annotated[tuple[ArtifactFile, ...], Field(min_length=1, max_length=MAX_FILES)]
    digest_source: Literal["Spec", "Signature", "Source", "Resolver", "None"]
    signer: Signer | None = None
    format: Format
    header: HeaderFacts
    manifest: ArtifactFile | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({file.path for file in self.files}) != len(self.files):
            raise ValueError("a path is listed twice")
        if any((file.sealed_size is None) == (self.manifest is not None) for file in self.files):
            raise ValueError("either all files are encrypted and a manifest tells of them, or none is")
        adapter = self.header.adapter is not None
        foreign = [file.path for file in self.files if foreign_path(file.path, self.format, adapter=adapter)]
        if foreign:
            raise ValueError(f"{quoted(foreign[0])} is no file of a model in {self.format}")
        return self


class FetchReport(Contract):
    """What a fetch did, as its termination message: bytes in all, bytes that came over the network.

    `sha256` has the digest of every file as it lies there, also where nobody had told one.
    """

    version: Literal[1]
    files: int
    bytes: int
    downloaded_bytes: int
    seconds: float
    sha256: dict[str, Sha256] = Field(default_factory=dict)


def fetch_report(
    artifact: Artifact, *, sha256: Mapping[str, str], seconds: float, downloaded_bytes: int = 0
) -> FetchReport:
    """Return the report about an artifact whose files are all there."""
    return FetchReport(
        version=VERSION,
        files=len(artifact.files),
        bytes=sum(file.size for file in artifact.files),
        downloaded_bytes=downloaded_bytes,
        seconds=round(seconds, 3),
        sha256=dict(sha256),
    )


class CachedFile(Contract):
    """One file of a complete cache folder: what was there when it was filled."""

    path: str
    size: Annotated[int, Field(ge=1, le=2**50)]
    sha256: Sha256


class CacheRecord(Contract):
    """Lies in a cache folder once all its files do; a folder without it is not complete."""

    version: Literal[1]
    files: Annotated[tuple[CachedFile, ...], Field(min_length=1, max_length=MAX_FILES)]


class Failure(Contract):
    """Why a run failed: a `Reason`'s name and a message without secrets."""

    reason: str
    message: str


class FailureReport(Contract):
    """The termination message of a failed run."""

    version: Literal[1]
    error: Failure


class ProgressReport(Contract):
    """The answer of `/progress`: bytes so far, of the total, and what is going on."""

    percent: Annotated[int, Field(ge=0, le=100)]
    bytes: int
    total: int
    phase: Literal["Starting", "Verifying", "Downloading", "Done"]


def parse_source(text: str) -> Source:
    """Parse `NIMBLET_SOURCE`; SourceError ConfigInvalid names what is wrong."""
    return _parse(Source, text, "the source in NIMBLET_SOURCE")


def parse_policy(text: str) -> FetchPolicy:
    """Parse policy.json; SourceError ConfigInvalid names what is wrong."""
    return _parse(FetchPolicy, text, "the fetch policy")


def parse_artifact(text: str) -> Artifact:
    """Parse artifact.json; SourceError ConfigInvalid names what is wrong."""
    return _parse(Artifact, text, "the artifact")


def _parse(model: type[_M], text: str, what: str) -> _M:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        # Values are left out: they may be anything, and a policy names an admin's hosts.
        flaws = [f"{'.'.join(str(part) for part in e['loc']) or 'JSON'}: {e['msg']}" for e in error.errors()]
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected {what} as version {VERSION} of the contract; found {listed(flaws, limit=5)}. "
            "Run an operator and a loader of matching versions.",
        ) from error


def encode(message: BaseModel) -> bytes:
    """Return a message as compact JSON without absent values."""
    return message.model_dump_json(by_alias=True, exclude_none=True).encode()
