# SPDX-License-Identifier: Apache-2.0
"""The corpus without a question's evidence, and with a fact changed."""

import difflib
import re

import pytest

from e2e.data import corpus
from e2e.data.canonical import normalise
from e2e.data.corpus import Document, Question, RecordError, Split, is_right, mentions, swapped, without


def own_swap(question: Question, *, of: dict[str, Document]) -> tuple[str, str, Question]:
    """Give the document's text before and after the swap, and the question that goes with it."""
    own = of[question.document]
    changed = swapped([own], question)
    return own.text, changed.documents[0].text, changed.question


def test_without_leaves_no_document_that_states_the_answer(
    documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    for question in questions:
        left = without(documents.values(), question)
        assert question.document not in {document.id for document in left}
        assert len(left) >= 0.9 * len(documents), question.id
        if re.search(r"[^\W\d]", question.answer):
            assert not any(mentions(document.text, question.answer) for document in left), question.id


def test_swap_puts_the_new_answer_into_the_quote_and_leaves_no_old_one(
    documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    for question in questions:
        _, text, changed = own_swap(question, of=documents)
        assert text.count(normalise(changed.quote)) == 1, question.id
        assert normalise(changed.answer).casefold() in normalise(changed.quote).casefold(), question.id
        assert not any(mentions(changed.quote, form) for form in (question.answer, *question.accepted)), (
            question.id
        )
        if re.search(r"[^\W\d]", question.answer):
            assert not mentions(text, question.answer), question.id


def test_swapped_answer_is_right_only_after_the_swap(
    documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    for question in questions:
        _, _, changed = own_swap(question, of=documents)
        assert is_right(changed.answer, changed), question.id
        assert not is_right(changed.answer, question), question.id
        assert not is_right(question.answer, changed), question.id
        assert not any(mentions(question.question, form) for form in (changed.answer, *changed.accepted)), (
            question.id
        )


def test_swap_changes_nothing_but_the_fact(
    documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    for question in questions:
        before, after, changed = own_swap(question, of=documents)
        old = words_of(question.answer, *question.accepted)
        new = words_of(changed.answer, *changed.accepted, *question.swap_accepted)
        a, b = (re.findall(r"\w+", text.casefold()) for text in (before, after))
        edits = [
            edit for edit in difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes() if edit[0] != "equal"
        ]
        assert edits, question.id
        for _, i, j, k, m in edits:
            assert set(a[i:j]) <= old | new, question.id
            assert set(b[k:m]) <= old | new, question.id
        places = sum(max(j - i, m - k) for _, i, j, k, m in edits)
        assert places <= 40, question.id


def words_of(*phrases: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(phrases).casefold()))


def test_swap_gives_back_all_documents_and_touches_others_for_a_named_person_only(
    documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    by_id = {question.id: question for question in questions}
    person = swapped(documents.values(), by_id["halyard-queue-runbook-4"])
    changed = [after.id for after in person.documents if after != documents[after.id]]
    assert changed == ["certificate-runbook", "halyard-queue-runbook"]
    number = swapped(documents.values(), by_id["halyard-queue-runbook-1"])
    assert [after.id for after in number.documents if after != documents[after.id]] == ["halyard-queue-runbook"]
    assert [after.id for after in number.documents] == list(documents)


def test_bare_number_is_swapped_in_the_evidence_alone(documents: dict[str, Document]) -> None:
    question = next(q for q in corpus.questions(Split.TEST) if q.id == "museum-tide-clocks-2")
    before, after, changed = own_swap(question, of=documents)
    assert changed.quote == "Still right | 5"
    assert before.replace("Still right 3", "Still right 5") == after


def test_swap_without_the_own_document_is_refused(documents: dict[str, Document]) -> None:
    question = corpus.questions(Split.TEST)[0]
    others = [document for document in documents.values() if document.id != question.document]
    with pytest.raises(RecordError, match=question.document):
        swapped(others, question)
