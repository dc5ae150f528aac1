# SPDX-License-Identifier: Apache-2.0
"""Encrypted sources: one signed manifest tells what each `X.age` holds, so that resolving needs no key.

The manifest is believed only as far as the user's signature or digest covers it, and only for the model and the
revision that the spec names. It must not decrypt anything.
"""

import hashlib
from functools import partial
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_egress.policy import Contract
from nimblet_egress.retry import Pace, with_retries
from nimblet_loader.adapter import not_an_adapter
from nimblet_loader.age import truncated
from nimblet_loader.connector import Connector, Snapshot, Span
from nimblet_loader.contract import (
    MAX_FILES,
    Artifact,
    ArtifactFile,
    Encryption,
    FetchPolicy,
    ModelName,
    Sha256,
    Source,
)
from nimblet_loader.resolve import check_length, check_named, digest_source, own_commit, pinned
from nimblet_loader.selection import Entry
from nimblet_loader.trust import Trusted, not_encrypted, require_digests

MANIFEST: Final = "nimblet-encryption.json"
SUFFIX: Final = ".age"
MAX_MANIFEST_BYTES: Final = 65_536


class Ciphertext(Contract):
    """One encrypted file as it lies at the source."""

    size: Annotated[int, Field(ge=1, le=2**50)]
    sha256: Sha256


