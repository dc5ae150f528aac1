# SPDX-License-Identifier: Apache-2.0
"""Small files that are made to cost much are read in time and in length that grow with them."""

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE

from indexer_testing.files import docx_of, saved
from nimblet_indexer.parse.file import parse_file

MEBIBYTE = 2**20


@pytest.mark.timeout(60)
@pytest.mark.parametrize("row", ["<tr>", "<tr><td>"])
def test_html_cells_over_all_rows_add_no_more_than_a_bounded_text(row: str) -> None:
    page = "<table><tr>" + "<td rowspan=0>a<td>b" * 1500 + row * 6000 + "</table><p>The end."
    (section,) = parse_file("a.html", page.encode()).sections
    assert len(section.text) < 1.2 * MEBIBYTE
    assert section.text.endswith("\n\nThe end.")


@pytest.mark.timeout(60)
def test_html_notes_in_notes_with_links_in_links_take_no_time_by_their_product() -> None:
    notes, links, empty = "<aside><div>" * 450, "<a><div>" * 450, "<i></i>" * 120_000
    page = f"<main>{notes}{links}{empty}{'</div></a>' * 450}{'Mind the gap. ' * 50}</main>"
    (section,) = parse_file("a.html", page.encode()).sections
    assert section.text.startswith("Mind the gap.")


@pytest.mark.timeout(60)
def test_docx_styles_based_on_one_another_take_no_time_by_the_cube_of_their_number() -> None:
    document = docx.Document()
    before = document.add_paragraph("It runs.").style
    for number in range(800):
        style = document.styles.add_style(f"s{number}", WD_STYLE_TYPE.PARAGRAPH)
        style.base_style, before = before, style
    (section,) = parse_file("a.docx", saved(document)).sections
    assert section.text == "It runs."


def test_docx_cells_over_many_rows_do_not_multiply_long_texts() -> None:
    cell = "<w:tc><w:tcPr><w:vMerge{}/></w:tcPr><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    below = f"<w:tr>{cell.format('', '')}</w:tr>" * 500
    opened = cell.format(' w:val="restart"', "word " * 500)
    (section,) = parse_file(
        "a.docx", docx_of(f"<w:tbl><w:tblPr/><w:tblGrid/><w:tr>{opened}</w:tr>{below}</w:tbl>")
    ).sections
    assert section.text == " ".join(["word"] * 500)
