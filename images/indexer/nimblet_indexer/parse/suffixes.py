# SPDX-License-Identifier: Apache-2.0
"""Which files are read, by their names: apart from the parsers, which take long to import. Pure."""

from typing import Final

SUFFIXES: Final = frozenset(
    {".txt", ".text", ".log", ".csv", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf", ".docx"}
)
