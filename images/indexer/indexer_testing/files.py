# SPDX-License-Identifier: Apache-2.0
"""Makes documents for the tests: sound ones of each format, and hostile ones."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import docx
from docx.document import Document
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from docx.shared import Pt
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject


def pdf(pages: Sequence[str], *, title: str = "", password: str | None = None) -> bytes:
    """Return a PDF with a line of text for each line of each page."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(width=595, height=842)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
        content = DecodedStreamObject()
        shown = " ".join(f"({line}) Tj T*" for line in text.split("\n"))
        content.set_data(f"BT /F1 12 Tf 14 TL 50 800 Td {shown} ET".encode("latin-1"))
        page[NameObject("/Contents")] = writer._add_object(content)  # noqa: SLF001 - it has no public way to make a page by hand
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, algorithm="AES-256")
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


def docx_file(blocks: Sequence[tuple[str, str]], *, table: Sequence[Sequence[str]] = ()) -> bytes:
    """Return a DOCX of (style, text) paragraphs and a table at the end; a single cell goes over all columns."""
    document = docx.Document()
    for style, text in blocks:
        document.add_paragraph(text, style=style)
    if table:
        made = document.add_table(rows=0, cols=len(table[0]))
        for row in table:
            cells = made.add_row().cells
            if len(row) == 1:
                cells[0].merge(cells[-1]).text = row[0]
                continue
            for cell, text in zip(cells, row, strict=True):
                cell.text = text
    return saved(document)


def docx_hidden(seen: str, hidden: str) -> bytes:
    """Return a DOCX with hidden text of every kind: by run, by style, by what that is based on, linked, tiny."""
    document = docx.Document()
    secret = document.styles.add_style("Secret", WD_STYLE_TYPE.PARAGRAPH)
    secret.font.hidden = True
    heir = document.styles.add_style("Heir", WD_STYLE_TYPE.PARAGRAPH)
    heir.base_style, heir.font.size = secret, Pt(12)
    shown = document.styles.add_style("Shown", WD_STYLE_TYPE.PARAGRAPH)
    shown.base_style, shown.font.hidden = secret, False
    paragraph = document.add_paragraph(seen, style=shown)
    paragraph.add_run(hidden).font.hidden = True
    paragraph.add_run(hidden).font.size = Pt(1)
    document.add_paragraph(hidden, style=heir)
    run = f"<w:r><w:t>{hidden}</w:t></w:r>"
    link: Any = parse_xml(f'<w:hyperlink {nsdecls("w")} w:anchor="x">{run}</w:hyperlink>')
    document.add_paragraph(hidden, style=secret).runs[0].element.addnext(link)
    return saved(document)


def docx_of(body: str) -> bytes:
    """Return a DOCX with a body in WordprocessingML."""
    document = docx.Document()
    for element in parse_xml(f"<w:body {nsdecls('w')}>{body}</w:body>"):
        document.element.body.append(element)
    return saved(document)


def saved(document: Document) -> bytes:
    """Return a document as a file."""
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def docx_edited() -> bytes:
    """Return a DOCX as editors leave it: with tracked changes, content controls, a field, tables in tables."""
    document = docx.Document()
    document.add_paragraph("The limit is ")
    for xml in (
        '<w:del {} w:id="1" w:author="a"><w:r><w:delText>10</w:delText></w:r></w:del>',
        '<w:ins {} w:id="2" w:author="a"><w:r><w:t>20</w:t></w:r></w:ins>',
        '<w:ins {} w:id="3" w:author="a"><w:r><w:rPr><w:vanish/></w:rPr><w:t>666</w:t></w:r></w:ins>',
        '<w:moveFrom {} w:id="4" w:author="a"><w:r><w:t>gone</w:t></w:r></w:moveFrom>',
        '<w:sdt {}><w:sdtContent><w:r><w:t xml:space="preserve"> MB in </w:t></w:r></w:sdtContent></w:sdt>',
        "<w:sdt {}><w:sdtPr><w:showingPlcHdr/></w:sdtPr><w:r><w:t>x</w:t></w:r></w:sdt>",
        '<w:fldSimple {} w:instr="AUTHOR"><w:smartTag><w:r><w:t>Bern</w:t></w:r></w:smartTag></w:fldSimple>',
    ):
        document.element.body[0].append(parse_xml(xml.format(nsdecls("w"))))
    control = (
        "<w:sdt {}><w:sdtPr>{}</w:sdtPr><w:sdtContent><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    contents = '<w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj>'
    for properties, text in (("", "In a control."), (contents, "Limits 1")):
        document.element.body.insert(0, parse_xml(control.format(nsdecls("w"), properties, text)))
    cell = document.add_table(1, 1).cell(0, 0)
    cell.text = "Outer"
    cell.add_table(1, 1).cell(0, 0).text = "inner"
    return saved(document)


def docx_bomb(megabytes: int) -> bytes:
    """Return a small DOCX whose main part unpacks to many MiB."""
    target = io.BytesIO(docx_file([("Normal", "x")]))
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("word/padding.xml", b" " * (megabytes * 2**20))
    return target.getvalue()