class EncryptionManifest(Contract):
    """What an encrypted source holds, told without a key.

    `plaintext` is what the resolver would tell of the files before they were encrypted: names, sizes, digests and
    what sizing asks of their headers; its `uri` and `commit` mean nothing. `ciphertext` tells of each file's
    `.age`.
    """

    version: Literal[1]
    model: ModelName
    revision: ModelName
    plaintext: Artifact
    ciphertext: Annotated[dict[str, Ciphertext], Field(min_length=1, max_length=MAX_FILES)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if {file.path for file in self.plaintext.files} != set(self.ciphertext):
            raise ValueError("plaintext and ciphertext name different files")
        if self.plaintext.manifest is not None or any(file.sha256 is None for file in self.plaintext.files):
            raise ValueError("plaintext must tell the digest of every file, and be of plain files")
        return self


def resolve_sealed(trusted: Trusted, connector: Connector, policy: FetchPolicy, pace: Pace) -> Artifact:
    """Return the artifact of an encrypted source out of its manifest, or raise SourceError."""
    source = trusted.source
    snapshot = with_retries(connector.snapshot, pace)
    check_named(source, snapshot)
    _require_manifest_digest(source)
    entry = with_retries(partial(connector.measure, _manifest_entry(snapshot)), pace)
    listing = pinned(entry, source, policy)
    manifest = _read(connector, listing, source, commit=snapshot.commit or "", pace=pace)
    found = {entry.path: entry for entry in snapshot.entries}
    entries = [_entry_of(file, found) for file in manifest.plaintext.files]
    measured = [with_retries(partial(connector.measure, entry), pace) for entry in entries]
    files = tuple(
        _sealed(file, pinned(entry, source, policy), manifest)
        for file, entry in zip(manifest.plaintext.files, measured, strict=True)
    )
    _check_kind(manifest.plaintext, source)
    header = manifest.plaintext.header
    artifact = manifest.plaintext.model_copy(
        update={
            "header": header if source.vocabulary else header.model_copy(update={"vocabulary": None}),
            "uri": source.uri,
            "commit": snapshot.commit or own_commit(source, (entry, *measured)),
            "files": files,
            "digest_source": digest_source(files, source, measured=False),
            "signer": trusted.signer,
            "manifest": listing,
        }
    )
    check_length(artifact)
    return artifact


def check_sealed(source: Source, artifact: Artifact, connector: Connector, pace: Pace) -> None:
    """Read the manifest again and raise unless the artifact is what it tells: the artifact was on the way."""
    if artifact.manifest is None:
        raise not_encrypted("the artifact is of plain files")
    manifest = _read(connector, artifact.manifest, source, commit=artifact.commit, pace=pace)
    told = {
        (file.path, file.size, file.sha256, manifest.ciphertext[file.path].size)
        for file in manifest.plaintext.files
    }
    if {(file.path, file.size, file.sha256, file.sealed_size) for file in artifact.files} != told:
        raise SourceError(
            Reason.EncryptionManifestMismatch,
            f"Expected an artifact of the files that {MANIFEST} tells of; it names others. Delete the artifact's "
            "ConfigMap, and see who could write it.",
        )


def _require_manifest_digest(source: Source) -> None:
    if MANIFEST in source.sha256:
        return
    require_digests(source, [MANIFEST])
    raise SourceError(
        Reason.DigestRequired,
        f"Expected a signature or a digest of {quoted(MANIFEST)}; there is none. Sign it (`nimblet sign "
        f"{MANIFEST}`), or set integrity.sha256 to its digest.",
    )


def _manifest_entry(snapshot: Snapshot) -> Entry:
    found = next((entry for entry in snapshot.entries if entry.path == MANIFEST), None)
    if found is not None:
        return found
    names = [entry.path for entry in snapshot.entries]
    if not any(name.endswith(SUFFIX) for name in names):
        raise not_encrypted(f"the source has no {MANIFEST} and no {SUFFIX} file, but {listed(names) or 'nothing'}")
    raise _bad_manifest("it is not there")


def _read(
    connector: Connector, listing: ArtifactFile, source: Source, *, commit: str, pace: Pace
) -> EncryptionManifest:
    """Return the manifest that the user's digest is of, for the user's model and revision."""
    raw = with_retries(partial(_bytes, connector, listing, commit), pace)
    digest = hashlib.sha256(raw).hexdigest()
    if digest != source.sha256[MANIFEST]:
        signed = source.signature is not None
        raise SourceError(
            Reason.SignatureMismatch if signed else Reason.DigestMismatch,
            f"Expected {MANIFEST} {'as it was signed' if signed else 'as the spec says'}, with sha256 "
            f"{source.sha256[MANIFEST]}; found {digest}. It was changed or swapped: don't use it.",
        )
    try:
        manifest = EncryptionManifest.model_validate_json(raw)
    except ValidationError as error:
        flaws = [f"{'.'.join(str(part) for part in e['loc']) or 'JSON'}: {e['msg']}" for e in error.errors()]
        raise _bad_manifest(f"found {listed(flaws, limit=5)}") from error
    if source.encryption is not None:
        _check_names(manifest, source.encryption)
    return manifest


def _check_names(manifest: EncryptionManifest, wanted: Encryption) -> None:
    if (manifest.model, manifest.revision) != (wanted.model, wanted.revision):
        raise SourceError(
            Reason.EncryptionManifestMismatch,
            f"Expected weights of model {quoted(wanted.model)}, revision {quoted(wanted.revision)}; {MANIFEST} is "
            f"of {quoted(manifest.model)}, revision {quoted(manifest.revision)}. Correct source.encryption if you "
            "want these; else the source was swapped for another.",
        )


def _check_kind(plaintext: Artifact, source: Source) -> None:
    """Raise unless an adapter's source holds an adapter, and a model's a model."""
    first, adapter = plaintext.files[0].path, plaintext.header.adapter is not None
    if source.adapter and not adapter:
        raise not_an_adapter(first, f"{MANIFEST} tells of a model")
    if adapter and not source.adapter:
        raise SourceError(
            Reason.UnsupportedFormat,
            f"Expected {quoted(first)} to be a model; {MANIFEST} tells of a LoRA adapter. Name it under "
            "spec.adapters, beside the model that it is for.",
        )


def _bytes(connector: Connector, listing: ArtifactFile, commit: str) -> bytes:
    if listing.size > MAX_MANIFEST_BYTES:
        raise _bad_manifest(f"it has {listing.size} bytes, and at most {MAX_MANIFEST_BYTES} are read")
    content = bytearray()
    with connector.open(MANIFEST, commit=commit, span=Span(tag=listing.tag)) as body:
        for chunk in body.chunks():
            content += chunk
            if len(content) > listing.size:
                raise _bad_manifest(f"it has more than the {listing.size} bytes that the source tells")
    return bytes(content)


def _entry_of(file: ArtifactFile, found: dict[str, Entry]) -> Entry:
    name = f"{file.path}{SUFFIX}"
    if name in found:
        return found[name]
    if file.path in found:
        raise not_encrypted(f"the source has {quoted(file.path)} and no {quoted(name)}")
    raise SourceError(
        Reason.FileNotFound,
        f"Expected {quoted(name)}, which {MANIFEST} tells of; the source has {listed(found)}. Put it there.",
    )


def _sealed(file: ArtifactFile, told: ArtifactFile, manifest: EncryptionManifest) -> ArtifactFile:
    """Return the plaintext's file with where its ciphertext is; SourceError where the source has another one."""
    wanted = manifest.ciphertext[file.path]
    if told.size < wanted.size:
        raise truncated(told.path)
    if told.size > wanted.size:
        raise SourceError(
            Reason.SizeMismatch,
            f"Expected {wanted.size} bytes of {quoted(told.path)}, as {MANIFEST} says; the source has "
            f"{told.size}. It was replaced: put the file there that the manifest is of.",
        )
    if told.sha256 not in (None, wanted.sha256):
        raise SourceError(
            Reason.DigestMismatch,
            f"Expected sha256 {wanted.sha256} of {quoted(told.path)}, as {MANIFEST} says; the source tells "
            f"{told.sha256}. It was replaced: put the file there that the manifest is of.",
        )
    return ArtifactFile(path=file.path, size=file.size, sha256=file.sha256, tag=told.tag, sealed_size=wanted.size)


def _bad_manifest(found: str) -> SourceError:
    return SourceError(
        Reason.EncryptionManifestInvalid,
        f"Expected {MANIFEST} as `nimblet encrypt` writes it beside the files; {found}. Encrypt the model again, "
        "or put all of what was written at the source.",
    )
