# SPDX-License-Identifier: Apache-2.0
"""Picks the passages' sentence that most likely answers, word for word: for when the model's words fail. Pure.

A sentence scores by the question's words that it holds, the rarer the more, half by those that stand just
before it or at the head of its table and less by those of its headings, and by whether it holds something of the
sort asked for: a number, a date or a name that the question does not have. Its passage's own score weighs most:
sentences of another passage win only where the two are nearly alike. It composes nothing.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from nimblet_gateway.grounding.passage import Passage, Span
from nimblet_relevance.relevance import DOUBT, coverage, score_passage
from nimblet_relevance.text import Word, content, words

EXTRACT_WORDS: Final = 20
"""From here on a sentence is cut at its commas: an answer is short."""
_CLAUSE: Final = re.compile("(?:[,;:|]|\\.)\\s+")
_CELLS: Final = " | "
"""What parts the cells of a table's row, as the indexer writes them."""
_STEP: Final = 5
"""Words between the windows into a sentence that has no clauses: a row of a table, most likely."""
_SORT: Final = 0.3
"""What holding the sort asked for weighs beside the share of words, 0 to 1."""
_HEADING: Final = 0.3
"""What a word of the question weighs that the headings hold: every sentence of the passage is about it."""
_NEAR: Final = 0.5
"""The part of a word's weight that counts where it stands in the sentence before, or in another clause."""
_PASSAGE: Final = 5.0
"""What a passage's score weighs beside its sentence's: a passage better by 0.1 outweighs half of the words."""
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
    """What of a passage's sentence answers, and the whole sentence."""

    passage_index: int
    span: Span
    sentence: Span


@dataclass(frozen=True, kw_only=True)
class _Sought:
    weights: Mapping[str, float]
    """Of the question's words."""
    sort: "Sort"


def plan_extract(question: str, passages: Sequence[Passage]) -> Extract | None:
    """Return the best sentence of the passages; None where the best one and its headings hold no word of it."""
    likeness = [score_passage(question, passage) for passage in passages]
    ranked = sorted(range(len(passages)), key=lambda place: -likeness[place])
    covered = [place for place in ranked if coverage(question, passages[place])]
    if covered[:1] != ranked[:1]:
        return None
    asked = frozenset(word.form for word in content(question))
    rarity, sort = _rarity(asked, passages), sort_of(question)
    best: tuple[float, Extract] | None = None
    for place in covered:
        passage = passages[place]
        weights = {form: rarity[form] * (_HEADING if form in passage.headings else 1.0) for form in asked}
        for score, span, sentence in _scored(passage, _Sought(weights=weights, sort=sort)):
            whole = score + _PASSAGE * likeness[place]
            if best is None or whole > best[0]:  # the first of equals stays
                best = whole, Extract(passage_index=place, span=span, sentence=sentence)
    return None if best is None else best[1]


def _scored(passage: Passage, sought: _Sought) -> Iterator[tuple[float, Span, Span]]:
    """Yield what may be the answer with its score, and the sentence that it is of."""
    for sentence, near in _surrounded(passage):
        for piece in _pieces(passage, sentence):
            yield _score(passage, piece, near, sought), piece, sentence


def grown(passage: Passage, extract: Extract) -> Span:
    """Return an extract with the sentences that follow in its line, as far as the answer stays short.

    Rows and items say each their own: none is put to another.
    """
    end = extract.span.end
    if extract.span != extract.sentence or _CELLS in extract.span.of(passage.text):
        return extract.span
    for unit in passage.units:
        if unit.start < end:
            continue
        longer = Span(start=extract.span.start, end=unit.end).of(passage.text)
        if "\n" in passage.text[end : unit.start] or len(longer.split()) > EXTRACT_WORDS:
            break
        end = unit.end
    return Span(start=extract.span.start, end=end)


def _rarity(asked: Collection[str], passages: Sequence[Passage]) -> dict[str, float]:
    """Return what each word tells, from 1 for one that stands nowhere: the fewer sentences hold it, the more.

    Inverse document frequency over the sentences of the passages at hand, logarithmic as in Sparck Jones (1972).
    """
    told = [passage.forms_in(unit) for passage in passages for unit in passage.units]
    most = math.log(2 + len(told))
    return {form: math.log((2 + len(told)) / (1 + sum(form in forms for forms in told))) / most for form in asked}


def sort_of(question: str) -> Sort:
    """Return what a question asks for; OTHER where its words don't tell."""
    said = [word.raw.replace("\u2019", "'").casefold() for word in words(question)]
    if _PERSONS & set(said):
        return Sort.NAME
    follows = set(pairwise(said))
    if any(one == "how" and other in _QUANTITIES for one, other in follows) or _MEASURES & set(said):
        return Sort.NUMBER
    return Sort.TIME if _TIMES & set(said) else Sort.OTHER


def holds_sort(question: str, sentence: str) -> bool:
    """Tell whether a sentence can be the answer by its sort: a number or a date where one is asked for."""
    sort, asked = sort_of(question), {word.form for word in content(question)}
    if sort not in (Sort.NUMBER, Sort.TIME):
        return True  # names can't be told from what begins a sentence
    return any(_is_of(sort, word) for word in words(sentence) if word.form not in asked)


def _surrounded(passage: Passage) -> Iterator[tuple[Span, frozenset[str]]]:
    """Yield each sentence with its words and those of the one before; a row of a table with those of its head."""
    before = head = frozenset[str]()
    in_table = False
    for sentence in passage.units:
        forms = passage.forms_in(sentence)
        is_row = _CELLS in sentence.of(passage.text)
        if is_row and not in_table:
            head = before | forms
        yield sentence, forms | (head if is_row else before)
        before, in_table = forms, is_row


def _pieces(passage: Passage, span: Span) -> Iterator[Span]:
    """Yield a sentence, or the runs of whole clauses that are short enough of one that is not."""
    text = span.of(passage.text)
    if len(text.split()) <= EXTRACT_WORDS:
        yield span
        return
    ends = [0, *(found.end() for found in _CLAUSE.finditer(text)), len(text)]
    for place, start in enumerate(ends[:-1]):
        # each clause has a word: no later end is near enough
        later = ends[place + 1 : place + 1 + EXTRACT_WORDS]
        short = [end for end in later if len(text[start:end].split()) <= EXTRACT_WORDS]
        body = text[start : short[-1] if short else ends[place + 1]].rstrip(" ,;:|")
        if body:
            yield from _windows(passage.text, Span(start=span.start + start, end=span.start + start + len(body)))


def _windows(text: str, span: Span) -> Iterator[Span]:
    """Yield a clause, or as many words as an answer may have, from each few words on."""
    found = list(re.finditer(r"\S+", span.of(text)))
    last = max(0, len(found) - EXTRACT_WORDS)
    for first in sorted({*range(0, last, _STEP), last}):
        window = found[first : first + EXTRACT_WORDS]
        yield Span(start=span.start + window[0].start(), end=span.start + window[-1].end())


def _score(passage: Passage, piece: Span, near: frozenset[str], sought: _Sought) -> float:
    said = passage.words_in(piece)
    forms = {word.form for word in said}
    held = sum(weight for form, weight in sought.weights.items() if form in forms)
    others = near - forms
    beside = sum(weight for form, weight in sought.weights.items() if form in others)
    share = (held + _NEAR * beside) / (sum(sought.weights.values()) + DOUBT)
    fits = any(_is_of(sought.sort, word) for word in said if word.form not in sought.weights)
    return share + (_SORT if fits else 0.0)


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
