# SPDX-License-Identifier: Apache-2.0
"""DOCX to sections by its heading styles. The archive is judged by its directory before anything is unpacked."""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

import docx
from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.opc.exceptions import OpcError
from docx.oxml.ns import qn
from docx.oxml.simpletypes import ST_Merge
from docx.oxml.xmlchemy import BaseOxmlElement
from docx.table import Table, _Cell
from docx.text.paragraph import Paragraph
from lxml.etree import LxmlError

from nimblet_indexer.document import FileRefused, Parsed, Refusal
from nimblet_indexer.parse.outline import Outline, repeated, table
from nimblet_indexer.parse.text import document_of

MAX_MEMBERS: Final = 10_000
MAX_UNPACKED_BYTES: Final = 256 * 2**20
MAX_XML_BYTES: Final = 64 * 2**20
"""Of the parts that are parsed; pictures may be larger and are not read."""
MAX_BASES: Final = 50
"""Styles of a chain, each based on the next; word processors take about ten, and a ring has no end."""
TINY: Final = 2
"""Half points: text of one point is there to be overlooked."""
_WRAPPERS: Final = tuple(
    qn(f"w:{name}")
    for name in ("ins", "moveTo", "sdt", "sdtContent", "smartTag", "customXml", "fldSimple", "bdo", "dir")
)
"""What stands around runs, paragraphs, rows or cells without being one."""
_HEADING: Final = re.compile(r"^heading (\d)$", re.IGNORECASE)


def parse_docx(data: bytes) -> Parsed:
    """Return a DOCX file. The title is its first paragraph of style Title or Heading 1, else its properties'."""
    _check_archive(data)
    try:
        document = docx.Document(io.BytesIO(data))
        _unwrap(document.element.body)
        _remove_hidden(document)
        outline = Outline()
        _collect(document, outline)
        title = outline.title or document.core_properties.title
    except (OpcError, LxmlError, zipfile.BadZipFile, ValueError, KeyError, AttributeError) as error:
        raise FileRefused(
            Refusal.DAMAGED, f"it can't be read as DOCX ({type(error).__name__}); save it again"
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


def _unwrap(body: BaseOxmlElement) -> None:
    """Put what the library passes over where it looks: inserted text, and what controls and fields hold.

    So a document is read as if all its changes were accepted: what was deleted or moved away is not looked at.
    """
    for control in list(body.iter(qn("w:sdt"))):
        if control.find(f"{qn('w:sdtPr')}/{qn('w:showingPlcHdr')}") is not None or _is_contents(control):
            _put(control, [])
    for wrapper in list(body.iter(*_WRAPPERS)):
        _put(wrapper, list(wrapper))


def _put(element: BaseOxmlElement, others: list[BaseOxmlElement]) -> None:
    """Put others in the place of an element."""
    parent = element.getparent()
    if parent is not None:
        for other in others:  # not by their place, which is counted anew each time
            element.addprevious(other)
        parent.remove(element)


def _is_contents(control: BaseOxmlElement) -> bool:
    """Tell a table of contents: its lines are the headings once more."""
    gallery = control.find(f"{qn('w:sdtPr')}/{qn('w:docPartObj')}/{qn('w:docPartGallery')}")
    return gallery is not None and gallery.get(qn("w:val")) == "Table of Contents"


def _remove_hidden(document: Document) -> None:
    """Take out what the word processor does not show: hidden runs, by themselves or by style, and tiny ones."""
    known: dict[str | None, BaseOxmlElement] = {}
    for style in document.styles:
        known.setdefault(style.style_id, style.element)
    hidden = {style.style_id for style in document.styles if _hides(style.element, known)}
    # each paragraph's style; looking for it once a run would be square in their number
    around: dict[BaseOxmlElement | None, str | None] = {}
    for run in list(document.element.body.iter(qn("w:r"))):
        paragraph = next(run.iterancestors(qn("w:p")), None)  # beyond the link that may be between
        if paragraph not in around:
            around[paragraph] = _style(paragraph.find(qn("w:pPr")) if paragraph is not None else None, "w:pStyle")
        properties = run.find(qn("w:rPr"))
        styles = (_style(properties, "w:rStyle"), around[paragraph])
        if (properties is not None and _is_hidden(properties)) or any(style in hidden for style in styles):
            run.getparent().remove(run)


def _hides(style: BaseOxmlElement, known: Mapping[str | None, BaseOxmlElement]) -> bool:
    """Tell a style of hidden text; what it does not say itself, the style says that it is based on.

    Read off the elements, by their ids: the library looks through all styles for each of the chain.
    """
    told: list[BaseOxmlElement] = []
    below: BaseOxmlElement | None = style
    for _ in range(MAX_BASES):
        if below is None:
            break
        properties = below.find(qn("w:rPr"))
        told += [properties] if properties is not None else []
        base = _style(below, "w:basedOn")
        below = known.get(base) if base is not None else None
    return _is_hidden(*told)


def _style(properties: BaseOxmlElement | None, name: str) -> str | None:
    found = properties.find(qn(name)) if properties is not None else None
    return found.get(qn("w:val")) if found is not None else None


def _is_hidden(*properties: BaseOxmlElement) -> bool:
    """Tell by properties, the nearest first: of each kind the first that is there counts."""
    vanish, size = (_first(name, properties) for name in ("w:vanish", "w:sz"))
    off = vanish is not None and vanish.get(qn("w:val")) in ("0", "false", "off")
    points = (size.get(qn("w:val")) if size is not None else None) or ""
    return (vanish is not None and not off) or (points.isdecimal() and int(points) <= TINY)


def _first(name: str, properties: Sequence[BaseOxmlElement]) -> BaseOxmlElement | None:
    return next((found for each in properties if (found := each.find(qn(name))) is not None), None)


def _collect(document: Document, outline: Outline) -> None:
    # by their ids once: the library looks through all styles for each paragraph
    styles = {
        style.style_id: style.name or "" for style in document.styles if style.type is WD_STYLE_TYPE.PARAGRAPH
    }
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            outline.block(table(_rows(item)))
        else:
            _paragraph(item.text, styles.get(item._p.style or "", ""), outline)  # noqa: SLF001 - as above


def _rows(block: Table) -> list[list[str]]:
    """Return the words of a table: those of a cell over several columns once, over several rows in each if short.

    Read off the elements: the library goes up from row to row for each cell of a merged column, and gives a cell
    as often as it says that it has columns.
    """
    rows: list[list[str]] = []
    above: dict[int, str] = {}
    for row in block._tbl.tr_lst:  # noqa: SLF001 - the library's own walk is what is to be avoided
        column, cells = row.grid_before, dict[int, str]()
        for cell in row.tc_lst:
            goes_on = cell.vMerge == ST_Merge.CONTINUE and column in above
            cells[column] = above[column] if goes_on else _cell(_Cell(cell, block))
            column += max(1, cell.grid_span)
        rows.append([*cells.values()])
        above = {at: repeated(text) for at, text in cells.items()}
    return rows


def _cell(cell: _Cell) -> str:
    """Return the words of a cell, those of tables in it too."""
    return "\n".join(
        item.text if isinstance(item, Paragraph) else "\n".join(text for row in _rows(item) for text in row)
        for item in cell.iter_inner_content()
    )


def _paragraph(text: str, style: str, outline: Outline) -> None:
    found = _HEADING.match(style)
    if found is not None or style == "Title":
        if text.strip():
            outline.heading(int(found.group(1)) if found is not None else 0, text)
    elif style.startswith("List"):
        outline.block(f"- {text}" if text.strip() else "")
    else:
        outline.block(text)
