# SPDX-License-Identifier: Apache-2.0
"""Holds files and artifacts against what the user's spec demands. Pure; fails closed.

An artifact passed through the tenant's namespace between resolving and fetching, so the fetch believes it only
as far as the spec allows.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_loader.connectors import DIGEST_REQUIRED
from nimblet_loader.contract import Artifact, Signer, Source, url_file_name
from nimblet_loader.selection import stray

_COMMIT = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True)
class Trusted:
    """A source whose `sha256` may be believed, and who signed it, if it had to be signed."""

    source: Source
    signer: Signer | None = None


def trusted(source: Source, now: datetime) -> Trusted:
    """Verify the source's signature, if it asks for one, and put the signed digests in place of its own."""
    if source.signature is None:
        return Trusted(source)
    # Importing it takes 30 MiB and half a second: only a spec with a signature pays for them.
    from nimblet_loader.signature import verify_signature  # noqa: PLC0415

    signed = verify_signature(source.signature, now)
    for path, wanted in source.sha256.items():
        found = signed.digests.get(path)
        if found is None:
            raise _unsigned([path])
        if found != wanted:
            raise SourceError(
                Reason.SignatureMismatch,
                f"Expected sha256 {wanted} of {quoted(path)} as the spec says; the signature is of {found}. "
                "Give the signature of these very files, or correct the digest.",
            )
    return Trusted(source.model_copy(update={"sha256": signed.digests}), signed.signer)


def _unsigned(paths: Iterable[str]) -> SourceError:
    return SourceError(
        Reason.UnsignedFile,
        f"Expected every file of the model to be signed; the signature does not cover {listed(paths)}. "
        "Sign all of them, or choose the files that are signed.",
    )


def require_url_digest(source: Source) -> None:
    """Raise DigestRequired unless a source that pins nothing itself comes with exactly its file's digest."""
    if source.scheme not in DIGEST_REQUIRED:
        return
    name = url_file_name(source.uri)
    if source.signature is not None:
        return  # the signature's digests pin the file; whether it covers it is asked of each file
    if set(source.sha256) != {name}:
        raise SourceError(
            Reason.DigestRequired,
            f"Expected the sha256 of {quoted(name)}, since a URL pins nothing by itself; found "
            f"{listed(source.sha256) or 'none'}. Set integrity.sha256 to the file's digest (sha256sum tells it).",
        )


def require_digests(source: Source, paths: Iterable[str]) -> None:
    """Raise DigestRequired if the user gave digests, but not for every file that is to be used."""
    missing = [path for path in paths if path not in source.sha256]
    if source.signature is not None and missing:
        raise _unsigned(missing)
    if source.sha256 and missing:
        raise SourceError(
            Reason.DigestRequired,
            f"Expected a digest for every file of the model, since some are given; none for {listed(missing)}. "
            "Add them to integrity.sha256, or choose the files that digests are given for.",
        )


def check_artifact(source: Source, artifact: Artifact) -> None:
    """Raise unless the artifact can be of this source: URI, revision, files, encryption, the given digests."""
    if artifact.uri != source.uri:
        raise SourceError(
            Reason.ConfigInvalid,
            "Expected an artifact of the spec's own source; it is of another. Delete the artifact's ConfigMap, "
            "so that the source is resolved again.",
        )
    if source.revision is not None and _COMMIT.match(source.revision) and artifact.commit != source.revision:
        raise SourceError(
            Reason.SourceChanged,
            f"Expected commit {source.revision}; the artifact is of {artifact.commit}. Resolve the source again.",
        )
    if (source.adapter is not None) != (artifact.header.adapter is not None):
        raise SourceError(
            Reason.ConfigInvalid,
            "Expected an artifact of a model for a model's source and of an adapter for an adapter's; it is of "
            "the other. Delete the artifact's ConfigMap, so that the source is resolved again.",
        )
    _check_encryption(source, artifact)
    _check_choice(source, artifact)
    require_url_digest(source)
    # of encrypted files the digests are the manifest's, which is read again before a byte of them (sealed.py)
    checked = artifact.files if artifact.manifest is None else (artifact.manifest,)
    require_digests(source, (file.path for file in checked))
    for file in checked:
        wanted = source.sha256.get(file.path)
        if wanted is not None and wanted != file.sha256:
            if source.signature is not None:
                raise SourceError(
                    Reason.SignatureMismatch,
                    f"Expected {quoted(file.path)} as it was signed, with sha256 {wanted}; the artifact says "
                    f"{file.sha256}. Delete the artifact's ConfigMap, and see who could write it.",
                )
            raise SourceError(
                Reason.DigestMismatch,
                f"Expected sha256 {wanted} of {quoted(file.path)}; the artifact says {file.sha256}. "
                "Delete the artifact's ConfigMap, and see who could write it.",
            )


def _check_choice(source: Source, artifact: Artifact) -> None:
    """Raise where the artifact names what the spec did not choose: one signature may cover several models."""
    unchosen = stray([file.path for file in artifact.files], source) if artifact.manifest is None else None
    if unchosen is not None:
        raise SourceError(
            Reason.ConfigInvalid,
            "Expected an artifact of the files that source.files and source.quantization choose; it names "
            f"{quoted(unchosen)}. Delete the artifact's ConfigMap, and see who could write it.",
        )


def _check_encryption(source: Source, artifact: Artifact) -> None:
    if source.encryption is not None and artifact.manifest is None:
        raise not_encrypted("the artifact is of plain files")
    if source.encryption is None and artifact.manifest is not None:
        raise SourceError(
            Reason.ConfigInvalid,
            "Expected an artifact of plain files; it is of encrypted ones. Delete the artifact's ConfigMap, so "
            "that the source is resolved again.",
        )


def not_encrypted(found: str) -> SourceError:
    """Return the error of plaintext where the spec demands encryption."""
    return SourceError(
        Reason.NotEncrypted,
        f"Expected encrypted weights, as source.encryption says; {found}. Encrypt them (`nimblet encrypt`) and "
        "name the source of what it wrote.",
    )
