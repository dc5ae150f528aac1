# SPDX-License-Identifier: Apache-2.0
"""PDF to sections, one a page: the text layer only. Images are not read."""

import io
from typing import Final

from pypdf import PageObject, PasswordType, PdfReader
from pypdf.errors import PyPdfError

from nimblet_indexer.document import FileRefused, Parsed, Refusal, Section
from nimblet_indexer.parse.layout import page_text, without_furniture
from nimblet_indexer.parse.text import document_of

MAX_PAGES: Final = 5000
_BROKEN: Final = (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""pypdf meets broken objects with Python's own errors, each at another place."""


def parse_pdf(data: bytes) -> Parsed:
    """Return a PDF's pages. FileRefused for an encrypted or damaged one, or one without a text layer."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
            raise FileRefused(Refusal.ENCRYPTED, "it asks for a password; save it without one")
        if len(reader.pages) > MAX_PAGES:
            raise FileRefused(Refusal.TOO_LARGE, f"it has over {MAX_PAGES} pages; split it")
        title = (reader.metadata.title if reader.metadata is not None else None) or ""
        sections = [
            Section(text=page_text(plain, _laid_out(page)), page=number)
            for number, (page, plain) in enumerate(zip(reader.pages, _plain(reader), strict=True), start=1)
        ]
    except _BROKEN as error:
        raise FileRefused(
            Refusal.DAMAGED, f"it can't be read as PDF ({type(error).__name__}); save it again"
        ) from error
    return document_of(str(title), sections)


def _plain(reader: PdfReader) -> list[str]:
    return without_furniture([page.extract_text() for page in reader.pages])


def _laid_out(page: PageObject) -> str:
    """Return a page with blanks for the distances on paper, or nothing where pypdf can't tell them."""
    try:
        return page.extract_text(extraction_mode="layout", layout_mode_space_vertically=False)
    except (*_BROKEN, ArithmeticError):  # the plain text, which was read before, does without
        return ""
