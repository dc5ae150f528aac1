# SPDX-License-Identifier: Apache-2.0
"""The build's configuration file: what the operator renders and this program reads. Parsing only."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel

from nimblet_egress.policy import EgressPolicy, S3Policy

Glob = Annotated[str, StringConstraints(pattern=r"^[^\x00\n]+$", max_length=200)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]*$", max_length=260)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s#@]+$", max_length=1000)]
Folder = Annotated[str, StringConstraints(pattern=r"^[^/\x00-\x1f][^\x00-\x1f]*$", max_length=500)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ConfigModel(BaseModel):
    """Base: frozen, camelCase in the file, an unknown key is an error at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class SourceModel(ConfigModel):
    """What every source has."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)] = Field(
        description="Name of the source: begins the ids of its documents."
    )
    include: tuple[Glob, ...] = Field(
        default=("**/*",),
        min_length=1,
        max_length=50,
        description="Globs of paths that are read; ** crosses folders. Of a page, the path of its address.",
    )
    exclude: tuple[Glob, ...] = Field(default=(), max_length=50, description="Globs of paths that are left out.")
    labels: dict[Label, Label] = Field(
        default_factory=dict, max_length=20, description="Put on every passage, for filters."
    )
    access: tuple[Label, ...] = Field(
        min_length=1, max_length=100, description="Who may find its passages: any one of these labels."
    )
    previous_documents: int | None = Field(
        default=None,
        ge=0,
        description="Documents that the last good build had of it: what maxShrink is a share of. None: no check.",
    )


class Credentials(ConfigModel):
    """A mounted Secret, and the hosts that it names itself: nobody else ever sees it."""

    folder: Path = Field(
        description="One file an entry: `token`, `username` and `password`, or `accessKeyId`, `secretAccessKey` "
        "and `sessionToken`."
    )
    hosts: tuple[Host, ...] = Field(
        min_length=1, max_length=20, description="`host` or `host:port` that may see it, exactly."
    )


class FolderSource(SourceModel):
    """A mounted volume: a ConfigMap's or a claim's."""

    type: Literal["Folder"] = "Folder"
    folder: Path = Field(description="Where the volume is mounted.")


class GitSource(SourceModel):
    """A folder of a git repository over http(s), without history, submodules, hooks and large-file store."""

    type: Literal["Git"]
    url: Url = Field(description="Address of the repository.")
    revision: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=100)] | None
    ) = Field(default=None, description="Branch, tag or commit (40 hex digits); the default branch when absent.")
    path: Folder | None = Field(default=None, description="Folder inside the repository; all of it when absent.")
    credentials: Credentials | None = Field(
        default=None, description="`username` and `password`, or a `token` that becomes the password of `git`."
    )


class S3Source(SourceModel):
    """Objects of a bucket at the administrator's S3 service."""

    type: Literal["S3"]
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=500)] = Field(
        default="", description="Folder of the bucket; all of it when empty."
    )
    credentials: Credentials | None = Field(default=None, description="Access key; none for a public bucket.")


class WebSource(SourceModel):
    """Pages of one site: same scheme, host and port. Its robots.txt is obeyed."""

    type: Literal["Web"]
    sitemap: Url | None = Field(default=None, description="Address of a sitemap or an index of sitemaps.")
    urls: tuple[Url, ...] = Field(default=(), max_length=1000, description="Addresses of pages.")
    max_pages: int = Field(default=1000, ge=1, le=10_000, description="Pages that are read at most.")
    credentials: Credentials | None = Field(default=None, description="A `token`, sent as bearer.")

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.sitemap is None) == (not self.urls):
            raise ValueError("expected either a sitemap or a list of urls; give one of them")
        return self


Source = Annotated[FolderSource | GitSource | S3Source | WebSource, Field(discriminator="type")]


