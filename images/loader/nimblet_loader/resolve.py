# SPDX-License-Identifier: Apache-2.0
"""Resolves a source: pins it, picks the model's files, reads only their headers, says who vouches for them.

Of a safetensors repository it also reads the small files whole, since no source tells all of their digests. It
must not download tensor data or write anything but its result.
"""

import hashlib
import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol, TypeVar

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_egress.retry import Pace, with_retries
from nimblet_loader.adapter import gguf_adapter_facts, peft_adapter_facts
from nimblet_loader.connector import Body, Connector, Snapshot, Span
from nimblet_loader.contract import (
    MAX_MESSAGE_BYTES,
    VERSION,
    Artifact,
    ArtifactFile,
    FetchPolicy,
    HeaderFacts,
    Source,
)
from nimblet_loader.facts import check_extent, header_error, header_facts
from nimblet_loader.gguf import GGUFError, GGUFHeader, parse_header
from nimblet_loader.message import to_message
from nimblet_loader.modelconfig import CONFIG_BYTES
from nimblet_loader.modelfacts import Repository, repository_facts
from nimblet_loader.repository import ADAPTER_CONFIG, CONFIG, POOLING, TOKENIZER_CONFIG
from nimblet_loader.safetensors import SafetensorsError, SafetensorsHeader, tensors_error
from nimblet_loader.safetensors import check_extent as check_safetensors
from nimblet_loader.safetensors import parse_header as parse_safetensors
from nimblet_loader.selection import Entry, Selection, choose
from nimblet_loader.split import check_parts
from nimblet_loader.trust import Trusted, require_digests, require_url_digest

_FIRST_WINDOW = 512 * 2**10
_LARGEST_WINDOW = 8 * 2**20
_SMALL_BYTES = 64 * 2**20
"""Largest file beside the tensors: a tokenizer of 260,000 tokens has half of that."""
_READ = {CONFIG: CONFIG_BYTES, TOKENIZER_CONFIG: 2 * 2**20, POOLING: 2**16, ADAPTER_CONFIG: 2**18}
"""What facts are read from, and how much of it at most."""
_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class _Read(Protocol[_T_co]):
    """Reads something of one file, and completes its entry by what the source told."""

    def __call__(self, connector: Connector, entry: Entry, commit: str) -> tuple[Entry, _T_co]: ...


def resolve(trusted: Trusted, connector: Connector, policy: FetchPolicy, pace: Pace) -> Artifact:
    """Return the artifact of a source, or raise SourceError."""
    source = trusted.source
    require_url_digest(source)
    snapshot = with_retries(connector.snapshot, pace)
    check_named(source, snapshot)
    selected = choose(snapshot.entries, source)
    require_digests(source, (entry.path for entry in selected.entries))
    chosen = tuple(with_retries(partial(connector.measure, entry), pace) for entry in selected.entries)
    commit = snapshot.commit or own_commit(source, chosen)
    reading = _Reading(connector, source, policy, pace, commit)
    selected = replace(selected, entries=chosen)
    if selected.format == "GGUF":
        told, header = reading.gguf(selected)
    else:
        told, header = reading.safetensors(selected)
    files = [reading.pinned(entry) for entry in told]
    artifact = Artifact(
        version=VERSION,
        uri=source.uri,
        commit=commit,
        files=tuple(files),
        digest_source=digest_source(files, source, measured=any(entry.measured for entry in told)),
        signer=trusted.signer,
        format=selected.format,
        header=header,
    )
    check_length(artifact)
    return artifact


