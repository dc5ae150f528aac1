# SPDX-License-Identifier: Apache-2.0
"""Packs models as OCI artifacts and as images, and pushes them to a registry as clients do."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from nimblet_loader.manifest import FILE_PATH, TITLE

RAW_WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

Json = dict[str, object]


@dataclass(frozen=True)
class Package:
    """A manifest with the blobs that it names, each by its digest."""

    manifest: bytes
    blobs: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Return the manifest's digest."""
        return digest_of(self.manifest)


def digest_of(raw: bytes) -> str:
    """Return the digest by which a registry names these bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def descriptor(raw: bytes, media_type: str, **more: object) -> Json:
    """Return what names a blob in a manifest."""
    return {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw), **more}


def package(config: str, layers: Sequence[tuple[bytes, Json]]) -> Package:
    """Return a manifest over layers, each with its descriptor."""
    blobs = {digest_of(raw): raw for raw in (b"{}", *(raw for raw, _ in layers))}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(b"{}", config),
        "layers": [told for _, told in layers],
    }
    return Package(json.dumps(document).encode(), blobs)


def model_pack(name: str, content: bytes) -> Package:
    """Return a ModelPack artifact with one raw weight file and a document."""
    note = b"a note"
    return package(
        MODEL_CONFIG,
        [
            (
                note,
                descriptor(note, "application/vnd.cncf.model.doc.v1.raw", annotations={FILE_PATH: "README.md"}),
            ),
            (content, descriptor(content, RAW_WEIGHT, annotations={FILE_PATH: name})),
        ],
    )


def titled(name: str, content: bytes) -> Package:
    """Return what ORAS makes of one file."""
    told = descriptor(content, "application/octet-stream", annotations={TITLE: name})
    return package("application/vnd.oci.empty.v1+json", [(content, told)])


def titled_files(files: Mapping[str, bytes]) -> Package:
    """Return what ORAS makes of several files."""
    told = [
        (raw, descriptor(raw, "application/octet-stream", annotations={TITLE: name}))
        for name, raw in files.items()
    ]
    return package("application/vnd.oci.empty.v1+json", told)


def model_car(name: str, content: bytes, *, zipped: bool) -> Package:
    """Return an image: a base layer with links and devices of its own, and a layer with the model."""
    device = tarfile.TarInfo("dev/null")
    device.type = tarfile.CHRTYPE
    base = archive([link("bin/sh", "busybox"), device, *plain("bin/busybox", b"x" * 700)])
    layer = archive([*plain("models/README.md", b"hello"), *plain(f"./models/{name}", content)])
    return image([base, layer], zipped=zipped)


def image(layers: Iterable[bytes], *, zipped: bool) -> Package:
    """Return an image of tar layers."""
    packed = [gzip.compress(raw, 1, mtime=0) for raw in layers] if zipped else list(layers)
    media_type = f"{LAYER}+gzip" if zipped else LAYER
    return package(IMAGE_CONFIG, [(raw, descriptor(raw, media_type)) for raw in packed])


Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def plain(name: str, content: bytes) -> list[Entry]:
    """Return a regular file for an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return [(info, content)]


def link(name: str, target: str, *, hard: bool = False) -> tarfile.TarInfo:
    """Return a link for an archive."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    info.linkname = target
    return info


def archive(entries: Iterable[Entry], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as packed:
        for entry in entries:
            info, content = entry if isinstance(entry, tuple) else (entry, b"")
            packed.addfile(info, io.BytesIO(content))
    return file.getvalue()


def push(client: httpx.Client, repository: str, tag: str, made: Package) -> None:
    """Upload blobs and manifest; the client has the registry's base URL and, where needed, a login."""
    for digest, raw in made.blobs.items():
        begun = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
        place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        client.put(place, content=raw).raise_for_status()
    headers = {"Content-Type": MANIFEST}
    client.put(f"/v2/{repository}/manifests/{tag}", content=made.manifest, headers=headers).raise_for_status()
