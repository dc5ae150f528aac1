# SPDX-License-Identifier: Apache-2.0
"""Picks the passages' sentence that most likely answers, word for word: for when the model's words fail. Pure.

A sentence scores by the question's words that it holds, the rarer the more, half by those that stand just before
it or at the head of its table or list and less by those of its headings, and by whether it holds something of
the sort asked for: a number, a date or a name that the question does not have. Its passage's own score weighs
most: sentences of another passage win only where the two are nearly alike. It composes nothing.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from nimblet_gateway.grounding.asking import (
    Sort,
    is_of,
    named_sorts,
    numbers_of,
    other_names,
    ranges_in,
    sort_of,
)
from nimblet_gateway.grounding.passage import Passage, Span, is_item
from nimblet_relevance.relevance import DOUBT, coverage, heading_forms, score_passage
from nimblet_relevance.text import content, words

EXTRACT_WORDS: Final = 20
"""From here on a sentence is cut at its commas: an answer is short."""
_CLAUSE: Final = re.compile("(?:[,;:|]|\\.)\\s+")
_LEVELS: Final = " > "
"""What parts the headings of a location, as the indexer writes them."""
_ENUMERATED: Final = re.compile(
    r"(?:§+ ?\d+(?:\.\d+)*|\d{1,3}[.)]|\d{1,2}(?:\.\d{1,2}){1,3}(?= [A-Z][a-z]))(?=\s)"
)
"""What numbers a line and is no number that it tells: 3. of a list, 2.3 of a contract, § 7."""
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
_HEAD: Final = 0.3
"""What is taken from the head of a table or list, which names what follows: a passage may begin amid a table."""
_NAMED: Final = 0.3
"""What a word of the question weighs that names the sort asked for alone, as "time" behind "what"."""


@dataclass(frozen=True, kw_only=True)
class Extract:
    """What of a passage's sentence answers, and the whole sentence."""

    passage_index: int
    span: Span
    sentence: Span


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A question as sentences are compared with it."""

    forms: frozenset[str]
    sort: Sort
    named: frozenset[str]
    """Words that name the sort alone."""
    names: Mapping[str, frozenset[str]]
    """What else may stand for a word."""
    numbers: Mapping[str, int]
    """What a range may hold, by the words for it."""


@dataclass(frozen=True, kw_only=True)
class _Sought:
    weights: Mapping[str, float]
    """Of the question's words."""
    asked: _Asked


def plan_extract(question: str, passages: Sequence[Passage]) -> Extract | None:
    """Return the best sentence of the passages; None where the best one and its headings hold no word of it."""
    likeness = [score_passage(question, passage) for passage in passages]
    ranked = sorted(range(len(passages)), key=lambda place: -likeness[place])
    covered = [place for place in ranked if coverage(question, passages[place])]
    if covered[:1] != ranked[:1]:
        return None
    asked = _read(question)
    rarity = _rarity(asked.forms, passages)
    best: tuple[float, Extract] | None = None
    for place in covered:
        passage = passages[place]
        weights = {
            form: rarity[form]
            * (_HEADING if form in passage.headings else 1.0)
            * (_NAMED if form in asked.named else 1.0)
            for form in asked.forms
        }
        for score, span, sentence in _scored(passage, _Sought(weights=weights, asked=asked)):
            whole = score + _PASSAGE * likeness[place]
            if best is None or whole > best[0]:  # the first of equals stays
                best = whole, Extract(passage_index=place, span=span, sentence=sentence)
    return None if best is None else best[1]


def _read(question: str) -> _Asked:
    return _Asked(
        forms=frozenset(word.form for word in content(question)),
        sort=sort_of(question),
        named=named_sorts(question),
        names=other_names(question),
        numbers=numbers_of(question),
    )


def _scored(passage: Passage, sought: _Sought) -> Iterator[tuple[float, Span, Span]]:
    """Yield what may be the answer with its score, and the sentence that it is of."""
    for sentence, near, is_head in _surrounded(passage):
        for piece in _pieces(passage, sentence):
            yield _score(passage, piece, near, sought) - (_HEAD if is_head else 0.0), piece, sentence


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


