# SPDX-License-Identifier: Apache-2.0
"""Puts a PDF page's lines together: table rows stay rows, paragraphs become whole. Pure; it reads no PDF.

The order is that of the page's plain text, in which columns of prose stay apart. Where the page as it is laid out
shows the same line with gaps that continue in the next line, it is a row of a table, and the gaps part its cells.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

FULL: Final = 0.85
"""The part of the widest line near it that a line broken for its length fills: letters differ in width."""
NEAR: Final = 6
"""Lines before and after that tell how wide the text is here: a page may have columns, and a title above them."""
EDGE: Final = 2
"""Lines at the top and at the bottom of a page among which running heads and page numbers are."""
_PAGE_NUMBER: Final = re.compile(r"(?:page|p\.)\d+(?:(?:/|of)\d+)?$|-\d+-$", re.IGNORECASE)
"""Of a line without its blanks. A number alone may as well be the cell of a table."""
_GAP: Final = re.compile(r"(?<=\S) {2,}(?=\S)")
_MARK: Final = re.compile(r"(?:[\W_]*|\(?(?:\d{1,3}|[a-z])[.)])$")
"""What stands before an item of a list."""
_ITEM: Final = re.compile(r"(?:[-*\u2013\u2022\u2023\u25aa\u25cf\u25e6]|\d{1,3}[.)])\s")
_DIVIDED: Final = re.compile(r"\w-$")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A line with wide gaps, and where these are."""

    cells: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    is_row: bool


def page_text(plain: str, laid_out: str) -> str:
    """Return a page's text: paragraphs and list items apart by blank lines, a table's rows one a line.

    `plain` is the page in reading order, `laid_out` the same with blanks for the distances on paper, empty where
    nobody knows them.
    """
    told = _lines(plain, _rows(laid_out.split("\n")))
    parts = [line.text for line in told[:1]]
    for place, (before, line) in enumerate(pairwise(told), start=1):
        if line.is_row and before.is_row:
            parts += ["\n", line.text]
        elif not line.is_row and not before.is_row and _goes_on(before.text, line.text, _width(told, place)):
            divided = _DIVIDED.search(before.text) is not None and line.text[0].islower()
            parts[-1:] = [before.text[:-1], line.text] if divided else [before.text, " ", line.text]
        else:
            parts += ["\n\n", line.text]
    return "".join(parts)


def without_furniture(pages: Sequence[str]) -> list[str]:
    """Return plain pages without running heads and page numbers, the heads of the first apart.

    A head is a line that more than half of the pages have at their top or bottom, letter for letter.
    """
    cut = [_edges(page) for page in pages]
    seen = Counter(letters for page in cut for letters in {_letters(line) for line in page[0] + page[2]})
    heads = {letters for letters, count in seen.items() if 1 < count > len(pages) / 2}
    told = []
    for place, (top, middle, bottom) in enumerate(cut):
        dropped = heads if place else frozenset[str]()
        kept = [[line for line in edge if not _is_furniture(line, dropped)] for edge in (top, bottom)]
        told.append("\n".join([*kept[0], *middle, *kept[1]]))
    return told


def _edges(page: str) -> tuple[list[str], list[str], list[str]]:
    """Return a page's lines: top, middle and bottom."""
    lines = page.split("\n")
    return lines[:EDGE], lines[EDGE:-EDGE], lines[EDGE:][-EDGE:]


def _is_furniture(line: str, heads: Collection[str]) -> bool:
    letters = _letters(line)
    return bool(letters) and (letters in heads or _PAGE_NUMBER.match(letters) is not None)


def _lines(plain: str, rows: Mapping[str, tuple[str, ...]]) -> list[_Line]:
    """Return the lines; those that together have the letters of a row, as cells often come, as one."""
    lines = [line.strip() for line in plain.split("\n")]
    longest = max((len(letters) for letters in rows), default=0)
    told: list[_Line] = []
    place = 0
    while place < len(lines):
        letters, end = "", place
        while end < len(lines) and len(letters) < longest and letters not in rows:
            letters += _letters(lines[end])
            end += 1
        if letters in rows:
            told.append(_Line(text=" | ".join(rows[letters]), is_row=True))
            place = end
        else:
            told.append(_Line(text=lines[place], is_row=False))
            place += 1
    return told


def _rows(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the cells of the rows of tables, by their letters."""
    parsed = [_row(line) for line in lines if line.strip()]
    found: dict[str, tuple[str, ...]] = {}
    for one, other in pairwise(parsed):
        if one is not None and other is not None and _aligned(one, other):
            for row in (one, other):
                found.setdefault(_letters("".join(row.cells)), row.cells)
    return found


def _row(line: str) -> _Row | None:
    """Return a line of several cells; the mark of a list's item is none."""
    gaps = tuple(gap.span() for gap in _GAP.finditer(line))
    starts, ends = (0, *(end for _, end in gaps)), (*(start for start, _ in gaps), len(line))
    cells = tuple(line[start:end].strip() for start, end in zip(starts, ends, strict=True))
    if len(cells) < 2 or _MARK.match(cells[0]):  # noqa: PLR2004 - a row has at least two
        return None
    return _Row(cells=cells, gaps=gaps)


def _aligned(one: _Row, other: _Row) -> bool:
    """Tell whether the gaps of the row that has fewer lie below or above gaps of the other."""
    fewer, more = sorted((one.gaps, other.gaps), key=len)
    return all(any(start < end and begin < stop for begin, end in more) for start, stop in fewer)


def _letters(text: str) -> str:
    return "".join(text.split())


def _width(lines: Sequence[_Line], place: int) -> int:
    near = lines[max(0, place - NEAR) : place + NEAR]
    return max((len(line.text) for line in near if not line.is_row), default=0)


def _goes_on(line: str, after: str, width: int) -> bool:
    """Tell whether a line ended for its length alone: what follows had no room, or begins with a small letter."""
    if not line or not after or _ITEM.match(after):
        return False
    return after[0].islower() or len(line) + 1 + len(after.split(maxsplit=1)[0]) > FULL * width
