# SPDX-License-Identifier: Apache-2.0
"""The records of the corpus: documents, questions with their evidence, out-of-scope questions.

Parsed once here; whoever holds a record need not check it again. It reads no file.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from e2e.data.canonical import Block, Heading, PageBreak, block_texts, normalise, parse_blocks

_FRONT_MATTER = re.compile(r"---\nid: (\S+)\ntitle: (\".*\")\nformat: (\w+)\nsplit: (\w+)\n---\n\n(.*)", re.DOTALL)


class RecordError(ValueError):
    """A record's file isn't in the form that the corpus demands."""


class Split(StrEnum):
    DEV = "dev"
    TEST = "test"


class Format(StrEnum):
    """A document's format; the value is the file's ending."""

    TEXT = "txt"
    MARKDOWN = "md"
    HTML = "html"
    PDF = "pdf"
    DOCX = "docx"


class Kind(StrEnum):
    """What a question asks for."""

    NUMBER = "number"
    NAME = "name"
    DATE = "date"
    PLACE = "place"
    REASON = "reason"
    LIST = "list"
    PROCEDURE = "procedure"


class OutOfScopeKind(StrEnum):
    GENERAL = "general"
    """Knowledge of the real world, which the documents don't hold."""
    NONSENSE = "nonsense"
    """A thing that exists neither in the world nor in the corpus."""
    NEAR_MISS = "near-miss"
    """The subject of a document, or a thing named in one, but a fact that no document states."""
    REQUEST = "request"
    """No question of fact at all: a wish, an opinion, a task, the user's own data, the present."""


@dataclass(frozen=True)
class Location:
    """Where a quote stands: what a citation should be able to say."""

    headings: tuple[str, ...]
    """The headings above it, outermost first, without the title."""
    page: int | None
    """From 1; None in formats without pages."""


@dataclass(frozen=True)
class Document:
    id: str
    title: str
    format: Format
    split: Split
    body: str
    """The canonical text below the title."""

    @property
    def file_name(self) -> str:
        return f"{self.id}.{self.format}"

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return parse_blocks(self.body)

    @cached_property
    def text(self) -> str:
        """Title and body in the form in which quotes are compared."""
        return normalise("\n".join([self.title, *(text for block in self.blocks for text in block_texts(block))]))

    def locate(self, quote: str) -> Location:
        """Tell where the quote begins; a title's quote has no headings."""
        wanted = normalise(quote)
        start = self.text.find(wanted)
        if start < 0:
            raise RecordError(f"{self.id}: {quote!r} isn't in the document; quotes are verbatim")
        headings: list[Heading] = []
        page, position = 1, len(normalise(self.title)) + 1
        for block in self.blocks:
            if isinstance(block, PageBreak):
                page += 1
                continue
            if isinstance(block, Heading):
                headings = [above for above in headings if above.level < block.level] + [block]
            position += len(normalise("\n".join(block_texts(block)))) + 1
            if start < position:
                break
        paged = self.format is Format.PDF
        return Location(headings=tuple(heading.text for heading in headings), page=page if paged else None)


def parse_document(text: str) -> Document:
    found = _FRONT_MATTER.fullmatch(text)
    if found is None:
        raise RecordError(f"{text[:60]!r}: expected front matter with id, title in quotes, format and split")
    return Document(
        id=found[1],
        title=str(json.loads(found[2])),
        format=Format(found[3]),
        split=Split(found[4]),
        body=found[5].strip(),
    )


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(_Record):
    """A question that one document answers."""

    id: str
    document: str
    kind: Kind
    question: str
    quote: str
    """The evidence: verbatim in the document, white space and table bars aside; it stands there once."""
    answer: str
    """At most 20 words, verbatim in the quote."""
    accepted: tuple[str, ...] = ()
    """Other right forms of the answer."""
    parts: tuple[str, ...] = ()
    """For lists: what must all be named, in any order."""
    swap: str
    """Another value of the same type, which stands nowhere in the document."""
    swap_accepted: tuple[str, ...] = ()
    """Other right forms once swapped; empty: made from `accepted` by exchanging the words that differ."""


class OutOfScopeQuestion(_Record):
    """A question that must be refused: no document answers it."""

    id: str
    kind: OutOfScopeKind
    question: str = Field(min_length=1)
