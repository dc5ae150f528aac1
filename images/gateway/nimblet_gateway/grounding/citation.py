# SPDX-License-Identifier: Apache-2.0
"""Markers and quotes: `[n]` is set here alone, and a quote is always a piece of its passage's text. Pure.

Markers that a model, a document or an earlier turn wrote are removed: none of them can point at another's passage.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimblet_gateway.grounding.passage import Passage, Span

QUOTE_WORDS: Final = 60
"""The most words of a quote."""
_MARKER: Final = re.compile(
    r"[ \t]*(?:"
    r"\[\^?\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*\]"
    r"|\u3010[^\u3010\u3011\n]{0,60}\u3011"
    r"|[\[(](?:sources?|passages?|documents?|citations?|refs?|references?)[ :#]*\d{1,3}(?:\s*[,;]\s*\d{1,3})*[\])]"
    r")",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A sentence with its marker, and where the marker stands in it."""

    text: str
    marker: Span


def strip_markers(text: str) -> str:
    """Return the text without anything that looks like a citation's marker."""
    before = None
    while before != text:  # what is left may close up into another one
        before, text = text, _MARKER.sub("", text)
    return text


def mark(sentence: str, *, number: int) -> Marked:
    """Put ` [number]` behind a sentence, before the white space at its end."""
    body = sentence.rstrip()
    marker = f" [{number}]"
    span = Span(start=len(body) + 1, end=len(body) + len(marker))
    return Marked(text=body + marker + sentence[len(body) :], marker=span)


def plan_quote(passage: Passage, weights: Mapping[str, float], *, most: int = QUOTE_WORDS) -> Span | None:
    """Return the run of sentences and lines, of `most` words, that holds the most of `weights`.

    The shortest such run, then the earliest, grows by what follows and by what precedes as long as it fits: the
    reader sees the evidence among its neighbours. None where no weighted word occurs.
    """
    forms = [_forms(passage, span) for span in passage.units]
    best: tuple[float, int, int] | None = None
    chosen = (0, 0)
    for first in range(len(forms)):
        held: set[str] = set()
        for last in range(first, len(forms)):
            count = _length(passage, first, last)
            if count > most and last > first:
                break
            held |= forms[last]
            rank = (sum(weights.get(form, 0.0) for form in held), -count, -first)
            if rank[0] > 0 and (best is None or rank > best):
                best, chosen = rank, (first, last)
    if best is None:
        return None
    first, last = _grown(passage, *chosen, most=most)
    whole = Span(start=passage.units[first].start, end=passage.units[last].end)
    return _shortened(passage.text, whole, most=most)


def _grown(passage: Passage, first: int, last: int, *, most: int) -> tuple[int, int]:
    while True:
        if last + 1 < len(passage.units) and _length(passage, first, last + 1) <= most:
            last += 1
        elif first > 0 and _length(passage, first - 1, last) <= most:
            first -= 1
        else:
            return first, last


def _length(passage: Passage, first: int, last: int) -> int:
    return len(passage.text[passage.units[first].start : passage.units[last].end].split())


def _forms(passage: Passage, span: Span) -> frozenset[str]:
    return frozenset(word.form for word in passage.words if span.start <= word.start < span.end)


def _shortened(text: str, span: Span, *, most: int) -> Span:
    """Cut a sentence that is longer than a quote may be."""
    found = list(re.finditer(r"\S+", span.of(text)))
    if len(found) <= most:
        return span
    return Span(start=span.start, end=span.start + found[most - 1].end())
