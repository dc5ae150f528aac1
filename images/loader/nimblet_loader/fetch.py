# SPDX-License-Identifier: Apache-2.0
"""Fetches an artifact's files into a folder: what is there and verified stays, the rest is downloaded.

Nothing lies under a final name that was not checked against the artifact.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.retry import Pace
from nimblet_loader.age import Identities
from nimblet_loader.connector import Connector
from nimblet_loader.contract import Artifact, ArtifactFile, FetchPolicy, FetchReport, fetch_report
from nimblet_loader.download import Download, download
from nimblet_loader.folder import Place, file_digest, file_size, free_bytes, open_place, translated
from nimblet_loader.progress import Progress
from nimblet_loader.unseal import Unsealing, unseal

MARGIN_BYTES = 32 * 2**20
"""Left free on the volume, for the file system and for others."""
_UID = re.compile(r"^[A-Za-z0-9-]{1,64}$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetch:
    """One run: what, from where, to where, for which pod; `now` is a monotonic clock in seconds.

    `known`: digests of files that an earlier run noted, where the artifact has none. `changing` is called before
    the first change to files that lie there. `identities` decrypt an artifact of encrypted files.
    """

    artifact: Artifact
    connector: Connector
    policy: FetchPolicy
    root: Path
    uid: str
    pace: Pace
    progress: Progress
    now: Callable[[], float]
    known: Mapping[str, str] = field(default_factory=dict)
    changing: Callable[[], None] = lambda: None
    identities: Identities | None = None


def check_uid(uid: str) -> None:
    """Raise ConfigInvalid unless the pod's uid can be part of a file name."""
    if not _UID.match(uid):
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected the pod's uid in POD_UID; found {quoted(uid, limit=80)}. Set it from metadata.uid.",
        )


def fetch(run: Fetch) -> FetchReport:
    """Bring all files of the artifact into the folder, or raise SourceError."""
    began = run.now()
    check_uid(run.uid)
    total = sum(file.size for file in run.artifact.files)
    _check_sizes(run)
    run.progress.begin("Verifying", total=total)
    missing = [file for file in run.artifact.files if not _kept(run, file)]
    _check_space(run, missing)
    run.progress.begin("Downloading", total=total)
    done = total - sum(file.size for file in missing)
    downloaded = 0
    expected = {file.path: _expected(run, file) for file in run.artifact.files}
    digests = {path: digest for path, digest in expected.items() if digest is not None}
    if missing:
        run.changing()
    for file in missing:
        received, digests[file.path] = _bring(run, file, done)
        downloaded += received
        done += file.size
    run.progress.reach(total)
    run.progress.begin("Done", total=total)
    return fetch_report(run.artifact, sha256=digests, seconds=run.now() - began, downloaded_bytes=downloaded)


def _check_sizes(run: Fetch) -> None:
    for file in run.artifact.files:
        size = max(file.size, file.sealed_size or 0)
        if size > run.policy.max_file_bytes:
            raise SourceError(
                Reason.FileTooLarge,
                f"Expected at most {run.policy.max_file_bytes} bytes; {quoted(file.path)} has {size}. "
                "Use a smaller model, or ask for a higher limit.",
            )


def _expected(run: Fetch, file: ArtifactFile) -> str | None:
    return file.sha256 or run.known.get(file.path)


def _kept(run: Fetch, file: ArtifactFile) -> bool:
    """Tell whether the file lies there already and is the right one; one that is not will be replaced."""
    with open_place(run.root, file.path, uid=run.uid) as place, translated(file.path):
        expected = _expected(run, file)
        if expected is None or file_size(place, place.name) != file.size:
            return False
        found = file_digest(place, place.name)
    if found != expected:
        _log.warning("%s lies there with sha256 %s instead of %s; replacing it", file.path, found, expected)
        return False
    _log.info("%s lies there already, verified", file.path)
    return True


def _check_space(run: Fetch, missing: list[ArtifactFile]) -> None:
    if not missing:
        return
    needed = MARGIN_BYTES + sum(file.size - _partial_size(run, file) for file in missing)
    free = free_bytes(run.root)
    if needed > free:
        raise SourceError(
            Reason.DiskFull,
            f"Expected {needed} free bytes for the model; the volume has {free}. "
            "Give the volume or the node more space, or use a smaller model.",
        )


def _partial_size(run: Fetch, file: ArtifactFile) -> int:
    with open_place(run.root, file.path, uid=run.uid) as place, translated(file.path):
        return min(file_size(place, place.temporary) or 0, file.size)


def _bring(run: Fetch, file: ArtifactFile, done: int) -> tuple[int, str]:
    def reach(length: int) -> None:
        run.progress.reach(done + length)

    began = run.now()
    with open_place(run.root, file.path, uid=run.uid) as place:
        received, digest = _brought(run, file, place, reach)
    seconds = run.now() - began
    _log.info("%s: %d bytes received in %.1f s, sha256 %s", file.path, received, seconds, digest)
    return received, digest


def _brought(run: Fetch, file: ArtifactFile, place: Place, reach: Callable[[int], None]) -> tuple[int, str]:
    if file.sealed_size is None:
        return download(Download(run.connector, run.artifact.commit, file, run.pace, reach), place)
    if run.identities is None:
        raise SourceError(
            Reason.DecryptionKeyInvalid,
            f"Expected a key to decrypt {quoted(file.path)} with; none was given. Correct source.encryption.",
        )
    return unseal(Unsealing(run.connector, run.artifact.commit, file, run.pace, reach, run.identities), place)
