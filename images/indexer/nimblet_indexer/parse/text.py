# SPDX-License-Identifier: Apache-2.0
"""Plain text: decoding, and the cleaning that every format's text goes through. Pure."""

import codecs
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from nimblet_indexer.document import FileRefused, Parsed, Refusal, Section
from nimblet_indexer.parse.hidden import IGNORABLE

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 before UTF-16: the shorter mark begins the longer one."""
_SPACES: Final = re.compile(r"[^\S\n]+")
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_MARKS: Final = 30
"""Marks on one letter that are kept, as many as Unicode's Stream-Safe Text Format (UAX #15) has: composing sorts
them in time by the square of their number, and nothing else of the process runs meanwhile."""
_MARKED: Final = re.compile(rf"[^\w\s\x00-\x7f]{{{_MARKS + 1},}}")
_LIGATURES: Final = re.compile("[\ufb00-\ufb06]+")
"""Latin ones, as type setters' PDF files hold them: neither the words' index nor most models know them."""
_KEPT_CONTROLS: Final = frozenset("\n\t")
MAX_TITLE: Final = 200


def decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, or what its byte order mark says. FileRefused for anything else."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileRefused(
            Refusal.BAD_ENCODING, f"byte {error.start} is not {encoding.upper()}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise FileRefused(
            Refusal.UNSUPPORTED, "it holds binary data; give a text, Markdown, HTML, PDF or DOCX file"
        )
    return text


def clean(text: str) -> str:
    """Return what a reader sees: composed, without control, zero-width and direction characters, spaces single.

    What is invisible to people must not reach a model: it is how instructions are hidden in documents. Typeset
    ligatures are spelled out.
    """
    lined = text.replace("\r\n", "\n").replace("\r", "\n")
    composed = unicodedata.normalize("NFC", _MARKED.sub(_thinned, lined))
    spelled = _LIGATURES.sub(lambda found: unicodedata.normalize("NFKC", found[0]), composed)
    seen = "".join(char for char in spelled if char in _KEPT_CONTROLS or _is_seen(char))
    lines = (line.strip() for line in _SPACES.sub(" ", seen).split("\n"))
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def _thinned(found: re.Match[str]) -> str:
    """Return a run of signs without the marks beyond those that one letter may have."""
    kept, marks = [], 0
    for char in found[0]:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= _MARKS:
            kept.append(char)
    return "".join(kept)


def _is_seen(char: str) -> bool:
    return unicodedata.category(char)[0] != "C" and char not in IGNORABLE


def document_of(title: str, sections: Iterable[Section]) -> Parsed:
    """Return the document with clean texts, without empty sections. FileRefused when nothing is left."""
    named = line(title)
    kept = []
    for section in sections:
        text = clean(section.text)
        if text:
            headings = tuple(shown for heading in section.headings if (shown := line(heading)))
            below = headings[1:] if headings[:1] == (named,) else headings  # a place need not repeat the title
            kept.append(Section(text=text, headings=below, page=section.page))
    if not kept:
        raise FileRefused(Refusal.NO_TEXT, "it holds no text; a scanned document needs OCR first")
    return Parsed(title=named, sections=tuple(kept))


def line(text: str) -> str:
    """Return a title or heading on one line, cut to what a citation can show."""
    return " ".join(clean(text).split())[:MAX_TITLE]


def parse_text(data: bytes) -> Parsed:
    """Return a text file as one section. Its first line is no title: nobody said so."""
    return document_of("", [Section(text=decode(data))])
