# SPDX-License-Identifier: Apache-2.0
"""PDF to sections, one a page: the text layer only. Images are not read."""

import io
import re
from typing import Final

from pypdf import PasswordType, PdfReader
from pypdf.errors import PyPdfError

from nimblet_indexer.document import FileRefused, Parsed, Refusal, Section
from nimblet_indexer.parse.text import document_of

MAX_PAGES: Final = 5000
_HYPHEN: Final = re.compile(r"(\w)-\n(?=[a-zß-ÿ])")
"""A word divided at a line's end: joined where the next line goes on in lower case."""
_LINE_END: Final = re.compile(r"(?<!\n)\n(?!\n)")


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
            Section(text=_lines(page.extract_text()), page=number)
            for number, page in enumerate(reader.pages, start=1)
        ]
    except (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        # pypdf meets broken objects with Python's own errors, each at another place
        raise FileRefused(
            Refusal.DAMAGED, f"it can't be read as PDF ({type(error).__name__}: {error}); save it again"
        ) from error
    return document_of(str(title), sections)


def _lines(text: str) -> str:
    """Return a page's text with its lines joined to paragraphs; blank lines stay."""
    return _LINE_END.sub(" ", _HYPHEN.sub(r"\1", text))
