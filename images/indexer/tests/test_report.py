# SPDX-License-Identifier: Apache-2.0
"""The report fits Kubernetes' termination message, whatever went wrong."""

import json

from hypothesis import given
from hypothesis import strategies as st

from nimblet_indexer.report import MAX_BYTES, FileError, Progress, Report, SourceReport, crossed, report_text


@given(
    errors=st.lists(
        st.builds(FileError, file=st.text(), reason=st.just("Damaged"), message=st.text()), max_size=60
    )
)
def test_report_fits_and_counts_stay(errors: list[FileError]) -> None:
    report = Report(generation="g000001", documents=3, refused=len(errors), errors=tuple(errors))
    text = report_text(report)
    assert len(text.encode()) <= MAX_BYTES
    assert json.loads(text).get("refused", 0) == len(errors)


def test_long_names_keep_beginning_and_end() -> None:
    error = FileError(file="a" * 500 + ".pdf", reason="Damaged", message="short")
    shown = json.loads(report_text(Report(generation="g000001", errors=(error,))))["errors"][0]
    assert shown["file"].startswith("aaa")
    assert shown["file"].endswith(".pdf")
    assert shown["message"] == "short"


def test_twenty_sources_fit() -> None:
    sources = tuple(
        SourceReport(name=f"source-{'x' * 32}-{number}", hash="f" * 64, documents=10**6, refused=10**6)
        for number in range(20)
    )
    assert len(report_text(Report(generation="g000001", sources=sources)).encode()) <= MAX_BYTES


def test_progress_is_told_in_steps() -> None:
    assert list(crossed(Progress(done=0, total=3), Progress(done=1, total=3))) == [10, 20, 30]
    assert list(crossed(Progress(done=1, total=300), Progress(done=2, total=300))) == []
    assert Progress(done=0, total=0).percent == 100
