# SPDX-License-Identifier: Apache-2.0
"""Chooses the parser of a file: by its first bytes where they tell, else by its name. Pure."""

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final

from nimblet_indexer.document import FileRefused, Parsed, Refusal
from nimblet_indexer.parse.docx import parse_docx
from nimblet_indexer.parse.html import parse_html
from nimblet_indexer.parse.markdown import parse_markdown
from nimblet_indexer.parse.pdf import parse_pdf
from nimblet_indexer.parse.text import parse_text

_BY_SUFFIX: Final[Mapping[str, Callable[[bytes], Parsed]]] = {
    ".txt": parse_text,
    ".text": parse_text,
    ".log": parse_text,
    ".csv": parse_text,
    ".md": parse_markdown,
    ".markdown": parse_markdown,
    ".html": parse_html,
    ".htm": parse_html,
    ".xhtml": parse_html,
    ".pdf": parse_pdf,
    ".docx": parse_docx,
}
_PDF: Final = b"%PDF-"
_ZIP: Final = b"PK\x03\x04"
_OLE: Final = bytes.fromhex("d0cf11e0a1b11ae1")
"""Compound files: the old office formats, and new ones behind a password."""
_LFS: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]+\n)*oid sha256:[0-9a-f]{64}\nsize \d+\n?"
)
"""A file that Git LFS keeps elsewhere. Source: docs/spec.md of git-lfs."""


def parse_file(name: str, data: bytes) -> Parsed:
    """Return the parsed file. FileRefused says why not."""
    suffix = PurePosixPath(name.lower()).suffix
    parser = _BY_SUFFIX.get(suffix)
    if parser is None:
        raise FileRefused(
            Refusal.UNSUPPORTED,
            f"files of type {suffix or 'unknown'} are not read; give {', '.join(sorted(_BY_SUFFIX))}",
        )
    if _LFS.fullmatch(data):
        raise FileRefused(
            Refusal.UNSUPPORTED,
            "it is a pointer of Git LFS, whose files are not fetched; put the file itself, or exclude it",
        )
    if data.startswith(_OLE):
        raise FileRefused(
            Refusal.ENCRYPTED, "it is an old or protected office file; save it as DOCX without password"
        )
    if data.startswith(_PDF):
        return parse_pdf(data)
    if data.startswith(_ZIP):
        return parse_docx(data)
    if parser in (parse_pdf, parse_docx):
        raise FileRefused(Refusal.DAMAGED, f"it is named {suffix} and is none; save it again")
    return parser(data)
