# SPDX-License-Identifier: Apache-2.0
"""PDF of several A4 pages, with a running head and a page number on each, as printed matter has."""

from html import escape
from io import BytesIO

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, StyleSheet1, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, SimpleDocTemplate, Spacer, TableStyle
from reportlab.platypus import PageBreak as NewPage
from reportlab.platypus import Paragraph as Text
from reportlab.platypus import Table as Grid

from e2e.data.canonical import Block, Heading, Items, PageBreak, Paragraph, Table
from e2e.data.records import Document

_MARGIN = 25 * mm


def render_pdf(document: Document) -> bytes:
    target = BytesIO()
    template = SimpleDocTemplate(
        target,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=document.title,
        invariant=1,  # no time and no random id in the file
    )
    styles = getSampleStyleSheet()
    story: list[Flowable] = [Text(escape(document.title), styles["Title"])]
    for block in document.blocks:
        story += _flowables(block, styles=styles)

    def furniture(canvas: Canvas, _: object) -> None:
        canvas.saveState()
        canvas.setFont("Helvetica", 8)
        canvas.drawString(_MARGIN, A4[1] - 15 * mm, document.title)
        canvas.drawRightString(A4[0] - _MARGIN, 12 * mm, f"Page {canvas.getPageNumber()}")
        canvas.restoreState()

    template.build(story, onFirstPage=furniture, onLaterPages=furniture)
    return target.getvalue()


def _flowables(block: Block, *, styles: StyleSheet1) -> list[Flowable]:
    body = ParagraphStyle("text", parent=styles["BodyText"])
    match block:
        case Heading():
            return [Text(escape(block.text), styles[f"Heading{block.level}"])]
        case Paragraph():
            return [Text(escape(block.text), body)]
        case Items():
            marks = [f"{number}." if block.ordered else "\u2022" for number in range(1, len(block.texts) + 1)]
            item = ParagraphStyle("item", parent=body, leftIndent=7 * mm, bulletIndent=1 * mm)
            return [
                Text(escape(text), item, bulletText=mark) for mark, text in zip(marks, block.texts, strict=True)
            ]
        case Table():
            grid = Grid([list(block.header), *(list(row) for row in block.rows)], hAlign="LEFT", repeatRows=1)
            grid.setStyle(
                TableStyle([("LINEBELOW", (0, 0), (-1, 0), 1, "black"), ("FONTSIZE", (0, 0), (-1, -1), 9)])
            )
            return [Spacer(1, 2 * mm), grid, Spacer(1, 3 * mm)]
        case PageBreak():
            return [NewPage()]