class RetrieverTarget(ConfigModel):
    """Where passages go."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+[^\s?#/]$", max_length=1000)]
    key_file: Path = Field(description="File with a key of the scope `build`.")
    timeout_seconds: float = Field(default=120.0, gt=0, description="Of one request.")
    patience_seconds: float = Field(
        default=600.0, gt=0, description="How long an unavailable retriever or model is waited for."
    )


class Chunking(ConfigModel):
    """How documents are cut."""

    tokens: int = Field(default=256, ge=16, le=8192, description="Tokens of what is embedded at once.")
    overlap: int = Field(default=32, ge=0, description="Tokens at most that repeat the end of the passage before.")


class FileLimits(ConfigModel):
    """Of one file, and of what a source brings."""

    file_bytes: int = Field(default=64 * 2**20, ge=1, description="Largest file that is read.")
    memory_bytes: int = Field(
        default=2 * 2**30, ge=2**28, description="Address space of a process that parses, or that unpacks git."
    )
    seconds: float = Field(default=120.0, gt=0, description="Time to parse a file.")
    fetch_seconds: float = Field(
        default=600.0, gt=0, description="Time to fetch a file, a listing or a repository."
    )
    source_bytes: int = Field(
        default=2 * 2**30,
        ge=1,
        description="Most bytes that a repository's pack, or its files unpacked, may have.",
    )
    source_files: int = Field(default=100_000, ge=1, description="Most files that a source may list.")


class Gate(ConfigModel):
    """The golden questions, and what a generation must reach with them before it serves."""

    file: Path = Field(description="JSON lines: id, question, document, quote.")
    k: int = Field(default=5, ge=1, le=50, description="Passages that a question may need.")
    min_recall: Share = Field(description="Share of questions that must find their passage among the first k.")
    min_mrr: Share | None = Field(default=None, alias="minMRR", description="Least mean reciprocal rank.")
    min_ndcg: Share | None = Field(default=None, alias="minNDCG", description="Least nDCG at k.")


class Egress(EgressPolicy):
    """The administrator's limits for what is fetched, with the S3 service."""

    s3: S3Policy = S3Policy()
    user_agent: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,200}$")] = "nimblet-indexer/1"


class IndexerConfig(ConfigModel):
    """The whole file."""

    version: Literal[1]
    generation: Annotated[str, StringConstraints(pattern=r"^g[0-9]{6}$")]
    token: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,32}$")]
    retriever: RetrieverTarget
    sources: tuple[Source, ...] = Field(min_length=1, max_length=20)
    egress: Egress = Field(default=Egress(), description="Hosts that may be asked; none by default.")
    scratch: Path = Field(default=Path("/scratch"), description="Empty folder for what is fetched.")
    chunking: Chunking = Chunking()
    limits: FileLimits = FileLimits()
    parsers: int = Field(default=2, ge=1, le=16, description="Files parsed at the same time, each in a process.")
    in_flight: int = Field(default=3, ge=1, le=16, description="Batches that the retriever has at the same time.")
    max_shrink: int = Field(
        default=100,
        ge=1,
        le=100,
        description="Percent of its documents that a source may have lost; beyond that nothing is swapped.",
    )
    gate: Gate | None = Field(default=None, description="What is asked before the swap; nothing when null.")
    serve: bool = Field(
        default=True, description="Whether to swap; false while the index is pinned to another generation."
    )
    retain: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Complete generations kept beside the serving one; older ones are dropped. Null drops none.",
    )

    @field_validator("sources", mode="before")
    @classmethod
    def _folder_by_default(cls, value: object) -> object:
        """A source without a type is a folder."""
        if not isinstance(value, list):
            return value
        return [{"type": "Folder", **item} if isinstance(item, dict) else item for item in value]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("expected every source to have a name of its own; two share one")
        return self


def read_config(path: Path) -> IndexerConfig:
    """Return the configuration. OSError and pydantic's ValidationError name what is wrong."""
    return IndexerConfig.model_validate_json(path.read_bytes())
