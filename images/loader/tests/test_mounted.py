# SPDX-License-Identifier: Apache-2.0
"""Weights that the kubelet mounted from an image are compared before a server starts."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.contract import Artifact, ArtifactFile, Signature, Source
from nimblet_loader.mounted import check

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def source(sha256: Mapping[str, str] | None = None, *, signed: bool = False) -> Source:
    """Return a source that demands digests, or whose signature told them."""
    signature = Signature(method="Key", bundle="{}", trust="PEM") if signed else None
    return Source(version=1, uri="oci://registry.test/m", sha256=dict(sha256 or {}), signature=signature)


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
        check(found, source(), root, now=lambda: 0.0)
    return refused.value.reason


def test_sound_files_pass_with_their_digests(root: Path) -> None:
    report = check(artifact(), source(), root, now=lambda: 0.0)
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mounted image that holds a safetensors repository in a folder; returns the image."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(CONTENT)
    return tmp_path


REPOSITORY = Artifact.model_construct(  # type: ignore[call-arg]
    files=(ArtifactFile(path="m/model.safetensors", size=len(CONTENT), sha256=DIGEST),)
)
OWN = {"m/model.safetensors": DIGEST}


@pytest.mark.parametrize(("signed", "told"), [(True, Reason.UnsignedFile), (False, Reason.DigestRequired)])
@pytest.mark.parametrize("name", ["consolidated.safetensors", ".zzz.safetensors"])
def test_tensors_that_nobody_vouches_for_are_refused_beside_those_that_are(
    folder: Path, name: str, signed: bool, told: Reason
) -> None:
    # given a server that is handed the whole folder, and loads all tensors in it
    demanded = source(OWN, signed=signed)
    assert check(REPOSITORY, demanded, folder, now=lambda: 0.0).sha256 == OWN
    # when the image holds more of them than the spec or signature names
    (folder / "m" / name).write_bytes(b"others")
    # then it is refused, by the reason that the resolver would give
    with pytest.raises(SourceError) as refused:
        check(REPOSITORY, demanded, folder, now=lambda: 0.0)
    assert refused.value.reason is told
    # and what the image holds beside is compared where the demand covers it
    (folder / "m" / name).write_bytes(CONTENT)
    covered = source({**OWN, f"m/{name}": DIGEST}, signed=signed)
    assert check(REPOSITORY, covered, folder, now=lambda: 0.0).files == 1
    (folder / "m" / name).write_bytes(b"changed")
    with pytest.raises(SourceError) as refused:
        check(REPOSITORY, covered, folder, now=lambda: 0.0)
    assert refused.value.reason is Reason.DigestMismatch


def test_without_a_demand_an_image_is_what_its_digest_says(folder: Path) -> None:
    (folder / "m" / "consolidated.safetensors").write_bytes(b"others")
    (folder / "other").mkdir()
    (folder / "other" / "model.safetensors").write_bytes(b"another model's")
    assert check(REPOSITORY, source(), folder, now=lambda: 0.0).sha256 == OWN
