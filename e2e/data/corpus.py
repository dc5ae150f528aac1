# SPDX-License-Identifier: Apache-2.0
"""The corpus: its documents and questions from the files beside this module, and the way to what is made of them.

It reads only files of the repository and writes only into the folder it is given. It judges no answer.
"""

from collections.abc import Iterable
from pathlib import Path

from e2e.data.changes import SwappedFact, supports, swapped, without
from e2e.data.matching import is_right, mentions
from e2e.data.records import (
    Document,
    Format,
    Kind,
    Location,
    OutOfScopeKind,
    OutOfScopeQuestion,
    Question,
    RecordError,
    Split,
    parse_document,
)
from e2e.data.render import render_document

__all__ = [
    "Document",
    "Format",
    "Kind",
    "Location",
    "OutOfScopeKind",
    "OutOfScopeQuestion",
    "Question",
    "RecordError",
    "Split",
    "SwappedFact",
    "documents",
    "is_right",
    "mentions",
    "out_of_scope",
    "questions",
    "render",
    "supports",
    "swapped",
    "without",
]

DATA = Path(__file__).parent


def documents(split: Split | None = None) -> tuple[Document, ...]:
    """Return the documents sorted by id; all of them are indexed, whichever split's questions are asked."""
    parsed = (parse_document(path.read_text(encoding="utf-8")) for path in sorted(DATA.glob("documents/*.md")))
    return tuple(document for document in parsed if split in {None, document.split})


def questions(split: Split) -> tuple[Question, ...]:
    return tuple(Question.model_validate_json(line) for line in _lines(f"questions.{split}.jsonl"))


def out_of_scope(split: Split) -> tuple[OutOfScopeQuestion, ...]:
    return tuple(OutOfScopeQuestion.model_validate_json(line) for line in _lines(f"out-of-scope.{split}.jsonl"))


def render(folder: Path, *, only: Iterable[Document] | None = None) -> tuple[Path, ...]:
    """Write each document in its format into the folder, all or only those given; equal input, equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for document in documents() if only is None else only:
        path = folder / document.file_name
        path.write_bytes(render_document(document))
        paths.append(path)
    return tuple(paths)


def _lines(name: str) -> list[str]:
    return [line for line in (DATA / name).read_text(encoding="utf-8").splitlines() if line]
