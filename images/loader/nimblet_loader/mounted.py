# SPDX-License-Identifier: Apache-2.0
"""Checks weights that somebody else put there: the kubelet, from an image. Reads only, and needs no network."""

import logging
from collections.abc import Callable
from pathlib import Path

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_loader.contract import Artifact, ArtifactFile, FetchReport, fetch_report
from nimblet_loader.folder import measured

_log = logging.getLogger(__name__)


def check(artifact: Artifact, root: Path, *, now: Callable[[], float]) -> FetchReport:
    """Compare every file below `root` with the artifact's size and digest, or raise SourceError."""
    began = now()
    found = {file.path: _checked(root, file) for file in artifact.files}
    return fetch_report(artifact, sha256=found, seconds=now() - began)


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
