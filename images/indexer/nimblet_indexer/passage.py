# SPDX-License-Identifier: Apache-2.0
"""Cuts a parsed document into passages that fit the embedding model, counted by the model's own tokens. Pure.

What is embedded is title, place and passage together, so that a short passage still tells what it is about; what
is shown and quoted is the passage alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nimblet_indexer.document import Parsed

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, without special ones; asked for many texts at once, since it may be a request."""

_ABBREVIATIONS: Final = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "no",
        "vs",
        "etc",
        "approx",
        "inc",
        "ltd",
        "co",
        "fig",
        "sec",
        "art",
        "vol",
        "ca",
        "cf",
        "e.g",
        "i.e",
        "al",
        "dept",
        "est",
        "max",
        "min",
    ]
)
_SENTENCE_END: Final = re.compile(
    "(?<![.!?…])([.!?…]+[\"'\u201d\u2019)\\]]*)\\s+(?=[\"'\u201c\u2018(\\[]?[A-Z\u00c0-\u00de\u0391-\u03a9\u0410-\u042f0-9])"
)
"""Closing marks and quotes, then what can begin a sentence: a capital (Latin, Greek, Cyrillic) or a digit.

From a run's first mark only: from each of them, a line of dots took time by the square of its length.
"""
_LAST_WORD: Final = re.compile(r"([\w.]+)$")
_LAST_LETTERS: Final = 16
"""More than any abbreviation has. No more are looked at for each mark: a line may be megabytes long, and who looks
through it holds the interpreter's lock."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Tokens of what is embedded at once; of these `overlap` at most repeat the end of the passage before."""

    tokens: int
    overlap: int

    def __post_init__(self) -> None:
        """Refuse a budget in which nothing new would fit."""
        if not 0 <= self.overlap < self.tokens // 2:
            raise ValueError(
                f"expected an overlap below half of {self.tokens} tokens, found {self.overlap}; "
                "lower chunking.overlap"
            )


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a document: `text` is shown and quoted, `embedded` goes to the embedding model."""

    position: int
    text: str
    embedded: str
    location: str


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """The smallest piece that is kept whole where it fits; `before` joins it to the unit before."""

    text: str
    before: str
    tokens: int


def plan_passages(document: Parsed, *, name: str, budget: Budget, count: CountTokens) -> tuple[Passage, ...]:
    """Return the passages of a document in order; `name` stands for a title where it has none.

    A passage never crosses a heading or a page, so that its location is true for all of it.
    """
    passages: list[Passage] = []
    contexts = [" > ".join((document.title or name, *section.headings)) for section in document.sections]
    cuts = [list(_pieces(section.text)) for section in document.sections]
    asked = [
        text
        for context, cut in zip(contexts, cuts, strict=True)
        for text in (context, *(piece for piece, _ in cut))
    ]
    tokens = iter(count(asked))  # one call for the whole document
    for section, named, cut in zip(document.sections, contexts, cuts, strict=True):
        context, room = named, budget.tokens - next(tokens)
        units = [_Unit(text=piece, before=before, tokens=next(tokens)) for piece, before in cut]
        if room < budget.tokens // 2:  # a title that long tells nothing more
            context, room = "", budget.tokens
        for text in _texts(_fitted(units, room=room, count=count), room=room, overlap=budget.overlap):
            embedded = f"{context}\n{text}" if context else text
            passages.append(
                Passage(position=len(passages), text=text, embedded=embedded, location=section.location)
            )
    return tuple(passages)


def _texts(units: Iterable[_Unit], *, room: int, overlap: int) -> Iterator[str]:
    held: list[_Unit] = []
    fresh = 0
    for unit in units:
        if fresh and sum(item.tokens for item in held) + unit.tokens > room:
            yield _joined(held)
            held, fresh = _tail(held, overlap=min(overlap, room - unit.tokens)), 0
        held.append(unit)
        fresh += 1
    if fresh:
        yield _joined(held)


def _tail(held: Sequence[_Unit], *, overlap: int) -> list[_Unit]:
    """Return the last units that together fit the overlap; never all of them."""
    kept: list[_Unit] = []
    for unit in reversed(held[1:]):
        if sum(item.tokens for item in kept) + unit.tokens > overlap:
            break
        kept.insert(0, unit)
    return kept


def _joined(units: Sequence[_Unit]) -> str:
    return units[0].text + "".join(unit.before + unit.text for unit in units[1:])


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield sentences and lines, each with what joins it to the one before."""
    for paragraph, before in _paragraphs(text):
        for index, sentence in enumerate(sentences(paragraph)):
            yield sentence, " " if index else before


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line with what stands before it: a line end, or a blank line."""
    for paragraph in text.split("\n\n"):
        for index, line in enumerate(part for part in paragraph.split("\n") if part.strip()):
            yield line, "\n" if index else "\n\n"


def sentences(text: str) -> list[str]:
    """Return the sentences of a line; joined by single spaces they are the line again."""
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        last = _LAST_WORD.search(text[max(start, match.start() - _LAST_LETTERS) : match.start()])
        word = last.group(1).lower() if last is not None else ""
        abbreviated = match.group(1) == "." and (word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()))
        if not abbreviated:
            found.append(text[start : match.end(1)])
            start = match.end()
    return [*found, text[start:]] if text[start:] else found


def _fitted(units: Sequence[_Unit], *, room: int, count: CountTokens) -> Iterator[_Unit]:
    """Yield units that fit; a longer one is halved between words, or within a word that is itself too long."""
    for unit in units:
        if unit.tokens <= room or len(unit.text) == 1:
            yield unit
            continue
        middle = len(unit.text) // 2
        cut = unit.text.rfind(" ", 1, middle)
        first, rest = (
            (unit.text[:cut], unit.text[cut + 1 :]) if cut > 0 else (unit.text[:middle], unit.text[middle:])
        )
        numbers = count([first, rest])
        halves = [
            _Unit(text=first, before=unit.before, tokens=numbers[0]),
            _Unit(text=rest, before=" " if cut > 0 else "", tokens=numbers[1]),
        ]
        yield from _fitted(halves, room=room, count=count)
