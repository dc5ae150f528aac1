# SPDX-License-Identifier: Apache-2.0
"""OCI manifests and indexes, parsed: which layers are files, which archives, which platform's to take. Pure.

Format: https://github.com/opencontainers/image-spec/blob/main/manifest.md and image-index.md, and the older
names of Docker's. Unknown keys are passed over, as the format asks.
"""

import platform
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_loader.selection import Entry

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
FILE_PATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
_IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_ARCHIVES = {
    "application/vnd.oci.image.layer.v1.tar": "tar",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar": "tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
}
_PACKED = (".tar", "+gzip", "+zstd", ".gzip")
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_LAYERS = 256


class _Json(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class Platform(_Json):
    """What an index says an image runs on."""

    os: str = ""
    architecture: str = ""


class Descriptor(_Json):
    """A layer, a configuration or another manifest: its type, digest and size."""

    media_type: str
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    annotations: dict[str, str] = Field(default_factory=dict)
    platform: Platform | None = None

    def archive(self, shown: str) -> str:
        """Return how an image's layer is packed, `tar` or `gzip`; SourceError UnsupportedFormat for others."""
        form = _ARCHIVES.get(self.media_type)
        if form is None:
            raise SourceError(
                Reason.UnsupportedFormat,
                f"Expected the layers of {shown} as tar or gzip; found {quoted(self.media_type)}. "
                "Push the image with gzip layers, or the files as raw layers.",
            )
        return form


class Document(_Json):
    """A manifest, or an index if it has `manifests`."""

    config: Descriptor | None = None
    layers: Annotated[tuple[Descriptor, ...], Field(max_length=_MAX_LAYERS)] = ()
    manifests: Annotated[tuple[Descriptor, ...], Field(max_length=_MAX_LAYERS)] | None = None

    @property
    def is_image(self) -> bool:
        """Whether the layers are those of a container's file system."""
        return self.config is not None and self.config.media_type in _IMAGE_CONFIGS


def parse_document(raw: bytes, shown: str) -> Document:
    """Parse a manifest or index; SourceError UnexpectedResponse if it is neither."""
    try:
        return Document.model_validate_json(raw)
    except ValidationError as error:
        raise SourceError(
            Reason.UnexpectedResponse,
            f"Expected the manifest of {shown} with sha256 digests; the answer is none. Check the registry.",
        ) from error


def raw_entries(document: Document) -> tuple[Entry, ...]:
    """Return the layers that are files as they are: those with a file's name that are no archives."""
    found: list[Entry] = []
    for layer in document.layers:
        name = layer.annotations.get(FILE_PATH) or layer.annotations.get(TITLE)
        if name and not layer.media_type.endswith(_PACKED):
            found.append(Entry(name, layer.size, layer.digest.removeprefix("sha256:"), layer.digest))
    return tuple(found)


def go_machine() -> str:
    """Return this machine's CPU as Go, and so an index, names it."""
    return _GO_NAMES.get(platform.machine(), platform.machine())


def choose_platform(manifests: Sequence[Descriptor], *, machine: str, shown: str) -> Descriptor:
    """Return the index's only image, or that for Linux on this kind of CPU."""
    images = [item for item in manifests if item.platform is None or item.platform.os != "unknown"]
    fitting = [item for item in images if item.platform == Platform(os="linux", architecture=machine)]
    if len(images) == 1:
        return images[0]
    if len(fitting) == 1:
        return fitting[0]
    offered = listed({f"{item.platform.os}/{item.platform.architecture}" for item in images if item.platform})
    raise SourceError(
        Reason.UnsupportedFormat,
        f"Expected one manifest of {shown} for linux/{machine}; it offers {offered or 'none with a platform'}. "
        "Name one by its digest.",
    )
