# SPDX-License-Identifier: Apache-2.0
"""Container images FROM scratch out of static binaries, as OCI archives, without any builder.

Layout: https://github.com/opencontainers/image-spec (image-layout, config, manifest). Same input, same
bytes: times and owners are zero. For the cluster's own images only; the product's images have Containerfiles.
"""

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
PT_INTERP = 3
NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class ScratchImage:
    """An image of one layer.

    `programs` maps absolute paths to contents (mode 0755), `links` maps absolute paths to link targets.
    """

    name: str
    programs: Mapping[str, bytes]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def image_archive(image: ScratchImage) -> bytes:
    """Return the OCI archive (a tar) of `image`, for linux/amd64."""
    layer = layer_tar(image)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint),
                "Cmd": list(image.command),
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, layer)],
        }
    )
    annotations = dict.fromkeys(NAME_ANNOTATIONS, image.name)
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [{**_descriptor(MANIFEST_TYPE, manifest), "annotations": annotations}],
        }
    )
    blobs = {f"blobs/sha256/{digest(each).partition(':')[2]}": each for each in (layer, config, manifest)}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}
    return tar_of(_file(name, content, mode=0o644) for name, content in files.items())


def layer_tar(image: ScratchImage) -> bytes:
    """Return the layer; the folders on the way are made, and /tmp is."""
    folders = {"tmp"}
    for path in (*image.programs, *image.links):
        parts = path.strip("/").split("/")[:-1]
        folders.update("/".join(parts[: count + 1]) for count in range(len(parts)))
    members = [_folder(each, mode=0o1777 if each == "tmp" else 0o755) for each in sorted(folders)]
    members += [_file(path.strip("/"), content, mode=0o755) for path, content in sorted(image.programs.items())]
    members += [_link(path.strip("/"), target) for path, target in sorted(image.links.items())]
    return tar_of(members)


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a tar of the members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def is_static(program: bytes) -> bool:
    """Tell whether a 64-bit little-endian ELF program needs no loader; see elf(5), PT_INTERP."""
    if program[:6] != b"\x7fELF\x02\x01":
        return False
    (offset,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    kinds = (struct.unpack_from("<I", program, offset + index * size)[0] for index in range(count))
    return PT_INTERP not in kinds


def digest(content: bytes) -> str:
    """Return the OCI digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _file(name: str, content: bytes, *, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = mode
    return info, content


def _folder(name: str, *, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = mode
    return info, b""


def _link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = tarfile.SYMTYPE
    info.linkname = target
    return info, b""