def holds_sort(question: str, sentence: str) -> bool:
    """Tell whether a sentence can be the answer by its sort: a number or a date where one is asked for."""
    sort, asked = sort_of(question), {word.form for word in content(question)}
    if sort not in (Sort.NUMBER, Sort.TIME):
        return True  # names can't be told from what begins a sentence
    return any(is_of(sort, word) for word in words(sentence) if word.form not in asked)


def _surrounded(passage: Passage) -> Iterator[tuple[Span, frozenset[str], bool]]:
    """Yield each sentence with its words and those of the one before, and whether it is the head of what follows.

    Before the first one stands the heading. A row of a table or an item of a list has the words of its head
    instead of those before it; the line that leads a list is one with its first items.
    """
    before = head = heading_forms("", passage.location.rpartition(_LEVELS)[2])
    was_part = False
    end = Span(start=len(passage.text), end=len(passage.text))
    for place, (sentence, after) in enumerate(pairwise([*passage.units, end])):
        forms, is_row = passage.forms_in(sentence), _is_row(passage, sentence)
        is_part = is_row or is_item(sentence.of(passage.text))
        if is_part and not was_part:
            head = before | forms if is_row else before
        leads = sentence.of(passage.text).endswith(":") and is_item(after.of(passage.text))
        whole = _led(passage, place) if leads else sentence
        has_more = (leads and whole == sentence) or (is_row and not was_part and _is_row(passage, after))
        is_head = has_more and "\n" in passage.text[sentence.end : after.start]
        yield whole, forms | (head if is_part else before), is_head
        before, was_part = forms, is_part


def _led(passage: Passage, place: int) -> Span:
    """Return a line with the items of a list that follow, as far as the answer stays short."""
    start, end = passage.units[place].start, passage.units[place].end
    for unit in passage.units[place + 1 : place + 1 + EXTRACT_WORDS]:
        longer = Span(start=start, end=unit.end).of(passage.text)
        if not is_item(unit.of(passage.text)) or len(longer.split()) > EXTRACT_WORDS:
            break
        end = unit.end
    return Span(start=start, end=end)


def _is_row(passage: Passage, sentence: Span) -> bool:
    return _CELLS in sentence.of(passage.text)


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
    forms = frozenset(word.form for word in said)
    inside = forms | _meant(forms, sought.asked) | _between(passage, piece, sought.asked)
    held = sum(weight for form, weight in sought.weights.items() if form in inside)
    others = (near | _meant(near, sought.asked)) - inside
    beside = sum(weight for form, weight in sought.weights.items() if form in others)
    share = (held + _NEAR * beside) / (sum(sought.weights.values()) + DOUBT)
    told = _behind_number(passage, piece)
    fits = any(
        is_of(sought.asked.sort, word) for word in said if word.start >= told and word.form not in sought.weights
    )
    return share + (_SORT if fits else 0.0)


def _behind_number(passage: Passage, piece: Span) -> int:
    """Return where a piece begins to tell: behind the number that its line has in a list or a contract."""
    if piece.start and passage.text[piece.start - 1] != "\n":
        return piece.start
    found = _ENUMERATED.match(passage.text, piece.start, piece.end)
    return piece.start if found is None else found.end()


def _meant(forms: frozenset[str], asked: _Asked) -> frozenset[str]:
    """Return the question's words that stand there under another name."""
    return frozenset(form for form, names in asked.names.items() if not names.isdisjoint(forms))


def _between(passage: Passage, piece: Span, asked: _Asked) -> frozenset[str]:
    """Return the question's numbers that lie within a range: 3 within 2 to 5 years."""
    if not asked.numbers:
        return frozenset()
    ranges = list(ranges_in(passage.text, passage.words_in(piece)))
    return frozenset(
        form for form, number in asked.numbers.items() if any(one <= number <= other for one, other in ranges)
    )
