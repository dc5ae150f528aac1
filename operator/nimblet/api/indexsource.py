# SPDX-License-Identifier: Apache-2.0
"""What an index is built from. Shape and local validity only; sources are read by the indexer alone."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nimblet.api.common import ObjectName, SecretRef, SpecModel
from nimblet.api.definition import Rule, rules

EVERYONE: Final = "everyone"
MAX_SOURCES: Final = 20
GIT_PATTERN: Final = r"^https://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/[A-Za-z0-9._~/+-]+$"
BUCKET_PATTERN: Final = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=+-]+)*/?$"
PAGE_PATTERN: Final = (
    r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"([?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$"
)
FOLDER_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"

SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
Glob = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$", max_length=200)]
LabelText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@+-]*$", max_length=100)]
Page = Annotated[str, StringConstraints(pattern=PAGE_PATTERN, max_length=1000)]
Folder = Annotated[str, StringConstraints(pattern=FOLDER_PATTERN, max_length=200)]
GitRevision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=100)]

KINDS: Final = ("configMap", "pvc", "git", "s3", "web")
ONE_KIND_RULE = Rule(
    rule=f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].filter(is, is).size() == 1",
    message=f"a source is one of {', '.join(KINDS)}",
)
WEB_RULE = Rule(
    rule="has(self.sitemap) != has(self.urls)", message="a web source has either a sitemap or a list of urls"
)


class ConfigMapSource(SpecModel):
    """The entries of a ConfigMap, one file each."""

    name: ObjectName = Field(
        description="Name of a ConfigMap in the resource's own namespace. It must carry the label "
        'nimblet.dev/use: "true".'
    )


class ClaimSource(SpecModel):
    """A folder of a PersistentVolumeClaim."""

    claim_name: ObjectName = Field(
        description="Name of a PersistentVolumeClaim in the resource's own namespace. It must carry the label "
        'nimblet.dev/use: "true". It is mounted read-only.'
    )
    path: Folder | None = Field(default=None, description="Folder inside the claim; all of it when absent.")


class GitSource(SpecModel):
    """A folder of a git repository."""

    url: Annotated[str, StringConstraints(pattern=GIT_PATTERN, max_length=500)] = Field(
        description="https address of the repository; its host must be in the administrator's fetch.allow."
    )
    revision: GitRevision | None = Field(
        default=None,
        description="Branch, tag or commit; the default branch when absent. Each build takes the newest commit of "
        "a branch and names it in status.sources.",
    )
    path: Folder | None = Field(default=None, description="Folder inside the repository; all of it when absent.")
    credentials_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret with `username` and `password` (or a token as password). It must carry the label "
        'nimblet.dev/use: "true" and name the host in the annotation nimblet.dev/hosts.',
    )


class BucketSource(SpecModel):
    """Objects of a bucket at the administrator's S3 service."""

    uri: Annotated[str, StringConstraints(pattern=BUCKET_PATTERN, max_length=500)] = Field(
        description="`s3://bucket/prefix`; every object below the prefix is a file."
    )
    credentials_secret_ref: SecretRef | None = Field(
        default=None,
        description="A Secret with `accessKeyId`, `secretAccessKey` and, for temporary ones, `sessionToken`. It "
        'must carry the label nimblet.dev/use: "true" and name the host in the annotation nimblet.dev/hosts.',
    )


class WebSource(SpecModel):
    """Pages of one web site. Its robots.txt is obeyed, and no other site's page is read."""

    model_config = ConfigDict(json_schema_extra=rules(WEB_RULE))

    sitemap: Page | None = Field(
        default=None, description="Address of a sitemap whose pages are read, as far as they are of the same site."
    )
    urls: (
        Annotated[
            list[Page],
            Field(min_length=1, max_length=100, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = Field(default=None, description="Addresses of pages, all of one site.")
    max_pages: Annotated[int, Field(strict=True, ge=1, le=10000)] = Field(
        default=1000, description="Pages that are read at most."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.sitemap is None) == (self.urls is None):
            raise ValueError(WEB_RULE.message)
        return self


class Source(SpecModel):
    """One source: exactly one of configMap, pvc, git, s3 and web, and what holds for all its documents."""

    model_config = ConfigDict(json_schema_extra=rules(ONE_KIND_RULE))

    name: SourceName = Field(description="Name of the source: begins the ids of its documents and is a filter.")
    config_map: ConfigMapSource | None = Field(default=None, description="Entries of a ConfigMap.")
    pvc: ClaimSource | None = Field(default=None, description="A folder of a PersistentVolumeClaim.")
    git: GitSource | None = Field(default=None, description="A folder of a git repository.")
    s3: BucketSource | None = Field(default=None, description="Objects of a bucket.")
    web: WebSource | None = Field(default=None, description="Pages of a web site.")
    include: Annotated[list[Glob], Field(min_length=1, max_length=50)] = Field(
        default_factory=lambda: ["**/*"],
        description="Globs of the paths that are read; `**` crosses folders. Text, Markdown, HTML, PDF and DOCX "
        "are understood; others are left out.",
    )
    exclude: Annotated[list[Glob], Field(max_length=50)] = Field(
        default_factory=list, description="Globs of paths that are left out."
    )
    labels: Annotated[dict[LabelText, LabelText], Field(max_length=20)] = Field(
        default_factory=dict, description="Put on every passage, for filters."
    )
    access: Annotated[list[LabelText], Field(min_length=1, max_length=50)] = Field(
        default_factory=lambda: [EVERYONE],
        description="Who may find these passages: callers whose key has one of these labels.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(part is not None for part in (self.config_map, self.pvc, self.git, self.s3, self.web)) != 1:
            raise ValueError(ONE_KIND_RULE.message)
        return self
