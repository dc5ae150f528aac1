# SPDX-License-Identifier: Apache-2.0
"""The fault matrix as a table: the committed page shows the matrix's rows, and rows are complete."""

from e2e.matrix.play import Outcome
from e2e.matrix.rows import ELSEWHERE, FAULTS
from e2e.matrix.scene import unnamed
from e2e.matrix.table import DOCUMENT, UNPLAYED, document, listed
from nimblet.nextstep import NEXT_STEP

ROWS = [(fault.title, fault.reason.value) for fault in FAULTS] + [(row.title, row.reason) for row in ELSEWHERE]


def test_committed_page_shows_the_rows_of_the_matrix() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    assert listed(page) == ROWS
    assert UNPLAYED not in page


def test_page_quotes_what_a_run_measured() -> None:
    outcome = Outcome(message="a | b", told_seconds=1.25, healed_seconds=3.0, answered=7)
    page = document({fault.name: outcome for fault in FAULTS})
    assert listed(page) == ROWS
    assert "a \\| b" in page
    assert "| 1.2 s |" in page
    assert "7 answered, 0 failed" in page
    assert document({}, before=page) == page
    assert document({}).count(UNPLAYED) == len(FAULTS)


def test_rows_have_names_of_their_own_and_reasons_with_a_next_step() -> None:
    assert len({fault.namespace for fault in FAULTS}) == len(FAULTS)
    assert all(fault.reason in NEXT_STEP for fault in FAULTS if fault.restored is None)


def test_names_that_differ_from_run_to_run_are_left_out() -> None:
    told = "Pod model-model-6f9c7d8b5-x2k4q failed; Job model-resolve-0a1b2c3d4e5f-2 too."
    assert unnamed(told) == "Pod model-model-… failed; Job model-resolve-… too."
