# SPDX-License-Identifier: Apache-2.0
"""Pushed documents as values, and the rules of their versions. Pure: no engine, no files, no HTTP.

A pushed document is replaced as a whole. Its entry outlives its deletion, so that a late retry of an older
version is refused and resurrects nothing. Of a source's document there is an entry once it was erased.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from nimblet_retriever.store.chunk import Chunk, Hit, StoreError, StoreFull
from nimblet_retriever.store.generation import StoredModel

PREFIX: Final = "push:"
"""Begins the id of every pushed document; no source's document has it, since sources' names have no colon."""
TOMBSTONES: Final = 10_000
"""Documents of sources that may be hidden, and deleted ones whose versions are remembered: each question names the
hidden ones to the engine, and all of them are held."""


class VersionRefused(StoreError):  # noqa: N818 - said in the words of what was found
    """An older version of a document came after a newer one, or other content under the same version."""


class Space(StoredModel):
    """What vectors compare with each other: the model, how it embeds, and the language of the lexical half."""

    embedding: str = Field(max_length=200, description="Digest of the embedding model and its settings.")
    canary: tuple[float, ...] = Field(max_length=65536, description="Vector of a fixed text by that model.")
    language: str = Field(max_length=20, description="Stemmer and stop words of the lexical half.")

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        return len(self.canary)

    @property
    def id(self) -> str:
        """A name that fits into a collection's."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document to be pushed: all its passages, embedded in one space."""

    id: str
    version: int | None
    """None: the one after the last, unless the content is the same."""
    digest: str
    """Of everything that was sent: tells a repeated push from another one of the same version."""
    space: Space
    chunks: tuple[Chunk, ...]


class Entry(StoredModel):
    """What is known of a document: its last version, whether it lives, and the push that made it so."""

    document: str
    version: int
    digest: str = ""
    deleted: bool = False
    sequence: int
    space: str = ""
    passages: int = 0

    @property
    def hides(self) -> bool:
        """Whether it is a tombstone over generations: pushed documents are in none."""
        return self.deleted and not self.document.startswith(PREFIX)

    @property
    def forgettable(self) -> bool:
        """Whether it only remembers a version: no passage and no generation depends on it."""
        return self.passages == 0 and not self.hides


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """A push that is durable: its number, and the version that the document has now."""

    sequence: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What an overlay holds, as of one push."""

    sequence: int
    documents: int
    passages: int
    tombstones: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """One look into an overlay: everything here is as of push `sequence`."""

    sequence: int
    hidden: frozenset[str]
    """Documents that must not come out of a generation."""
    dense: tuple[Hit, ...] = ()
    """Best first, with cosines."""
    lexical: tuple[Hit, ...] = ()
    outdated: bool = False
    """Some documents were embedded in another space and were looked for by their words only."""


@dataclass(frozen=True, kw_only=True)
class Outdated:
    """A document that must be embedded anew: what is kept of it, without vectors that fit."""

    entry: Entry
    chunks: tuple[Chunk, ...]


def is_repeated(entry: Entry | None, *, version: int | None, digest: str) -> bool:
    """Tell a push that changes nothing. VersionRefused for one that must not be made."""
    if entry is None:
        return False
    same = entry.digest == digest and not entry.deleted
    if version is None:
        return same
    if version < entry.version:
        raise VersionRefused(f"version {entry.version} is here, found {version}; push a higher one")
    if version > entry.version or same:
        return same and version == entry.version
    state = "deleted" if entry.deleted else "pushed with other content"
    raise VersionRefused(f"version {version} was {state}; push a higher one")


def next_version(entry: Entry | None, version: int | None) -> int:
    """Return the version that a changed document gets."""
    if version is not None:
        return version
    return entry.version + 1 if entry is not None else 1


def is_gone(entry: Entry | None, *, version: int | None) -> bool:
    """Tell a deletion that changes nothing. VersionRefused for one that came too late."""
    if entry is None:
        return False
    if version is not None and version < entry.version:
        raise VersionRefused(f"version {entry.version} is here, found {version}; delete that one")
    return entry.deleted and version in (None, entry.version)


def check_hidden(hidden: int, limit: int) -> None:
    """Raise StoreFull where no more documents may be hidden. None is ever shown again to make room."""
    if hidden >= limit:
        raise StoreFull(
            f"{hidden} of at most {limit} documents of sources are hidden; take some out of their sources, and "
            "restore them once no generation has them"
        )


def forgotten(entries: Iterable[Entry], limit: int) -> tuple[str, ...]:
    """Return the documents whose entries are given up: beyond the limit the oldest, a tenth more at once.

    What hides a source's document is never among them: a rollback would bring back what was erased.
    """
    gone = sorted((entry for entry in entries if entry.forgettable), key=lambda entry: entry.sequence)
    return tuple(entry.document for entry in gone[: len(gone) - limit + limit // 10]) if len(gone) > limit else ()


def ranked(hits: Sequence[Hit], limit: int) -> tuple[Hit, ...]:
    """Return the best hits; the id decides between equal scores, so that an answer repeats itself."""
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.id))[:limit])
