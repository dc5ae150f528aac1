# SPDX-License-Identifier: Apache-2.0
"""Weights that the kubelet mounted from an image are compared before a server starts."""

import hashlib
from pathlib import Path

import pytest

from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import Artifact, ArtifactFile
from nimblet_loader.mounted import check

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def artifact(*, sha256: str | None = DIGEST, size: int = len(CONTENT)) -> Artifact:
    """Return an artifact of one file; its header tells nothing here."""
    file = ArtifactFile(path="sub/m.gguf", size=size, sha256=sha256)
    return Artifact.model_construct(files=(file,))  # type: ignore[call-arg]  # the check reads nothing else


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A mounted image."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.gguf").write_bytes(CONTENT)
    return tmp_path


def reason(found: Artifact, root: Path) -> Reason:
    """Return why the check fails."""
    with pytest.raises(SourceError) as refused:
        check(found, root, now=lambda: 0.0)
    return refused.value.reason


def test_sound_files_pass_with_their_digests(root: Path) -> None:
    report = check(artifact(), root, now=lambda: 0.0)
    assert report.sha256 == {"sub/m.gguf": DIGEST}
    assert report.downloaded_bytes == 0


def test_other_bytes_are_refused(root: Path) -> None:
    (root / "sub" / "m.gguf").write_bytes(b"weightz")
    assert reason(artifact(), root) is Reason.DigestMismatch


def test_another_length_is_refused(root: Path) -> None:
    assert reason(artifact(size=99), root) is Reason.SizeMismatch


def test_a_file_without_a_digest_is_refused(root: Path) -> None:
    assert reason(artifact(sha256=None), root) is Reason.DigestRequired


def test_missing_files_and_links_are_refused(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "m.gguf"
    outside.write_bytes(CONTENT)
    (root / "sub" / "m.gguf").unlink()
    assert reason(artifact(), root) is Reason.SizeMismatch
    (root / "sub" / "m.gguf").symlink_to(outside)
    assert reason(artifact(), root) is Reason.SizeMismatch
    (root / "sub" / "m.gguf").unlink()
    (root / "sub").rmdir()
    (root / "sub").symlink_to(outside.parent)
    assert reason(artifact(), root) is Reason.FileNotFound