@dataclass(frozen=True)
class _Reading:
    """How files of the pinned snapshot are read, and what they must be."""

    connector: Connector
    source: Source
    policy: FetchPolicy
    pace: Pace
    commit: str

    def gguf(self, selected: Selection) -> tuple[list[Entry], HeaderFacts]:
        """Read the header of every part; return the entries as completed by the source, and the facts."""
        told: list[Entry] = []
        headers: list[tuple[GGUFHeader, int]] = []
        for entry in selected.entries:
            completed, header = self._retried(_inspect, entry)
            size = self.pinned(completed).size
            check_extent(completed.path, header, size)
            told.append(completed)
            headers.append((header, size))
        check_parts([entry.path for entry in selected.entries], [header for header, _ in headers])
        first = selected.entries[0].path
        if self.source.adapter:
            return told, gguf_adapter_facts(first, headers)
        return told, header_facts(first, headers, vocabulary=self.source.vocabulary is not None)

    def safetensors(self, selected: Selection) -> tuple[list[Entry], HeaderFacts]:
        """Read the headers of all parts, and what lies beside them whole: that pins it, and tells the facts."""
        weights = frozenset(selected.weights)
        told: list[Entry] = []
        headers: list[SafetensorsHeader] = []
        texts: dict[str, bytes] = {}
        for entry in selected.entries:
            name = entry.path.removeprefix(selected.folder)
            if entry in weights:
                completed, header = self._retried(_inspect_safetensors, entry)
                self.pinned(completed)
                headers.append(header)
            elif entry.sha256 is not None and name not in _READ:
                completed = entry
            else:
                completed, text = self._retried(_read_whole, entry)
                texts |= {name: text} if name in _READ else {}
            told.append(completed)
        if self.source.adapter:
            return told, peft_adapter_facts(selected.folder, headers, texts, config=ADAPTER_CONFIG)
        names = frozenset(entry.path.removeprefix(selected.folder) for entry in selected.entries)
        return told, repository_facts(Repository(selected.folder, headers, texts, names))

    def pinned(self, entry: Entry) -> ArtifactFile:
        """Return the file as the artifact has it, or raise where it isn't what the spec demands."""
        return pinned(entry, self.source, self.policy)

    def _retried(self, read: _Read[_T], entry: Entry) -> tuple[Entry, _T]:
        _log.info("reading %s at %s", entry.path, self.commit)
        return with_retries(partial(read, self.connector, entry, self.commit), self.pace)


def own_commit(source: Source, chosen: Sequence[Entry]) -> str:
    """Return what stands for a commit where the source has none: the file's digest, or one over all tags."""
    if all(entry.tag is None and entry.sha256 is None for entry in chosen):
        return f"sha256:{source.sha256[chosen[0].path]}"
    lines = "".join(f"{entry.path}\n{entry.size}\n{entry.tag or entry.sha256}\n" for entry in chosen)
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def check_named(source: Source, snapshot: Snapshot) -> None:
    """Raise unless the source has every file that a digest is given for."""
    unknown = set(source.sha256) - {entry.path for entry in snapshot.entries}
    if unknown and source.signature is not None:
        raise SourceError(
            Reason.SignedFileMissing,
            f"Expected the source to hold every signed file; it has no {listed(unknown)}. "
            "Put them back, or sign what is there.",
        )
    if unknown:
        raise SourceError(
            Reason.FileNotFound,
            f"Expected the source to hold the files that digests are given for; it has no {listed(unknown)}. "
            "Correct the names in integrity.sha256.",
        )


def _inspect_safetensors(connector: Connector, entry: Entry, commit: str) -> tuple[Entry, SafetensorsHeader]:
    """Read a part's header by ranges; its tensors must fill the file exactly."""
    windows = _Windows(connector, entry, commit)
    with closing(windows.chunks()) as chunks:
        try:
            header = parse_safetensors(chunks)
            if windows.entry.size is not None:
                check_safetensors(header, windows.entry.size)
        except SafetensorsError as error:
            raise tensors_error(entry.path, error) from error
    return windows.entry, header


def _read_whole(connector: Connector, entry: Entry, commit: str) -> tuple[Entry, bytes]:
    """Read a small file whole; return it with its digest, which the source told or nobody did, and its text.

    The text is kept only of what facts are read from: a tokenizer would cost more memory than the resolver has.
    """
    kept = next((most for name, most in _READ.items() if entry.path.endswith(name)), 0)
    most, digest, length, text = kept or _SMALL_BYTES, hashlib.sha256(), 0, bytearray()
    windows = _Windows(connector, entry, commit)
    with closing(windows.chunks()) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            length += len(chunk)
            if length > most:
                raise SourceError(
                    Reason.FileTooLarge,
                    f"Expected at most {most} bytes of {quoted(entry.path)}, which lies beside the tensors; it is "
                    "larger. Use another source.",
                )
            text += chunk if kept else b""
    told, found = windows.entry, digest.hexdigest()
    if told.sha256 not in (None, found) or told.size not in (None, length):
        raise SourceError(
            Reason.DigestMismatch,
            f"Expected {quoted(entry.path)} with {told.size} bytes of sha256 {told.sha256}; the source sent "
            f"{length} of {found}. It was replaced, or the source is at fault; do not use it unchecked.",
        )
    measured = told.measured or told.sha256 is None
    return replace(told, size=length, sha256=found, measured=measured), bytes(text)


def _inspect(connector: Connector, entry: Entry, commit: str) -> tuple[Entry, GGUFHeader]:
    """Read a file's header by ranges; return it with the entry as completed by what the source told."""
    windows = _Windows(connector, entry, commit)
    with closing(windows.chunks()) as chunks:
        try:
            header = parse_header(chunks)
        except GGUFError as error:
            raise header_error(entry.path, error) from error
    return windows.entry, header


