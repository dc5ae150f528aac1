# SPDX-License-Identifier: Apache-2.0
"""Parses XML of strangers: bounded by the caller, and without document types, which is where entities come from.

The parser itself tells of a document type, whatever the encoding: bytes that are searched for one miss UTF-16.
"""

from typing import Final
from xml.etree import ElementTree as ET

PARSE_ERRORS: Final = (ET.ParseError, ValueError, LookupError)
"""What the parser raises: of text that is no XML, and of encodings that it does not read or know."""


class HasDocumentType(Exception):  # noqa: N818 - what was found
    """The document has a type; none of what it may declare was read."""


class _Plain(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 - the parser's
        """End the parsing before the first declaration."""
        raise HasDocumentType


def parse_plain(raw: bytes) -> ET.Element:
    """Return the root element. HasDocumentType, or one of PARSE_ERRORS."""
    return ET.fromstring(raw, parser=ET.XMLParser(target=_Plain()))  # noqa: S314 - no type, no entities
