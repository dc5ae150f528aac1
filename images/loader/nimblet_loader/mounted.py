# SPDX-License-Identifier: Apache-2.0
"""Checks weights that somebody else put there: the kubelet, from an image. Reads only, and needs no network."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.contract import Artifact, ArtifactFile, FetchReport, Source, fetch_report
from nimblet_loader.folder import file_size, measured, open_place
from nimblet_loader.trust import require_digests

TENSORS: Final = ".safetensors"
_log = logging.getLogger(__name__)


def check(artifact: Artifact, source: Source, root: Path, *, now: Callable[[], float]) -> FetchReport:
    """Compare every file below `root` with the artifact's size and digest, or raise SourceError.

    `source` has the digests that its spec or signature demands.
    """
    began = now()
    found = {file.path: _checked(root, file) for file in artifact.files}
    _check_beside(artifact, source, root)
    return fetch_report(artifact, sha256=found, seconds=now() - began)


def _check_beside(artifact: Artifact, source: Source, root: Path) -> None:
    """Hold tensors that lie beside a repository's against the demanded digests, where there are any.

    Servers are given the whole folder, and load every file of tensors in it. Of GGUF they are given files.
    """
    tensors = [file.path for file in artifact.files if file.path.endswith(TENSORS)]
    if not tensors or not source.sha256:
        return
    known = {file.path for file in artifact.files}
    prefix = tensors[0][: tensors[0].rfind("/") + 1]
    with open_place(root, tensors[0], uid="", make=False) as place, os.scandir(place.folder) as entries:
        names = {prefix + entry.name: entry.name for entry in entries if entry.name.endswith(TENSORS)}
        beside = {path: name for path, name in sorted(names.items()) if path not in known}
        require_digests(source, beside)
        for path, name in beside.items():
            size = max(file_size(place, name) or 0, 1)
            _checked(root, ArtifactFile(path=path, size=size, sha256=source.sha256[path]))


def _checked(root: Path, file: ArtifactFile) -> str:
    what = f"Expected {quoted(file.path)} in the mounted image"
    if file.sha256 is None:
        raise SourceError(Reason.DigestRequired, f"{what} to have a known digest. Resolve the source again.")
    try:
        size, found = measured(root, file.path, size=file.size)
    except (OSError, SourceError) as error:
        cause = type(error.__cause__ or error).__name__
        raise SourceError(
            Reason.FileNotFound, f"{what}; it can't be read ({cause}). Look at the image."
        ) from error
    if size != file.size:
        shown = "none" if size is None else f"{size} bytes"
        raise SourceError(Reason.SizeMismatch, f"{what} with {file.size} bytes; found {shown}. Look at the image.")
    if found != file.sha256:
        raise SourceError(
            Reason.DigestMismatch, f"{what} with sha256 {file.sha256}; found {found}. Don't use these weights."
        )
    _log.info("%s is mounted, verified", file.path)
    return found
