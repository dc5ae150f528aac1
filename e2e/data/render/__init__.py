# SPDX-License-Identifier: Apache-2.0
"""Renderers: a document's canonical form to the bytes of its format, equal for equal input.

No renderer reads the clock, makes an id or adds a fact; what they add is what such files have around their text.
"""

from e2e.data.records import Document, Format
from e2e.data.render.docx import render_docx
from e2e.data.render.html import render_html
from e2e.data.render.pdf import render_pdf
from e2e.data.render.text import render_markdown, render_text

__all__ = ["render_document"]


def render_document(document: Document) -> bytes:
    match document.format:
        case Format.TEXT:
            return render_text(document)
        case Format.MARKDOWN:
            return render_markdown(document)
        case Format.HTML:
            return render_html(document)
        case Format.PDF:
            return render_pdf(document)
        case Format.DOCX:
            return render_docx(document)
