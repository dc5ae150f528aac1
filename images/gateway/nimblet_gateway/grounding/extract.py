# SPDX-License-Identifier: Apache-2.0
"""Picks the sentence of a passage that most likely answers, word for word: for when the model's words fail. Pure.

A sentence scores by the question's words that it holds, those of its headings left out, and by whether it holds
something of the sort asked for: a number, a date or a name that the question does not have. It composes nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from nimblet_gateway.grounding.passage import Passage, Span
from nimblet_relevance.relevance import DOUBT, score_passage
from nimblet_relevance.text import Word, content, words

EXTRACT_WORDS: Final = 20
"""From here on a sentence is cut at its commas: an answer is short."""
_CLAUSE: Final = re.compile("(?:[,;:|]|\\.)\\s+")
_SORT: Final = 0.3
"""What holding the sort asked for weighs beside the share of words, 0 to 1."""
_QUANTITIES: Final = frozenset(
    [
        "many",
        "much",
        "long",
        "old",
        "far",
        "high",
        "tall",
        "big",
        "deep",
        "heavy",
        "large",
        "often",
        "wide",
        "fast",
    ]
)
_MEASURES: Final = frozenset(
    [
        "price",
        "cost",
        "costs",
        "fee",
        "fine",
        "fare",
        "rate",
        "temperature",
        "dose",
        "number",
        "percentage",
        "amount",
    ]
)
_TIMES: Final = frozenset(["when", "date", "year", "month", "time", "day"])
_PERSONS: Final = frozenset(["who", "whom", "whose", "who's"])
_CALENDAR: Final = frozenset(
    """january february march april may june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday""".split()  # noqa: SIM905 - read as text
)


class Sort(Enum):
    """What a question asks for, as far as its words tell."""

    NUMBER = auto()
    TIME = auto()
    NAME = auto()
    OTHER = auto()


@dataclass(frozen=True, kw_only=True)
class Extract:
    """A sentence or line of a passage."""

    passage_index: int
    span: Span


def plan_extract(question: str, passages: Sequence[Passage]) -> Extract | None:
    """Return the best sentence of the best passage; None without passages, or where none holds a word of it."""
    if not passages:
        return None
    index = max(range(len(passages)), key=lambda place: (score_passage(question, passages[place]), -place))
    passage = passages[index]
    asked = frozenset(word.form for word in content(question)) - passage.headings
    sort = sort_of(question)
    pieces = [piece for span in passage.units for piece in _pieces(passage, span)]
    scored = [(_score(_words(passage, span), asked, sort), -place) for place, span in enumerate(pieces)]
    if not scored or max(scored)[0] <= 0:
        return None
    return Extract(passage_index=index, span=pieces[-max(scored)[1]])


def sort_of(question: str) -> Sort:
    """Return what a question asks for; OTHER where its words don't tell."""
    said = [word.raw.replace("\u2019", "'").casefold() for word in words(question)]
    if _PERSONS & set(said):
        return Sort.NAME
    follows = set(pairwise(said))
    if any(one == "how" and other in _QUANTITIES for one, other in follows) or _MEASURES & set(said):
        return Sort.NUMBER
    return Sort.TIME if _TIMES & set(said) else Sort.OTHER


def _pieces(passage: Passage, span: Span) -> Iterator[Span]:
    """Yield a sentence, or the runs of whole clauses that are short enough of one that is not."""
    text = span.of(passage.text)
    if len(text.split()) <= EXTRACT_WORDS:
        yield span
        return
    ends = [0, *(found.end() for found in _CLAUSE.finditer(text)), len(text)]
    for place, start in enumerate(ends[:-1]):
        short = [end for end in ends[place + 1 :] if len(text[start:end].split()) <= EXTRACT_WORDS]
        body = text[start : short[-1] if short else ends[place + 1]].rstrip(" ,;:|")
        if body:
            yield Span(start=span.start + start, end=span.start + start + len(body))


def _words(passage: Passage, span: Span) -> list[Word]:
    return [word for word in passage.words if span.start <= word.start < span.end]


def _score(said: Sequence[Word], asked: frozenset[str], sort: Sort) -> float:
    share = len(asked & {word.form for word in said}) / (len(asked) + DOUBT)
    return share + (_SORT if any(_is_of(sort, word) for word in said if word.form not in asked) else 0.0)


def _is_of(sort: Sort, word: Word) -> bool:
    match sort:
        case Sort.NUMBER:
            return word.number
        case Sort.TIME:
            return word.number or word.raw.casefold() in _CALENDAR
        case Sort.NAME:
            return word.name
        case Sort.OTHER:
            return False
