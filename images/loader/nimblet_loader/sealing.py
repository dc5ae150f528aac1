# SPDX-License-Identifier: Apache-2.0
"""Encrypts a model's files for publishing, and writes the manifest that is to be signed. For `nimblet encrypt`.

What the manifest tells of the plaintext is what the resolver would tell: the same code reads the files. A folder
that has the manifest is complete. It must not keep a key.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.retry import Pace
from nimblet_loader.age import encrypt
from nimblet_loader.claim import ClaimConnector
from nimblet_loader.contract import VERSION, Artifact, ArtifactFile, Encryption, FetchPolicy, Source, encode
from nimblet_loader.hashing import RunningDigest
from nimblet_loader.resolve import resolve
from nimblet_loader.sealed import MANIFEST, SUFFIX, Ciphertext, EncryptionManifest
from nimblet_loader.trust import Trusted

_URI = "pvc://plaintext/"
"""The folder is read as a claim is; the name stands in the manifest and means nothing."""


class _Kind(TypedDict, total=False):
    """What a source holds; a digest of a model's tokens tells what it can draft for."""

    adapter: Literal[True]
    vocabulary: Literal[True]


@dataclass(frozen=True)
class Sealing:
    """What to encrypt, as what, for whom and where to; `reach` is told bytes done and in all.

    `adapter`: it is a LoRA adapter, and no model.
    """

    folder: Path
    out: Path
    model: str
    revision: str
    recipients: tuple[str, ...]
    files: tuple[str, ...] = ()
    quantization: str | None = None
    adapter: bool = False
    reach: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005 - tells nobody


def seal(job: Sealing) -> EncryptionManifest:
    """Encrypt the one model that the folder holds; return the manifest as it was written."""
    Encryption(model=job.model, revision=job.revision)  # refuses names that no spec could give, before the work
    if (job.out / MANIFEST).exists():
        raise _not_empty(job.out / MANIFEST)
    kind: _Kind = {"adapter": True} if job.adapter else {"vocabulary": True}
    source = Source(version=1, uri=_URI, files=job.files, quantization=job.quantization, **kind)
    connector = ClaimConnector(job.folder, uri=_URI)
    plaintext = resolve(Trusted(source), connector, FetchPolicy(version=1), Pace(attempts=1))
    total = sum(file.size for file in plaintext.files)
    done = 0
    ciphertext: dict[str, Ciphertext] = {}
    for file in plaintext.files:
        ciphertext[file.path] = _sealed(job, file, done=done, total=total)
        done += file.size
    manifest = EncryptionManifest(
        version=VERSION,
        model=job.model,
        revision=job.revision,
        plaintext=_without_tags(plaintext),
        ciphertext=ciphertext,
    )
    with _created(job.out / MANIFEST) as stream:
        stream.write(encode(manifest))
    return manifest


def _without_tags(plaintext: Artifact) -> Artifact:
    files = tuple(ArtifactFile(path=file.path, size=file.size, sha256=file.sha256) for file in plaintext.files)
    return plaintext.model_copy(update={"files": files})


def _sealed(job: Sealing, file: ArtifactFile, *, done: int, total: int) -> Ciphertext:
    path = job.out / f"{file.path}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        (job.folder / file.path).open("rb") as opened,
        _created(path) as stream,
        closing(_Counted(opened, lambda count: job.reach(done + count, total))) as source,
        closing(_Hashed(stream)) as target,
    ):
        encrypt(source, target, job.recipients)
        if source.digest.hexdigest() != file.sha256:
            raise SourceError(
                Reason.SourceChanged,
                f"Expected {quoted(file.path)} to rest while it is encrypted; it was written to. Encrypt it "
                "again.",
            )
        return Ciphertext(size=target.count, sha256=target.digest.hexdigest())


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """Write a file that must not be there yet; one that can't be finished goes again."""
    try:
        stream = path.open("xb")
    except FileExistsError as error:
        raise _not_empty(path) from error
    with stream:
        try:
            yield stream
        except BaseException:
            path.unlink()
            raise


def _not_empty(path: Path) -> SourceError:
    return SourceError(
        Reason.ConfigInvalid, f"Expected no file {path}; there is one. Name an empty folder, or remove it."
    )


class _Counted:
    """Reads a file, hashes it and tells how far it is."""

    def __init__(self, stream: BinaryIO, reach: Callable[[int], None]) -> None:
        self.digest = RunningDigest()
        self._stream = stream
        self._reach = reach
        self._count = 0

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._stream.read(size)
        if chunk:
            self.digest.update(chunk)
            self._count += len(chunk)
            self._reach(self._count)
        return chunk

    def close(self) -> None:
        self.digest.close()


class _Hashed:
    """Writes to a stream, hashes and counts."""

    def __init__(self, stream: BinaryIO) -> None:
        self.digest = RunningDigest()
        self.count = 0
        self._stream = stream

    def write(self, chunk: bytes, /) -> int:
        self._stream.write(chunk)
        self.digest.update(chunk)
        self.count += len(chunk)
        return len(chunk)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.digest.close()
