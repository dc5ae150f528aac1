# SPDX-License-Identifier: Apache-2.0
"""Cuts a stream of text into sentences, so that each can be checked before it leaves. Pure.

What it gives, joined, is the text it got; where the pieces of the stream were cut makes no difference.
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_SENTENCE: Final = 2000
"""Letters after which a sentence without an end is cut: a stream can't be held back for ever."""
_CLOSING: Final = "\"'\u201d\u2019)\\]*_"
_END: Final = re.compile(
    rf"\n+|(?<![.!?\u2026])(?P<mark>[.!?\u2026]+)(?P<closing>[{_CLOSING}]*)(?P<gap>[ \t]*\n+|[ \t]+|$)"
    r"|(?P<wide>[\u3002\uff01\uff1f]+[\u300d\u300f\uff09]*)"
)
"""A run of marks is looked at once, from its first one: from each of them anew, it took time by its square."""
_OPENING: Final = "\"'\u201c\u2018(\\[*_"
_BEGINNING: Final = re.compile(rf"[{_OPENING}]{{0,3}}[^\W_a-z]")
_UNDECIDED: Final = re.compile(rf"[{_OPENING}]{{0,3}}$")
"""What may begin a sentence: a capital, a digit, a letter of a script without case; not a small letter."""
_ABBREVIATIONS: Final = frozenset(
    "mr mrs ms dr prof st no vs etc approx inc ltd co fig sec art vol ca cf e.g i.e al dept est max min nr".split()  # noqa: SIM905 - as a text it is read
)
_FOLLOWED: Final = frozenset("mr mrs ms dr prof st no vs approx fig sec art vol ca cf e.g i.e nr".split())  # noqa: SIM905
"""Abbreviations behind which a sentence goes on even with a capital or a digit."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Whole sentences with the white space behind them, and the text that waits for more."""

    sentences: tuple[str, ...]
    rest: str


def take_sentences(buffer: str, *, ended: bool) -> Taken:
    """Take what is whole off the front of `buffer`; everything, once the stream has `ended`.

    Call it with the rest and what came since. A sentence is whole when what follows is seen to begin another one.
    """
    sentences: list[str] = []
    rest = buffer
    while rest:
        end = _first_end(rest, ended=ended)
        if end is None:
            break
        sentences.append(rest[:end])
        rest = rest[end:]
    if ended and rest:
        sentences.append(rest)
        rest = ""
    return Taken(sentences=tuple(sentences), rest=rest)


def _first_end(text: str, *, ended: bool) -> int | None:
    """Return where the first sentence ends, or None while that can't be told."""
    for found in _END.finditer(text):
        if found.end() > MAX_SENTENCE:
            break
        if found.end() == len(text) and not ended:
            break  # more white space, marks or a small letter may come
        if found["mark"] is None or found["gap"].endswith("\n"):
            return found.end()
        after = text[found.end() :]
        if not ended and _UNDECIDED.match(after):
            return None
        if _ends(text, found, after=after):
            return found.end()
    return _cut(text) if len(text) > MAX_SENTENCE else None


def _ends(text: str, found: re.Match[str], *, after: str) -> bool:
    if after and not _BEGINNING.match(after):
        return False
    if found["mark"] != "." or found["closing"]:
        return True
    begin = _last_word(text, found.start())
    word = text[begin : found.start()]
    if not word or not after:
        return True
    if len(word) == 1 and word.isupper():
        return False  # an initial
    if word.isdigit() and not text[:begin].strip():
        return False  # the number of a list's item
    return word.casefold() not in (_FOLLOWED if after[0].isupper() or after[0].isdigit() else _ABBREVIATIONS)


def _last_word(text: str, end: int) -> int:
    """Return where the word that ends at `end` begins, abbreviations with their inner dots; `end` without one.

    It goes back from the end: a search from the front would try each letter of every word before.
    """
    begin = end
    while begin > 0:
        is_inner = begin < end and text[begin - 1] == "." and text[max(0, begin - 2) : begin - 1].isalnum()
        if not (is_inner or text[begin - 1].isalnum()):
            break
        begin -= 1
    return begin


def _cut(text: str) -> int:
    blank = max(text.rfind(sign, 0, MAX_SENTENCE) for sign in " \n\t")
    return blank + 1 if blank > 0 else MAX_SENTENCE
