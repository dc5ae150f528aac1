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
    r"[\[\uff3b\u27e6\u3014]\^?\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*[\]\uff3d\u27e7\u3015]"
    r"|\u3010[^\u3010\u3011\n]{0,60}\u3011"
    r"|[\[(](?:sources?|passages?|documents?|citations?|refs?|references?)"
    r"[ :#]*\d{1,3}(?:\s*[,;]\s*\d{1,3})*[\])]",
    re.IGNORECASE,
)
"""Without the blanks before it: looked for together, a run of blanks took time by the square of its length."""
_PASSES: Final = 8
"""Markers within each other that are taken apart with care; deeper ones nobody writes but to cost time."""
_NO_BRACKETS: Final = dict.fromkeys(map(ord, "[]()\uff3b\uff3d\u27e6\u27e7\u3010\u3011\u3014\u3015"))


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A sentence with its marker, and where the marker stands in it."""

    text: str
    marker: Span


def strip_markers(text: str) -> str:
    """Return the text without anything that looks like a citation's marker."""
    for _ in range(_PASSES):  # what is left may close up into another one
        before, text = text, _without_markers(text)
        if text == before:
            return text
    return text.translate(_NO_BRACKETS)


def _without_markers(text: str) -> str:
    kept, last = [], 0
    for found in _MARKER.finditer(text):
        kept.append(text[last : found.start()].rstrip(" \t"))
        last = found.end()
    return "".join([*kept, text[last:]])


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
    forms = [passage.forms_in(span) for span in passage.units]
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
    """Return the words of a run, one for each sentence at least: scripts without blanks would have no end."""
    told = passage.text[passage.units[first].start : passage.units[last].end]
    return max(last - first + 1, len(told.split()))


def _shortened(text: str, span: Span, *, most: int) -> Span:
    """Cut a sentence that is longer than a quote may be."""
    found = list(re.finditer(r"\S+", span.of(text)))
    if len(found) <= most:
        return span
    return Span(start=span.start, end=span.start + found[most - 1].end())
