# SPDX-License-Identifier: Apache-2.0
"""A retrieved passage as grounding sees it, and the pieces it can be quoted by. Values only."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from nimblet_gateway.grounding.sentence import take_sentences
from nimblet_relevance.relevance import heading_forms
from nimblet_relevance.text import Word, words

WRAPPED_LINE: Final = 60
"""Letters from which on a line without an end was most likely broken for its length alone."""
_ENDED: Final = re.compile(r"[.!?:;\u2026|][\"'\u201d\u2019)\]]*$")
_ITEM: Final = re.compile(r"(?:[-*\u2022|]|\d{1,3}[.)])(?:\s|$)")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A place in a text: `text[start:end]`."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return what stands there."""
        return text[self.start : self.end]


@dataclass(frozen=True)
class Passage:
    """What the retriever found; only `text` may be quoted, `title` and `location` say what it is about."""

    id: str
    """The citation's: index/document/chunk@generation."""
    text: str
    title: str = ""
    location: str = ""
    score: float = 0.0
    similarity: float | None = None
    """Cosine of question and passage as embedded; None where the retriever can't tell."""

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """Its words in order."""
        return words(self.text)

    def words_in(self, span: Span) -> tuple[Word, ...]:
        """Return the words that begin within a span, without a look at all the others."""
        first, last = (bisect_left(self.words, end, key=_start) for end in (span.start, span.end))
        return self.words[first:last]

    def forms_in(self, span: Span) -> frozenset[str]:
        """Return the words of a span, as they are compared."""
        return frozenset(word.form for word in self.words_in(span))

    @cached_property
    def forms(self) -> frozenset[str]:
        """The words of its text, as they are compared."""
        return frozenset(word.form for word in self.words)

    @cached_property
    def headings(self) -> frozenset[str]:
        """The words of title and location, as they are compared."""
        return heading_forms(self.title, self.location)

    @cached_property
    def units(self) -> tuple[Span, ...]:
        """Its sentences and lines, without the white space around them; broken lines are put together."""
        return tuple(_unwrapped(self.text, _units(self.text)))


def is_item(text: str) -> bool:
    """Tell whether a line is an item of a list."""
    return _ITEM.match(text) is not None


def _start(word: Word) -> int:
    return word.start


def _units(text: str) -> Iterator[Span]:
    start = 0
    for sentence in take_sentences(text, ended=True).sentences:
        end = start + len(sentence)
        body = sentence.strip()
        if re.search(r"\w", body):
            first = start + sentence.index(body)
            yield Span(start=first, end=first + len(body))
        start = end


def _unwrapped(text: str, units: Iterable[Span]) -> Iterator[Span]:
    """Put together what a line's end alone has parted, as texts of fixed width have it."""
    held: Span | None = None
    for unit in units:
        if held is not None and _goes_on(text, held, unit):
            held = Span(start=held.start, end=unit.end)
            continue
        if held is not None:
            yield held
        held = unit
    if held is not None:
        yield held


def _goes_on(text: str, before: Span, after: Span) -> bool:
    line, rest = before.of(text).rpartition("\n")[2], after.of(text)
    if text[before.end : after.start].count("\n") != 1 or _ENDED.search(line) or _ITEM.match(rest) or "|" in rest:
        return False
    return rest[0].islower() or len(line) >= WRAPPED_LINE
