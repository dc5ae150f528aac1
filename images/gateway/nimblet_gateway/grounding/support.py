# SPDX-License-Identifier: Apache-2.0
"""Judges whether one passage says what a sentence says: the check after generation. Pure.

Supported means that every name, number, code and content word of the sentence occurs in one passage or in its
headings, words of the question excepted that are none of the first three. That is provenance, not truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nimblet_gateway.grounding.citation import plan_quote
from nimblet_gateway.grounding.passage import Passage, Span
from nimblet_relevance.text import Word, content, is_negation, words

_NEW = 4.0
"""What a word that only the answer has weighs in a quote, against 1 of a word of the question."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """The verdict; without support `missing` tells how many words the best passage lacks."""

    supported: bool
    passage_index: int | None = None
    quote: Span | None = None
    """A place in the text of that passage."""
    missing: int = 0


@dataclass(frozen=True, kw_only=True)
class _Claim:
    said: tuple[Word, ...]
    asked: frozenset[str]
    denies: bool


def judge_sentence(sentence: str, passages: Sequence[Passage], question: str) -> Support:
    """Judge a sentence of an answer to `question` against passages, best first."""
    claim = _Claim(
        said=content(sentence),
        asked=frozenset(word.form for word in content(question)),
        denies=any(is_negation(word) for word in words(sentence)),
    )
    judged = [_judge(claim, passage, index=index) for index, passage in enumerate(passages)]
    supported = [verdict for verdict in judged if verdict.supported]
    if supported:
        return supported[0]
    return Support(supported=False, missing=min((verdict.missing for verdict in judged), default=len(claim.said)))


def _judge(claim: _Claim, passage: Passage, *, index: int) -> Support:
    known = passage.forms | passage.headings
    missing = {word.form for word in claim.said if word.form not in known and not _may_repeat(word, claim)}
    told = {word.form for word in claim.said if word.form in passage.forms}
    new = told - claim.asked
    denied = claim.denies and not any(is_negation(word) for word in passage.words)
    if missing or denied or not (new or (told and told == claim.asked)):
        return Support(supported=False, missing=max(1, len(missing)))
    weights = dict.fromkeys(claim.asked, 1.0) | dict.fromkeys(told, 1.0) | dict.fromkeys(new, _NEW)
    return Support(supported=True, passage_index=index, quote=plan_quote(passage, weights))


def _may_repeat(word: Word, claim: _Claim) -> bool:
    """Tell whether a word comes from the question and claims nothing by itself."""
    return word.form in claim.asked and not (word.name or word.number or word.code)
