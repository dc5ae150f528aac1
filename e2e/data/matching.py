# SPDX-License-Identifier: Apache-2.0
"""Whether a text states an answer: the one comparison that labels, changes and scores share.

Case, thousands' commas, percent and degree signs and small numbers written as words make no difference; anything
cleverer would be a judge to be judged.
"""

import re
from functools import lru_cache

from e2e.data.canonical import normalise
from e2e.data.records import Question

_SMALL_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_FOLDS = (
    (re.compile(r"[\u2018\u2019]"), "'"),
    (re.compile(r"[\u201c\u201d]"), '"'),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"\s*%|\bper cent\b"), " percent"),
    (re.compile(r"\s*°(?:\s*c\b)?"), " degrees"),
    *((re.compile(rf"\b{word}\b"), str(number)) for number, word in enumerate(_SMALL_NUMBERS, 2)),
)


def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """Match the phrase as whole words and whole numbers, over line breaks and table bars, in either case."""
    words = r"[\s|]+".join(re.escape(word) for word in phrase.split())
    return re.compile(rf"(?<![\w-])(?<!\d[.,]){words}(?![\w-]|[.,]\d)", re.IGNORECASE)


def mentions(text: str, phrase: str) -> bool:
    text, phrase = _fold(text), _fold(phrase)
    return phrase in text and phrase_pattern(phrase).search(text) is not None


@lru_cache(maxsize=2048)
def _fold(text: str) -> str:
    folded = normalise(text).casefold()
    for pattern, replacement in _FOLDS:
        folded = pattern.sub(replacement, folded)
    return normalise(folded)


def is_right(reply: str, question: Question) -> bool:
    """Tell whether the reply states the answer; whether it is short enough is the caller's to count."""
    if question.parts:
        return all(mentions(reply, part) for part in question.parts)
    return any(mentions(reply, form) for form in (question.answer, *question.accepted))