class _Windows:
    """A file's bytes from the start, fetched in growing ranges for as long as they are asked for."""

    def __init__(self, connector: Connector, entry: Entry, commit: str) -> None:
        self.entry = entry
        self._connector = connector
        self._commit = commit
        self._tag: str | None = entry.tag

    def chunks(self) -> Generator[bytes, None, None]:
        position, window = 0, _FIRST_WINDOW
        while self.entry.size is None or position < self.entry.size:
            span = Span(position, position + window, self._tag)
            with self._connector.open(self.entry.path, commit=self._commit, span=span) as body:
                self._check(body, position)
                began = position
                for chunk in body.chunks():
                    position += len(chunk)
                    yield chunk
            if position == began:
                return
            window = min(window * 2, _LARGEST_WINDOW)

    def _check(self, body: Body, position: int) -> None:
        if body.start != position or (self._tag is not None and body.tag != self._tag):
            raise SourceError(
                Reason.SourceChanged,
                f"Expected {quoted(self.entry.path)} to stay the same while its header is read; it changed. "
                "It is tried again.",
            )
        self._tag = body.tag
        self.entry = agreed(self.entry, body)


def agreed(entry: Entry, body: Body) -> Entry:
    """Return the entry completed by what came with the body, or raise where the source contradicts itself."""
    sizes = {size for size in (entry.size, body.total, body.linked_size) if size is not None}
    if len(sizes) > 1:
        raise SourceError(
            Reason.SizeMismatch,
            f"Expected one size of {quoted(entry.path)}; the source tells {sorted(sizes)}. "
            "The source or a proxy before it is at fault; use another.",
        )
    if entry.sha256 is not None and body.linked_sha256 not in (None, entry.sha256):
        raise SourceError(
            Reason.DigestMismatch,
            f"Expected sha256 {entry.sha256} of {quoted(entry.path)}; the source now tells {body.linked_sha256}. "
            "The file was replaced, or the source is at fault; do not use it unchecked.",
        )
    size = next(iter(sizes), None)
    return replace(entry, size=size, sha256=entry.sha256 or body.linked_sha256)


def pinned(entry: Entry, source: Source, policy: FetchPolicy) -> ArtifactFile:
    """Return a file with the size and digest that it must have; SourceError where they contradict the spec."""
    if entry.size is None or entry.size == 0:
        raise SourceError(
            Reason.UnexpectedResponse,
            f"Expected the source to tell a size of {quoted(entry.path)}; it told {entry.size}. Use another.",
        )
    if entry.size > policy.max_file_bytes:
        raise SourceError(
            Reason.FileTooLarge,
            f"Expected at most {policy.max_file_bytes} bytes; {quoted(entry.path)} has {entry.size}. "
            "Use a smaller model, or ask for a higher limit.",
        )
    wanted = source.sha256.get(entry.path)
    if wanted is not None and entry.sha256 not in (None, wanted):
        if source.signature is not None:
            raise SourceError(
                Reason.SignatureMismatch,
                f"Expected {quoted(entry.path)} as it was signed, with sha256 {wanted}; the source tells "
                f"{entry.sha256}. It was changed after it was signed, or the signature is another model's.",
            )
        raise SourceError(
            Reason.DigestMismatch,
            f"Expected sha256 {wanted} of {quoted(entry.path)}; the source tells {entry.sha256}. "
            "Correct integrity.sha256, or do not use this file.",
        )
    return ArtifactFile(path=entry.path, size=entry.size, sha256=wanted or entry.sha256, tag=entry.tag)


def digest_source(
    files: Sequence[ArtifactFile], source: Source, *, measured: bool
) -> Literal["Spec", "Signature", "Source", "Resolver", "None"]:
    """Return who vouches for the weakest digest."""
    if any(file.sha256 is None for file in files):
        return "None"
    if source.signature is not None:
        return "Signature"
    if source.sha256:
        return "Spec"
    return "Resolver" if measured else "Source"


def check_length(artifact: Artifact) -> None:
    """Raise unless the artifact fits a termination message."""
    length = len(to_message(artifact))
    if length > MAX_MESSAGE_BYTES:
        raise SourceError(
            Reason.TooManyFiles,
            f"Expected the artifact to fit {MAX_MESSAGE_BYTES} bytes; {len(artifact.files)} files with their "
            f"names and header make {length} even packed. Use a source with fewer or shorter-named parts.",
        )
