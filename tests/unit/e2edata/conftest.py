# SPDX-License-Identifier: Apache-2.0
"""The corpus, read once for all tests of it."""

import pytest

from e2e.data import corpus
from e2e.data.corpus import Document, Question, Split


@pytest.fixture(scope="session")
def documents() -> dict[str, Document]:
    return {document.id: document for document in corpus.documents()}


@pytest.fixture(scope="session")
def questions() -> tuple[Question, ...]:
    return tuple(question for split in Split for question in corpus.questions(split))
