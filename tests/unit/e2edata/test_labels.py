# SPDX-License-Identifier: Apache-2.0
"""The labels: enough of them, each one true of its document, and frozen."""

import re
from collections import Counter

from e2e.data import corpus
from e2e.data.canonical import normalise
from e2e.data.corpus import Document, Format, Kind, OutOfScopeKind, Question, Split, is_right, mentions
from e2e.data.labels import FROZEN, digests

# Household names that slip into invented texts; the list is of the obvious, the texts were written to need none.
REAL = """
Amazon, Apple, Bosch, BMW, Boeing, Canon Inc, Cisco, Coca-Cola, Daikin, Facebook, Ferrari, GitHub,
Google, Honda, IBM, IKEA, Intel, Kubernetes, Lego, Linux, Microsoft, Miele, Nestle, Nike, Nvidia,
OpenAI, Oracle, Pfizer, Philips, Postgres, Samsung, Shell plc, Siemens, Sony, Tesla, Toyota,
Twitter, Vaillant, Viessmann, Volkswagen, Windows, Wikipedia, YouTube, America, Australia, Berlin,
Britain, China, England, Europe, France, Germany, India, Ireland, Italy, Japan, London, Netherlands,
Norway, Paris, Russia, Scotland, Spain, Sweden, Wales, Churchill, Einstein, Shakespeare, Mozart,
Napoleon, Newton
""".replace("\n", " ").split(", ")


def test_there_are_enough_documents_in_every_format_and_of_the_wanted_length(
    documents: dict[str, Document],
) -> None:
    formats = Counter(document.format for document in documents.values())
    assert len(documents) >= 80
    assert all(formats[kind] >= 15 for kind in Format)
    assert all(150 <= len(document.text.split()) <= 950 for document in documents.values())


def test_there_are_enough_questions_of_every_kind_in_both_splits() -> None:
    counts = {split: Counter(question.kind for question in corpus.questions(split)) for split in Split}
    assert counts[Split.TEST].total() >= 200
    assert counts[Split.DEV].total() >= 100
    assert all(counts[split][kind] for split in Split for kind in Kind)


def test_there_are_enough_out_of_scope_questions_of_every_kind() -> None:
    asked = {split: corpus.out_of_scope(split) for split in Split}
    assert len(asked[Split.TEST]) >= 200
    assert {question.kind for question in asked[Split.DEV]} == set(OutOfScopeKind)
    texts = Counter(question.question.casefold() for split in Split for question in asked[split])
    assert texts.most_common(1)[0][1] == 1


def test_no_document_is_in_both_splits(documents: dict[str, Document]) -> None:
    for split in Split:
        asked = {question.document for question in corpus.questions(split)}
        assert asked == {document.id for document in documents.values() if document.split is split}


def test_ids_are_unique_and_name_the_document(questions: tuple[Question, ...]) -> None:
    ids = [question.id for question in questions]
    ids += [question.id for split in Split for question in corpus.out_of_scope(split)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"{question.document}-\d+", question.id) for question in questions)


def test_each_document_is_named_as_its_file() -> None:
    paths = sorted((corpus.DATA / "documents").iterdir())
    assert [document.id for document in corpus.documents()] == [path.stem for path in paths]


def test_each_quote_stands_once_in_its_document(
    documents: dict[str, Document], questions: tuple[Question, ...]
) -> None:
    wrong = [q.id for q in questions if documents[q.document].text.count(normalise(q.quote)) != 1]
    assert wrong == []
    assert [q.id for q in questions if len(q.quote.split()) > 60] == []


def test_each_answer_stands_in_its_quote_and_is_short(questions: tuple[Question, ...]) -> None:
    assert [q.id for q in questions if normalise(q.answer) not in normalise(q.quote)] == []
    assert [q.id for q in questions if len(q.answer.split()) > 20] == []


def test_each_quote_and_each_answer_is_right_by_the_matcher(questions: tuple[Question, ...]) -> None:
    assert [q.id for q in questions if not is_right(q.answer, q) or not is_right(q.quote, q)] == []


def test_no_question_gives_its_answer_away(questions: tuple[Question, ...]) -> None:
    given = [
        q.id for q in questions if any(mentions(q.question, form) for form in (q.answer, *q.accepted, *q.parts))
    ]
    assert given == []


def test_questions_do_not_repeat_their_quote(questions: tuple[Question, ...]) -> None:
    """Asked as users ask: never five words on end as the evidence has them."""
    copied = []
    for question in questions:
        words = re.findall(r"\w+", question.question.casefold())
        quote = " ".join(re.findall(r"\w+", question.quote.casefold()))
        runs = (" ".join(words[start : start + 5]) for start in range(len(words) - 4))
        copied += [question.id for run in runs if f" {run} " in f" {quote} "]
    assert copied == []


def test_no_question_is_asked_twice(questions: tuple[Question, ...]) -> None:
    counts = Counter(question.question.casefold() for question in questions)
    assert counts.most_common(1)[0][1] == 1


def test_no_real_company_country_or_celebrity_is_named(documents: dict[str, Document]) -> None:
    named = [
        (d.id, name) for d in documents.values() for name in REAL if re.search(rf"\b{name.strip()}\b", d.text)
    ]
    assert named == []
    assert [d.id for d in documents.values() if re.search(r"https?://|www\.|@\w", d.text)] == []


def test_a_quote_has_a_place(documents: dict[str, Document], questions: tuple[Question, ...]) -> None:
    places = [documents[question.document].locate(question.quote) for question in questions]
    assert max(place.page or 1 for place in places) >= 3
    assert max(len(place.headings) for place in places) >= 2
    assert documents["tessaly-hp9-service"].locate("clear the fault by holding Snow").headings == (
        "Fault codes",
        "E17",
    )


def test_readme_tells_the_true_counts(documents: dict[str, Document]) -> None:
    text = (corpus.DATA / "README.md").read_text(encoding="utf-8")
    splits = Counter(document.split for document in documents.values())
    asked = [len(corpus.questions(split)) for split in (Split.DEV, Split.TEST)]
    refused = [len(corpus.out_of_scope(split)) for split in (Split.DEV, Split.TEST)]
    assert f"| documents | {splits[Split.DEV]} | {splits[Split.TEST]} |" in text
    assert f"| questions that one document answers | {asked[0]} | {asked[1]} |" in text
    assert f"| out-of-scope questions | {refused[0]} | {refused[1]} |" in text
    formats = Counter(document.format.name for document in documents.values())
    for name, shown in (
        ("TEXT", "plain text"),
        ("MARKDOWN", "Markdown"),
        ("HTML", "HTML"),
        ("PDF", "PDF"),
        ("DOCX", "DOCX"),
    ):
        assert f"| {shown} | {formats[name]} |" in text


def test_labels_are_frozen() -> None:
    """They were committed before any checker; see e2e/data/README.md before writing the file anew."""
    assert digests() == FROZEN.read_text(encoding="utf-8")
