# SPDX-License-Identifier: Apache-2.0
"""The canonical form of a document: a small part of Markdown, parsed into blocks that every renderer can draw.

Headings, paragraphs, lists, tables and page breaks; no inline markup, so that a quote reads the same in every
format. It knows nothing of questions and writes no file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

PAGE_BREAK = "<!-- page -->"
_HEADING = re.compile(r"(#{2,4}) (\S.*)")
_ITEM = re.compile(r"(?:- |(\d+)\. )(\S.*)")


class CanonicalError(ValueError):
    """A document's text uses something that the canonical form does not have."""


@dataclass(frozen=True)
class Heading:
    level: int
    """2 to 4; level 1 is the document's title."""
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    ordered: bool
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PageBreak:
    """A new page in PDF and DOCX; the other formats have no pages and leave it out."""


Block = Heading | Paragraph | Items | Table | PageBreak


def normalise(text: str) -> str:
    """Return the text with table bars and white space as single spaces: the form in which quotes are compared."""
    return " ".join(text.replace("|", " ").split())


def parse_blocks(body: str) -> tuple[Block, ...]:
    chunks = (chunk for chunk in re.split(r"\n\s*\n", body.strip()) if chunk.strip())
    return tuple(_parse_chunk(chunk.splitlines()) for chunk in chunks)


def _parse_chunk(lines: list[str]) -> Block:
    first = lines[0]
    if first == PAGE_BREAK and len(lines) == 1:
        return PageBreak()
    if heading := _HEADING.fullmatch(first):
        if len(lines) > 1:
            raise CanonicalError(f"{first!r}: put an empty line after the heading")
        return Heading(level=len(heading[1]), text=heading[2])
    if first.startswith("|"):
        return _parse_table(lines)
    if _ITEM.fullmatch(first):
        return _parse_items(lines)
    if re.match(r"[#<>*`]", first):
        raise CanonicalError(f"{first!r}: the canonical form has no such markup")
    return Paragraph(text=" ".join(line.strip() for line in lines))


def _parse_items(lines: list[str]) -> Items:
    texts: list[str] = []
    numbers: list[str | None] = []
    for line in lines:
        if found := _ITEM.fullmatch(line):
            numbers.append(found[1])
            texts.append(found[2])
        elif line.startswith("  "):
            texts[-1] += f" {line.strip()}"
        else:
            raise CanonicalError(f"{line!r}: indent a list item's further lines")
    if numbers not in ([None] * len(texts), [str(n) for n in range(1, len(texts) + 1)]):
        raise CanonicalError(f"{lines[0]!r}: number a list's items from 1, or none of them")
    return Items(ordered=numbers[0] is not None, texts=tuple(texts))


def _parse_table(lines: list[str]) -> Table:
    rows = [tuple(cell.strip() for cell in line.strip().strip("|").split("|")) for line in lines]
    if len(rows) < 3 or not all(re.fullmatch(r"-+", cell) for cell in rows[1]):  # head, rule, a row
        raise CanonicalError(f"{lines[0]!r}: a table is a head, a rule of dashes and rows")
    if any(len(row) != len(rows[0]) for row in rows):
        raise CanonicalError(f"{lines[0]!r}: the table's rows differ in length")
    return Table(header=rows[0], rows=tuple(rows[2:]))


def block_texts(block: Block) -> Iterator[str]:
    """Yield the block's texts, one for each paragraph, heading, list item or table row."""
    match block:
        case Heading() | Paragraph():
            yield block.text
        case Items():
            yield from block.texts
        case Table():
            yield " | ".join(block.header)
            yield from (" | ".join(row) for row in block.rows)
        case PageBreak():
            return
