# SPDX-License-Identifier: Apache-2.0
"""Plain text and Markdown: the first as people type it, with underlined headings and tables in columns."""

import textwrap

from e2e.data.canonical import PAGE_BREAK, Block, Heading, Items, PageBreak, Paragraph, Table
from e2e.data.records import Document

_WIDTH = 76


def render_markdown(document: Document) -> bytes:
    body = document.body.replace(f"{PAGE_BREAK}\n\n", "")
    return f"# {document.title}\n\n{body}\n".encode()


def render_text(document: Document) -> bytes:
    chunks = [_underlined(document.title, "=")]
    chunks += [chunk for block in document.blocks if (chunk := _text_of(block))]
    return ("\n\n".join(chunks) + "\n").encode()


def _text_of(block: Block) -> str:
    match block:
        case Heading():
            return _underlined(block.text, "-")
        case Paragraph():
            return _filled(block.text, mark="")
        case Items():
            marks = [f"{number}. " if block.ordered else "- " for number in range(1, len(block.texts) + 1)]
            return "\n".join(_filled(text, mark=mark) for mark, text in zip(marks, block.texts, strict=True))
        case Table():
            return _columns((block.header, *block.rows))
        case PageBreak():
            return ""


def _underlined(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def _filled(text: str, *, mark: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _columns(rows: tuple[tuple[str, ...], ...]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    padded = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)
