# SPDX-License-Identifier: Apache-2.0
"""Images FROM scratch, and the names under which archives are loaded."""

import io
import json
import struct
import tarfile
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.images import archive_names, import_argv, normalized, tag_argv
from e2e.cluster.ociarchive import PT_INTERP, ScratchImage, digest, image_archive, is_static, tar_of

IMAGE = ScratchImage(
    "nimblet.test/tool:1", {"/bin/tool": b"program"}, ("/bin/tool",), ("--help",), links={"/bin/alias": "tool"}
)


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {each.name: _content(archive, each) for each in archive}


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isfile() else None
    return file.read() if file is not None else b""


def archive_file(folder: Path, name: str, content: object) -> Path:
    text = json.dumps(content).encode()
    info = tarfile.TarInfo(name)
    info.size = len(text)
    path = folder / "image.tar"
    path.write_bytes(tar_of([(info, text)]))
    return path


def test_every_blob_is_what_its_digest_says() -> None:
    files = members(image_archive(IMAGE))
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert len(blobs) == 3
    assert all(name == f"blobs/{digest(content).replace(':', '/')}" for name, content in blobs.items())


def test_index_manifest_and_config_lead_to_the_layer() -> None:
    files = members(image_archive(IMAGE))
    manifest = json.loads(files[blob(json.loads(files["index.json"])["manifests"][0])])
    config = json.loads(files[blob(manifest["config"])])
    layer = files[blob(manifest["layers"][0])]
    assert config["rootfs"]["diff_ids"] == [digest(layer)]
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    assert set(members(layer)) == {"bin", "tmp", "bin/tool", "bin/alias"}
    assert members(layer)["bin/tool"] == b"program"


def blob(descriptor: dict[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def test_same_image_same_bytes() -> None:
    assert image_archive(IMAGE) == image_archive(IMAGE)


def test_the_name_is_read_from_an_oci_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(image_archive(IMAGE))
    assert archive_names(path) == ("nimblet.test/tool:1",)


def test_the_names_are_read_from_a_docker_archive(tmp_path: Path) -> None:
    path = archive_file(tmp_path, "manifest.json", [{"RepoTags": ["a/b:1", "c:2"]}, {"RepoTags": None}])
    assert archive_names(path) == ("a/b:1", "c:2")


@pytest.mark.parametrize("annotations", [None, {}, {"org.opencontainers.image.ref.name": "latest"}])
def test_an_archive_without_a_name_is_refused(tmp_path: Path, annotations: dict[str, str] | None) -> None:
    path = archive_file(tmp_path, "index.json", {"manifests": [{"annotations": annotations}]})
    with pytest.raises(ClusterError, match="buildah push"):
        archive_names(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("no tar")
    with pytest.raises(ClusterError, match="could not read it"):
        archive_names(tmp_path / "x.tar")
    with pytest.raises(ClusterError, match="found no file"):
        archive_names(tmp_path / "absent.tar")


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("nimblet/loader:dev", "docker.io/nimblet/loader:dev"),
        ("ghcr.io/a/b", "ghcr.io/a/b:latest"),
        ("localhost/a:1", "localhost/a:1"),
        ("host:5000/a/b:1", "host:5000/a/b:1"),
        ("host:5000/a/b", "host:5000/a/b:latest"),
        ("a@sha256:0", "docker.io/library/a@sha256:0"),
    ],
)
def test_names_are_completed_as_the_kubelet_does(given: str, full: str) -> None:
    assert normalized(given) == full
    assert normalized(full) == full


def test_commands_name_the_socket_and_the_namespace() -> None:
    socket = Path("/run/c.sock")
    ctr = ("ctr", "--address=/run/c.sock", "--namespace=k8s.io", "images")
    assert import_argv(socket=socket, archive=Path("/a.tar")) == (*ctr, "import", "/a.tar")
    assert tag_argv(socket=socket, name="a:1", full_name="b:1") == (*ctr, "tag", "--force", "a:1", "b:1")


def elf(*segments: int) -> bytes:
    """Return the parts of an ELF file that tell its segments: 56 bytes each, behind a header of 64."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(segments))
    return bytes(header) + b"".join(struct.pack("<I", each).ljust(56, b"\0") for each in segments)


def test_a_program_that_needs_a_loader_is_not_static() -> None:
    assert is_static(elf(1, 4))
    assert not is_static(elf(1, PT_INTERP))
    assert not is_static(b"#!/bin/sh")
