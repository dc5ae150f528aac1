# SPDX-License-Identifier: Apache-2.0
"""Images into the native cluster: from archives on disk into containerd, under the names that pods use."""

import json
import re
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.ociarchive import NAME_ANNOTATIONS

NAMESPACE = "k8s.io"
"""containerd's namespace in which the kubelet's images are."""


def normalized(reference: str) -> str:
    """Return the full name under which the kubelet looks an image up.

    As in https://github.com/distribution/reference: without a host it is docker.io, there without a folder
    it is library/, and without a tag or digest it is :latest.
    """
    head, slash, rest = reference.partition("/")
    if not slash:
        full = f"docker.io/library/{reference}"
    elif "." in head or ":" in head or head == "localhost":
        full = f"{head}/{rest}"
    else:
        full = f"docker.io/{reference}"
    last = full.rpartition("/")[2]
    return full if ":" in last or "@" in last else f"{full}:latest"


def archive_names(archive: Path) -> tuple[str, ...]:
    """Return the image names that an OCI archive (or one of `docker save`) carries."""
    if not archive.is_file():
        message = f"expected an image archive at {archive}, found no file; build it first"
        raise ClusterError(message)
    try:
        with tarfile.open(archive) as tar:
            members = {each.name.removeprefix("./"): each for each in tar.getmembers()}
            names = [name for file in ("index.json", "manifest.json") for name in _names(tar, members.get(file))]
    except (tarfile.TarError, ValueError) as error:
        message = f"expected an OCI archive at {archive}, could not read it ({error}); build it again"
        raise ClusterError(message) from error
    if not names:
        message = (
            f"expected an image name in {archive}, found none; "
            "write the archive with one: `buildah push IMAGE oci-archive:FILE:NAME`"
        )
        raise ClusterError(message)
    return tuple(dict.fromkeys(names))


def import_argv(*, socket: Path, archive: Path) -> tuple[str, ...]:
    """Return the command that imports an archive into containerd."""
    return (*_ctr(socket), "images", "import", str(archive))


def tag_argv(*, socket: Path, name: str, full_name: str) -> tuple[str, ...]:
    """Return the command that gives an image its full name."""
    return (*_ctr(socket), "images", "tag", "--force", name, full_name)


def load(archives: Sequence[Path], *, socket: Path) -> tuple[str, ...]:
    """Import the archives and return the full names of all their images."""
    loaded: list[str] = []
    for archive in archives:
        names = archive_names(archive)
        _run(import_argv(socket=socket, archive=archive))
        for name in names:
            full_name = normalized(name)
            if full_name != name and not _exists(full_name, socket=socket):
                _run(tag_argv(socket=socket, name=name, full_name=full_name))
            loaded.append(full_name)
    return tuple(loaded)


def _names(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> list[str]:
    if member is None:
        return []
    content = tar.extractfile(member)
    parsed: object = json.loads(content.read()) if content is not None else None
    if isinstance(parsed, dict):
        annotations = [each.get("annotations") or {} for each in parsed.get("manifests", [])]
        found = [[str(each[key]) for key in NAME_ANNOTATIONS if key in each][:1] for each in annotations]
        # a bare tag is not a name
        return [name for names in found for name in names if re.search(r"[/:]", name)]
    if isinstance(parsed, list):
        return [str(tag) for each in parsed for tag in each.get("RepoTags") or []]
    return []


def _exists(name: str, *, socket: Path) -> bool:
    return name in _run((*_ctr(socket), "images", "list", "--quiet")).splitlines()


def _ctr(socket: Path) -> tuple[str, ...]:
    return ("ctr", f"--address={socket}", f"--namespace={NAMESPACE}")


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        message = f"expected `{' '.join(argv)}` to succeed, it returned {done.returncode}: {done.stderr.strip()}"
        raise ClusterError(message)
    return done.stdout
