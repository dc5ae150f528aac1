# SPDX-License-Identifier: Apache-2.0
"""The canonical form: what it takes and what it refuses."""

import pytest

from e2e.data.canonical import (
    CanonicalError,
    Heading,
    Items,
    PageBreak,
    Paragraph,
    Table,
    block_texts,
    normalise,
    parse_blocks,
)

BODY = """\
## A heading

A paragraph
over two lines.

1. first
2. second
   goes on

| | Name |
| --- | --- |
| a | b c |

<!-- page -->
"""


def test_every_block_is_parsed() -> None:
    assert parse_blocks(BODY) == (
        Heading(level=2, text="A heading"),
        Paragraph(text="A paragraph over two lines."),
        Items(ordered=True, texts=("first", "second goes on")),
        Table(header=("", "Name"), rows=(("a", "b c"),)),
        PageBreak(),
    )


@pytest.mark.parametrize(
    "body",
    [
        "# A title",
        "## Heading\nand text",
        "2. not from one",
        "- item\nno indent",
        "| a |\n| b |",
        "> quoted",
        "**bold**",
    ],
)
def test_other_markup_is_refused(body: str) -> None:
    with pytest.raises(CanonicalError):
        parse_blocks(body)


def test_table_with_uneven_rows_is_refused() -> None:
    with pytest.raises(CanonicalError, match="differ in length"):
        parse_blocks("| a | b |\n| --- | --- |\n| c |")


def test_quotes_are_compared_without_bars_and_breaks() -> None:
    rows = [text for block in parse_blocks(BODY) for text in block_texts(block)]
    assert normalise("| a  | b\n c |") == normalise(rows[-1]) == "a b c"
