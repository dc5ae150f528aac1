# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the bench of grounded answers: intervals, rounds of changed facts, records in pieces."""

import time
from pathlib import Path

import pytest

from e2e.data import corpus
from e2e.data.records import Split
from tests.bench.grounded.asked import swap_rounds
from tests.bench.grounded.figures import share, wilson
from tests.bench.grounded.work import OutOfTimeError, Work


def test_interval_is_wilsons() -> None:
    low, high = wilson(38, 40)
    assert (round(low, 3), round(high, 3)) == (0.835, 0.986)


def test_row_tells_share_interval_counts_and_aim() -> None:
    row = share("right", [True, True, False, True], aim=0.5).line()
    assert row == "| right | 75.0% (30.1% to 95.4%) | 3 of 4 | ≥ 50%, met |"
    assert share("right", []).line() == "| right | none asked | | |"


def test_every_fact_is_changed_once_and_its_answer_stands_there() -> None:
    questions = corpus.questions(Split.DEV)
    asked = []
    for documents, changed in swap_rounds(corpus.documents(), questions):
        texts = {document.id: document.text for document in documents}
        assert all(corpus.mentions(texts[question.document], question.answer) for question in changed)
        assert len({question.document for question in changed}) == len(changed)
        asked += [question.id for question in changed]
    assert sorted(asked) == sorted(question.id for question in questions)


def test_record_is_made_once_and_survives(tmp_path: Path) -> None:
    path, later = tmp_path / "work.jsonl", time.monotonic() + 1000
    assert Work(path, later).get(["key"], lambda: 7) == 7
    assert Work(path, later).get(["key"], lambda: 8) == 7


def test_piece_ends_when_its_time_is_over(tmp_path: Path) -> None:
    work = Work(tmp_path / "work.jsonl", until=time.monotonic() - 1)
    with pytest.raises(OutOfTimeError, match="0 records"):
        work.get(["key"], lambda: 7)
