# SPDX-License-Identifier: Apache-2.0
"""A PDF page's lines put together: rows stay rows, paragraphs become whole, and no letter is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimblet_indexer.parse.layout import page_text, without_furniture

TABLE = "Care\nCloth Time Water\nWool 40 min 71 l\nSilk, white 25 min 9 l"
TABLE_ON_PAPER = (
    "Care\nCloth           Time       Water\nWool            40 min       71 l\nSilk, white     25 min        9 l"
)


def test_rows_of_a_table_stay_rows_and_cells_are_parted() -> None:
    assert page_text(TABLE, TABLE_ON_PAPER) == (
        "Care\n\nCloth | Time | Water\nWool | 40 min | 71 l\nSilk, white | 25 min | 9 l"
    )


def test_cells_that_come_one_a_line_make_rows_too() -> None:
    plain = "Care\nCloth\nTime\nWater\nWool 40 min\n71 l\nSilk, white\n25 min\n9 l\nKeep it dry."
    assert page_text(plain, TABLE_ON_PAPER + "\nKeep it dry.") == (
        "Care\n\nCloth | Time | Water\nWool | 40 min | 71 l\nSilk, white | 25 min | 9 l\n\nKeep it dry."
    )


def test_row_without_all_cells_belongs_to_its_table() -> None:
    plain, laid_out = "Eel 3 kg 8\nCarp 9", "Eel      3 kg      8\nCarp               9"
    assert page_text(plain, laid_out) == "Eel | 3 kg | 8\nCarp | 9"


def test_columns_of_prose_are_not_taken_for_a_table() -> None:
    left, right = (
        "the mill was built\nin the year of the\nflood and stood for\n",
        "long. It was then\nmoved\nby its owner.",
    )
    plain = left + right
    laid_out = (
        "the mill was built     long. It was then\n"
        "in the year of the     moved\n"
        "flood and stood for    by its owner."
    )
    assert page_text(plain, laid_out) == " ".join(plain.split())


def test_distances_that_do_not_continue_part_no_cells() -> None:
    plain = "See the notes for what is said there about eels and their soup.\nand about the weir"
    laid_out = "See the notes  for what is said there about eels and their soup.\nand   about the weir"
    assert " | " not in page_text(plain, laid_out)


def test_marks_of_lists_are_no_cells() -> None:
    plain, laid_out = "1. Open it.\n\x7f Shut it.\n- Lock it.", "1.   Open it.\n\x7f    Shut it.\n-    Lock it."
    assert " | " not in page_text(plain, laid_out)


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        # what follows had no room, or goes on with a small letter
        ("The pump is exam-\nined daily.", "The pump is examined daily."),
        ("It runs at\n45 bar.", "It runs at 45 bar."),
        # it had room: a heading, and the end of a paragraph
        (
            "Safety\nThe pump may run dry for three minutes at most, or its ring\nbreaks.\nKeep it level.",
            "Safety\n\nThe pump may run dry for three minutes at most, or its ring breaks.\n\nKeep it level.",
        ),
        # a title that is wider than the column below it, far away, says nothing of the column's lines
        (
            "A title of a page that is by far wider than all that stands in the column\n"
            + "Wool\n" * 12
            + "Small Words\nIn A Column",
            None,
        ),
        ("", ""),
        ("One\n\nTwo", "One\n\n\n\nTwo"),
    ],
)
def test_line_ends_for_its_length_alone_are_taken_out(plain: str, text: str | None) -> None:
    told = page_text(plain, "")
    assert told == text if text is not None else told.endswith("Small Words In A Column")


def test_running_heads_and_page_numbers_stand_on_the_first_page_alone() -> None:
    pages = ["Pump\nPage 1\nIntro.", "Pump\nPage 2\nArticle 1\nPump", "Pump\nArticle 2\nIt runs.\n- 3 -"]
    assert without_furniture(pages) == ["Pump\nIntro.", "Article 1", "Article 2\nIt runs."]


@pytest.mark.parametrize("pages", [[], [""], ["Pump"], ["Pump\nOne", "Mill\nTwo"], ["a\nb\nPump\nc\nd"] * 3])
def test_what_does_not_repeat_at_the_edges_stays(pages: list[str]) -> None:
    told = without_furniture(pages)
    assert told[:1] == pages[:1]
    assert all("Pump" in page for page, was in zip(told, pages, strict=True) if "Pump" in was)


@given(st.text(alphabet="ab A1.,-|•\n"), st.text(alphabet="ab A1.,-|•\n"))
def test_no_letter_is_lost_or_added(plain: str, laid_out: str) -> None:
    """But hyphens at the ends of lines, and the bars between cells."""
    kept = [letter for letter in page_text(plain, laid_out) if letter.isalnum()]
    assert kept == [letter for letter in plain if letter.isalnum()]
