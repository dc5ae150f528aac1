# SPDX-License-Identifier: Apache-2.0
"""An encrypted copy of the bench's model, and what a spec says of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loader_testing.bench import MODEL, Bench
from nimblet_loader.age import NewIdentity, new_identity
from nimblet_loader.sealed import MANIFEST, EncryptionManifest
from nimblet_loader.sealing import Sealing, seal

NAME, REVISION = "acme/tiny", "2026-11-1"


@dataclass(frozen=True)
class SealedModel:
    """A published model: its files by name, its manifest, and the key that opens it."""

    files: dict[str, bytes]
    manifest: EncryptionManifest
    key: NewIdentity

    @property
    def manifest_digest(self) -> str:
        """Return what a spec pins."""
        return hashlib.sha256(self.files[MANIFEST]).hexdigest()

    def source(self, **encryption: object) -> dict[str, Any]:
        """Return the fields of a source that demands this very model."""
        return {
            "sha256": {MANIFEST: self.manifest_digest},
            "encryption": {"model": NAME, "revision": REVISION, **encryption},
        }


def seal_model(
    content: bytes,
    folder: Path,
    *,
    file: str = MODEL,
    revision: str = REVISION,
    key: NewIdentity | None = None,
) -> SealedModel:
    """Encrypt a model's file with a new key, unless one is given; `folder` takes the files."""
    return seal_files({file: content}, folder, revision=revision, key=key)


def seal_files(
    files: Mapping[str, bytes],
    folder: Path,
    *,
    revision: str = REVISION,
    key: NewIdentity | None = None,
    adapter: bool = False,
) -> SealedModel:
    """Encrypt a model's files, or an adapter's."""
    plain, out = folder / "plain", folder / "sealed"
    plain.mkdir(parents=True)
    out.mkdir()
    for name, content in files.items():
        (plain / name).write_bytes(content)
    own = key or new_identity()
    job = Sealing(plain, out, model=NAME, revision=revision, recipients=(own.recipient,), adapter=adapter)
    manifest = seal(job)
    return SealedModel({path.name: path.read_bytes() for path in out.iterdir()}, manifest, own)


def publish(bench: Bench, folder: Path) -> SealedModel:
    """Put an encrypted copy of the bench's model in its place at the hub."""
    sealed = seal_model(bench.content, folder)
    bench.hub.files = dict(sealed.files)
    return sealed
