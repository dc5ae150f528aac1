# SPDX-License-Identifier: Apache-2.0
"""What is made from the corpus mechanically: the corpus without a question's evidence, and with its fact changed.

Both are pure; a checker can't be tuned to them by hand, since nobody chose them by hand.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest

from e2e.data.matching import mentions, phrase_pattern
from e2e.data.records import Document, Kind, Question, RecordError

_NAMED = frozenset({Kind.NAME, Kind.PLACE})


@dataclass(frozen=True)
class SwappedFact:
    """The corpus in which one fact is another, and the question with the answer that is right there."""

    documents: tuple[Document, ...]
    question: Question


def without(documents: Iterable[Document], question: Question) -> tuple[Document, ...]:
    """Leave out all documents that support the question: its own, and each in which the answer occurs."""
    return tuple(document for document in documents if not supports(document, question))


def supports(document: Document, question: Question) -> bool:
    """Tell whether the document holds the evidence or the answer.

    A bare number and an accepted form of one common word ("12", "brown") are no evidence elsewhere.
    """
    if document.id == question.document:
        return True
    forms = (question.answer, *(form for form in question.accepted if form[0].isupper() or " " in form))
    return any(mentions(document.text, form) for form in forms if _has_letter(form))


def swapped(documents: Iterable[Document], question: Question) -> SwappedFact:
    """Change the question's fact in its document, and a person's name in every document that names the person."""
    exchange = _exchange(question)
    changed: list[Document] = []
    for document in documents:
        if document.id == question.document:
            changed.append(_change_own(document, question=question, exchange=exchange))
        elif question.kind is Kind.NAME and " " in question.answer:
            changed.append(replace(document, body=_substitute(document.body, question.answer, question.swap)))
        else:
            changed.append(document)
    if question.document not in {document.id for document in changed}:
        raise RecordError(f"{question.id}: its document {question.document} isn't among those given")
    return SwappedFact(documents=tuple(changed), question=_swapped_question(question, exchange=exchange))


def _exchange(question: Question) -> dict[str, str]:
    """List what is replaced by what in the question's own document: the answer, its forms, a name's parts."""
    pairs = {question.answer: question.swap}
    if not _has_letter(question.answer):
        return pairs
    if len(question.accepted) == len(question.swap_accepted):
        pairs |= {
            old: new
            for old, new in zip(question.accepted, question.swap_accepted, strict=True)
            if _has_letter(old)
        }
    if question.kind in _NAMED:
        pairs |= {old: new for old, new in _differing_words(question).items() if old[0].isupper()}
    return pairs


def _differing_words(question: Question) -> dict[str, str]:
    """Pair the answer's words with those of the swap where they differ; empty if the two differ in length."""
    old, new = question.answer.split(), question.swap.split()
    if len(old) != len(new):
        return {}
    pairs = ((a.strip(".,"), b.strip(".,")) for a, b in zip_longest(old, new, fillvalue=""))
    return {a: b for a, b in pairs if a.casefold() != b.casefold()}


def _change_own(document: Document, *, question: Question, exchange: dict[str, str]) -> Document:
    quote = phrase_in_quote(question.quote)
    found = quote.search(document.body)
    if found is None:
        raise RecordError(f"{question.id}: its quote isn't in the body of {document.id}; quotes are verbatim")
    if not _has_letter(question.answer):  # a bare number may stand elsewhere for something else
        inside = _substitute(found[0], question.answer, question.swap)
        return replace(document, body=document.body[: found.start()] + inside + document.body[found.end() :])
    return replace(document, title=_all(document.title, exchange), body=_all(document.body, exchange))


def phrase_in_quote(quote: str) -> re.Pattern[str]:
    """Match the quote in a canonical body: over line breaks, list marks and table bars."""
    return re.compile(
        r"(?:[\s|]+(?:- |\d+\. )?)".join(re.escape(word) for word in quote.replace("|", " ").split())
    )


def _swapped_question(question: Question, *, exchange: dict[str, str]) -> Question:
    words = _differing_words(question)
    accepted = question.swap_accepted
    if not accepted:
        accepted = tuple(new for form in question.accepted if (new := _all(form, words)) != form)
    return question.model_copy(
        update={
            "quote": _all(question.quote, exchange),
            "answer": question.swap,
            "accepted": accepted,
            "parts": tuple(_all(part, words) for part in question.parts),
            "swap": question.answer,
            "swap_accepted": question.accepted,
        },
    )


def _all(text: str, exchange: dict[str, str]) -> str:
    """Replace each phrase, longest first, so that a name goes before its parts."""
    for old in sorted(exchange, key=len, reverse=True):
        text = _substitute(text, old, exchange[old])
    return text


def _has_letter(text: str) -> bool:
    return re.search(r"[^\W\d]", text) is not None


def _substitute(text: str, old: str, new: str) -> str:
    return phrase_pattern(old).sub(_in_case_of(new), text)


def _in_case_of(new: str) -> Callable[[re.Match[str]], str]:
    def replacement(found: re.Match[str]) -> str:
        return new[0].upper() + new[1:] if found[0][0].isupper() else new

    return replacement
