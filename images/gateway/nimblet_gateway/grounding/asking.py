# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM905 - lists of words are read and edited as text
"""Reads what a question asks for: its sort, other names of what is asked, the numbers it is about. Pure.

It reads English words of the question, and ranges of numbers that may hold those of the question; it knows no
passage and weighs nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import islice, pairwise
from typing import Final

from nimblet_relevance.text import Word, fold, words

_ATTRIBUTES: Final = {
    adjective: frozenset(fold(noun) for noun in nouns.split())
    for adjective, nouns in {
        "big": "size dimensions",
        "cold": "temperature",
        "deep": "depth",
        "expensive": "price cost",
        "far": "distance range",
        "fast": "speed",
        "heavy": "weight weighs",
        "high": "height",
        "hot": "temperature",
        "large": "size dimensions",
        "long": "length duration",
        "loud": "noise sound volume",
        "old": "age",
        "tall": "height",
        "thick": "thickness",
        "warm": "temperature",
        "wide": "width",
    }.items()
}
"""What a table or a sentence calls the quality that "how heavy" asks for."""
_QUANTITIES: Final = frozenset(["many", "much", "often", *_ATTRIBUTES])
_MEASURES: Final = frozenset(
    """price cost costs fee fine fare rate temperature dose number percentage amount limit maximum minimum length
    width height depth weight size speed distance range duration salary wage bonus deposit discount share budget
    capacity power voltage pressure age total sum""".split()
)
_TIMES: Final = frozenset(["date", "year", "month", "time", "day"])
_PERSONS: Final = frozenset(["who", "whom", "whose", "who's"])
_OTHERS: Final = frozenset(["why", "where", "how", "where's", "how's"])
"""What is asked so is no number or name, whatever else the question names: "how" has its own numbers."""
_ASKING: Final = frozenset(["what", "what's", "which", "when", "when's", *_PERSONS, *_OTHERS])
_CALENDAR: Final = frozenset(
    """january february march april may june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday""".split()
)
_NAMED: Final = frozenset(["time", "date", "year", "day", "month", "number", "kind", "sort", "type"])
"""What names a sort behind "which": an answer holds a time, seldom the word."""
_ORDINALS: Final = {
    word: number
    for number, word in enumerate(
        "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
        "sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        3,
    )
}
"""From the third on: a second is a time, and what comes first is seldom counted."""
_DIGITS: Final = 9
"""Of a number that lies between others: with more it is no amount."""
_BETWEEN: Final = re.compile(
    r"(?: ?[a-z]{1,12}| ?%)? ?(?:[-\u2013\u2014]|\b(?:to|until|till)\b) ?(?:the )?[\u00a3$\u20ac]?",
    re.IGNORECASE,
)
_NUMBERS: Final = 8
"""Of a question that are looked for within ranges: with more it is no question, and would cost time."""
_APART: Final = 30
"""Letters between the two numbers of a range, at most."""


class Sort(Enum):
    """What a question asks for, as far as its words tell."""

    NUMBER = auto()
    TIME = auto()
    NAME = auto()
    OTHER = auto()


def sort_of(question: str) -> Sort:
    """Return what a question asks for; OTHER where its words don't tell. Its first question word decides."""
    said = [_plain(word) for word in words(question)]
    first = next((word for word in said if word in _ASKING), "")
    if any(one == "how" and other in _QUANTITIES for one, other in pairwise(said)):
        return Sort.NUMBER
    if first in _OTHERS:
        return Sort.OTHER
    if _PERSONS & set(said):
        return Sort.NAME
    if first in ("when", "when's"):
        return Sort.TIME
    if _MEASURES & set(said):
        return Sort.NUMBER
    return Sort.TIME if _TIMES & set(said) else Sort.OTHER


def is_of(sort: Sort, word: Word) -> bool:
    """Tell whether a word can be what is asked for."""
    match sort:
        case Sort.NUMBER:
            return _is_counted(word)
        case Sort.TIME:
            return _is_counted(word) or word.raw.casefold() in _CALENDAR
        case Sort.NAME:
            return word.name
        case Sort.OTHER:
            return False


def named_sorts(question: str) -> frozenset[str]:
    """Return the words that tell the sort alone, as they are compared: the time of "what time"."""
    return frozenset(
        other.form
        for one, other in pairwise(words(question))
        if _plain(one) in ("what", "which") and _plain(other) in _NAMED
    )


def other_names(question: str) -> Mapping[str, frozenset[str]]:
    """Return what else may stand for a word of the question, as they are compared: weight for "how heavy"."""
    return {
        other.form: _ATTRIBUTES[_plain(other)]
        for one, other in pairwise(words(question))
        if _plain(one) == "how" and _plain(other) in _ATTRIBUTES
    }


def numbers_of(question: str) -> Mapping[str, int]:
    """Return the numbers that a question is about, by their words as they are compared."""
    found = ((word.form, number) for word in words(question) if (number := _number(word)) is not None)
    return dict(islice(found, _NUMBERS))


def ranges_in(text: str, said: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each range among the words `said` of a text: 2 to 5 years."""
    counted = [word for word in said if _is_counted(word)]
    for one, other in pairwise(counted):
        if other.start - one.end > _APART or _BETWEEN.fullmatch(text[one.end : other.start]) is None:
            continue
        first, last = _number(one), _number(other)
        if first is not None and last is not None and first < last:
            yield first, last


def _plain(word: Word) -> str:
    return word.raw.replace("\u2019", "'").casefold()


def _is_counted(word: Word) -> bool:
    return word.number or word.raw.casefold() in _ORDINALS


def _number(word: Word) -> int | None:
    if word.form.isdecimal() and len(word.form) <= _DIGITS:
        return int(word.form)
    return _ORDINALS.get(word.raw.casefold())
