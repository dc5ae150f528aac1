# SPDX-License-Identifier: Apache-2.0
"""Everything that is asked of one split, with the passages that the real retriever finds for it.

The retriever and the embedding model run only while something is not on record. It judges nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

from e2e.data import corpus
from e2e.data.records import Document, OutOfScopeKind, Question, RecordError, Split
from nimblet_gateway.grounding.passage import Passage
from nimblet_retriever.messages import PassageAnswer
from tests.bench.grounded.stack import Library, library
from tests.bench.grounded.work import Work

_PASSAGES: TypeAdapter[tuple[PassageAnswer, ...]] = TypeAdapter(tuple[PassageAnswer, ...])


class Class(StrEnum):
    """Why it is asked."""

    ANSWERABLE = "answerable"
    DELETED = "evidence deleted"
    SWAPPED = "fact changed"
    OUT_OF_SCOPE = "out of scope"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question and what was found; `label` is what an answer must state, None where it must be refused."""

    cls: Class
    id: str
    question: str
    label: Question | None
    kind: OutOfScopeKind | None
    found: tuple[Passage, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to ask: each `step`-th question, and whether changed facts too, which need builds of their own."""

    split: Split
    step: int
    swaps: bool


def gather(plan: Plan, *, binary: Path, folder: Path, work: Work) -> tuple[Asked, ...]:
    """Return all questions with their passages; OutOfTimeError where the piece ends before."""
    shelf = _Shelf(binary=binary, folder=folder, work=work)
    try:
        return tuple(_gathered(plan, shelf))
    finally:
        shelf.close()


def _gathered(plan: Plan, shelf: "_Shelf") -> Iterator[Asked]:
    documents, questions = corpus.documents(), corpus.questions(plan.split)[:: plan.step]
    for question in questions:
        yield _asked(Class.ANSWERABLE, question, shelf.ask(question.question, documents))
    for item in corpus.out_of_scope(plan.split)[:: plan.step]:
        found = shelf.ask(item.question, documents)
        yield Asked(
            cls=Class.OUT_OF_SCOPE, id=item.id, question=item.question, label=None, kind=item.kind, found=found
        )
    for question in questions:
        kept = [f"corpus/{document.file_name}" for document in corpus.without(documents, question)]
        yield _asked(Class.DELETED, question, shelf.ask(question.question, documents, only=kept))
    for changed, swapped in swap_rounds(documents, questions) if plan.swaps else ():
        for question in swapped:
            yield _asked(Class.SWAPPED, question, shelf.ask(question.question, changed))


def swap_rounds(
    documents: Sequence[Document], questions: Iterable[Question]
) -> Iterator[tuple[tuple[Document, ...], tuple[Question, ...]]]:
    """Change as many facts at once as don't meet: one of each document, none whose quote another one changed."""
    left = list(questions)
    while left:
        changed, taken, touched, later = tuple(documents), [], set[str](), []
        for question in left:
            if question.document in touched:
                later.append(question)
                continue
            try:
                fact = corpus.swapped(changed, question)
            except RecordError:  # a name that another question's change took out of the quote
                later.append(question)
                continue
            changed, touched = fact.documents, touched | {question.document}
            taken.append(fact.question)
        yield changed, tuple(taken)
        left = later


def _asked(cls: Class, question: Question, found: tuple[Passage, ...]) -> Asked:
    label = None if cls is Class.DELETED else question
    return Asked(cls=cls, id=question.id, question=question.question, label=label, kind=None, found=found)


class _Shelf:
    """The record first, then a library, which is opened and filled when it is needed."""

    def __init__(self, *, binary: Path, folder: Path, work: Work) -> None:
        self._binary, self._folder, self._work = binary, folder, work
        self._open = ExitStack()
        self._library: Library | None = None
        self._held: tuple[Document, ...] = ()

    def close(self) -> None:
        """End what was started."""
        self._open.close()

    def ask(
        self, question: str, documents: tuple[Document, ...], *, only: Sequence[str] | None = None
    ) -> tuple[Passage, ...]:
        """Return what a search over these documents finds."""
        digest = hashlib.sha256("\0".join(document.text for document in documents).encode()).hexdigest()
        held = self._work.get([digest, question, only], lambda: self._make(question, documents, only=only))
        return tuple(_passage(answer) for answer in _PASSAGES.validate_python(held))

    def _make(self, question: str, documents: tuple[Document, ...], *, only: Sequence[str] | None) -> object:
        if self._library is None:
            self._library = self._open.enter_context(library(self._binary, self._folder))
        if self._held != documents:
            self._library.index(documents)
            self._held = documents
        return _PASSAGES.dump_python(self._library.ask(question, only=only), mode="json")


def _passage(answer: PassageAnswer) -> Passage:
    return Passage(
        id=answer.id,
        text=answer.text,
        title=answer.title,
        location=answer.location,
        score=answer.score,
        similarity=answer.similarity,
    )
