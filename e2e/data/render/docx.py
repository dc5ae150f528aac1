# SPDX-License-Identifier: Apache-2.0
"""DOCX with real heading styles, lists and tables, packed with fixed times for the sake of equal bytes."""

import zipfile
from datetime import UTC, datetime
from io import BytesIO

import docx
from docx.document import Document as Word
from docx.enum.text import WD_BREAK

from e2e.data.canonical import Block, CanonicalError, Heading, Items, PageBreak, Paragraph, Table
from e2e.data.records import Document

_WRITTEN = datetime(2031, 1, 1, tzinfo=UTC)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can hold


def render_docx(document: Document) -> bytes:
    ordered = [block for block in document.blocks if isinstance(block, Items) and block.ordered]
    if len(ordered) > 1:
        raise CanonicalError(f"{document.id}: Word would number the second list on from the first; keep to one")
    word = docx.Document()
    properties = word.core_properties
    properties.title, properties.author = document.title, ""
    properties.created = properties.modified = _WRITTEN
    word.add_heading(document.title, level=1)
    for block in document.blocks:
        _add(word, block)
    saved = BytesIO()
    word.save(saved)
    return _repacked(saved)


def _add(word: Word, block: Block) -> None:
    match block:
        case Heading():
            word.add_heading(block.text, level=block.level)
        case Paragraph():
            word.add_paragraph(block.text)
        case Items():
            for text in block.texts:
                word.add_paragraph(text, style="List Number" if block.ordered else "List Bullet")
        case Table():
            grid = word.add_table(rows=0, cols=len(block.header), style="Table Grid")
            for row in (block.header, *block.rows):
                for cell, text in zip(grid.add_row().cells, row, strict=True):
                    cell.text = text
        case PageBreak():
            word.add_paragraph().add_run().add_break(WD_BREAK.PAGE)


def _repacked(archive: BytesIO) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(zipfile.ZipInfo(name, _EARLIEST), source.read(name), zipfile.ZIP_DEFLATED)
    return target.getvalue()
