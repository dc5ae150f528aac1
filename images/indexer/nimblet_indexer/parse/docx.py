# SPDX-License-Identifier: Apache-2.0
"""DOCX to sections by its heading styles. The archive is judged by its directory before anything is unpacked."""

import io
import re
import zipfile
from typing import Final

import docx
from docx.document import Document
from docx.opc.exceptions import OpcError
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml.etree import LxmlError

from nimblet_indexer.document import FileRefused, Parsed, Refusal
from nimblet_indexer.parse.outline import Outline, table
from nimblet_indexer.parse.text import document_of

MAX_MEMBERS: Final = 10_000
MAX_UNPACKED_BYTES: Final = 256 * 2**20
MAX_XML_BYTES: Final = 64 * 2**20
"""Of the parts that are parsed; pictures may be larger and are not read."""
_HEADING: Final = re.compile(r"^heading (\d)$", re.IGNORECASE)


def parse_docx(data: bytes) -> Parsed:
    """Return a DOCX file. The title is its first paragraph of style Title or Heading 1, else its properties'."""
    _check_archive(data)
    try:
        document = docx.Document(io.BytesIO(data))
        outline = Outline()
        _collect(document, outline)
        title = outline.title or document.core_properties.title
    except (OpcError, LxmlError, zipfile.BadZipFile, ValueError, KeyError, AttributeError) as error:
        raise FileRefused(
            Refusal.DAMAGED, f"it can't be read as DOCX ({type(error).__name__}: {error}); save it again"
        ) from error
    return document_of(title, outline.sections())


def _check_archive(data: bytes) -> None:
    """Raise FileRefused for an archive that would expand too much; reads its directory only."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise FileRefused(Refusal.DAMAGED, f"it is no whole DOCX file ({error}); save it again") from error
    unpacked = sum(member.file_size for member in members)
    xml = sum(member.file_size for member in members if member.filename.endswith((".xml", ".rels")))
    if len(members) > MAX_MEMBERS or unpacked > MAX_UNPACKED_BYTES or xml > MAX_XML_BYTES:
        raise FileRefused(
            Refusal.EXPANDS_TOO_MUCH,
            f"it would unpack to {len(members)} parts and {unpacked // 2**20} MiB; "
            f"{MAX_UNPACKED_BYTES // 2**20} MiB are allowed. Split it",
        )


def _collect(document: Document, outline: Outline) -> None:
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            outline.block(table([[cell.text for cell in row.cells] for row in item.rows]))
        else:
            _paragraph(item, outline)


def _paragraph(paragraph: Paragraph, outline: Outline) -> None:
    style = paragraph.style.name if paragraph.style is not None else None
    found = _HEADING.match(style or "")
    if found is not None or style == "Title":
        if paragraph.text.strip():
            outline.heading(int(found.group(1)) if found is not None else 0, paragraph.text)
    elif style is not None and style.startswith("List"):
        outline.block(f"- {paragraph.text}" if paragraph.text.strip() else "")
    else:
        outline.block(paragraph.text)
