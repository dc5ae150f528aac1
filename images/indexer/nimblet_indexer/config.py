# SPDX-License-Identifier: Apache-2.0
"""The build's configuration file: what the operator renders and this program reads. Parsing only."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Glob = Annotated[str, StringConstraints(pattern=r"^[^\x00\n]+$", max_length=200)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ConfigModel(BaseModel):
    """Base: frozen, camelCase in the file, an unknown key is an error at start."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class FolderSource(ConfigModel):
    """A mounted volume: a ConfigMap's or a claim's."""

    type: Literal["Folder"] = "Folder"
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)] = Field(
        description="Name of the source: begins the ids of its documents."
    )
    folder: Path = Field(description="Where the volume is mounted.")
    include: tuple[Glob, ...] = Field(
        default=("**/*",),
        min_length=1,
        max_length=50,
        description="Globs of paths that are read; ** crosses folders.",
    )
    exclude: tuple[Glob, ...] = Field(default=(), max_length=50, description="Globs of paths that are left out.")
    labels: dict[Label, Label] = Field(
        default_factory=dict, max_length=20, description="Put on every passage, for filters."
    )
    access: tuple[Label, ...] = Field(
        min_length=1, max_length=100, description="Who may find its passages: any one of these labels."
    )


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
    """Of one file."""

    file_bytes: int = Field(default=64 * 2**20, ge=1, description="Largest file that is read.")
    memory_bytes: int = Field(default=2 * 2**30, ge=2**28, description="Address space of the parser process.")
    seconds: float = Field(default=120.0, gt=0, description="Time to parse it.")


class IndexerConfig(ConfigModel):
    """The whole file."""

    version: Literal[1]
    generation: Annotated[str, StringConstraints(pattern=r"^g[0-9]{6}$")]
    token: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,32}$")]
    retriever: RetrieverTarget
    sources: tuple[FolderSource, ...] = Field(min_length=1, max_length=20)
    chunking: Chunking = Chunking()
    limits: FileLimits = FileLimits()
    parsers: int = Field(default=2, ge=1, le=16, description="Files parsed at the same time, each in a process.")


def read_config(path: Path) -> IndexerConfig:
    """Return the configuration. OSError and pydantic's ValidationError name what is wrong."""
    return IndexerConfig.model_validate_json(path.read_bytes())
