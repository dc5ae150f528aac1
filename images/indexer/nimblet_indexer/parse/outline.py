# SPDX-License-Identifier: Apache-2.0
"""Collects blocks under the headings above them. Pure; every format with headings uses it."""

from typing import Final

from nimblet_indexer.document import Section

CELLS: Final = " | "
"""What parts the cells of a table's row."""
_REPEATED: Final = 200
"""Characters at most."""


class Outline:
    """Sections of a document in order. A heading ends the section before it and all deeper headings."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._blocks: list[str] = []
        self._sections: list[Section] = []
        self.title = ""

    def heading(self, level: int, text: str) -> None:
        """Open a section; the first heading of level 1 (or 0, a document's own title) names the document."""
        self._close()
        if not self.title and level <= 1:
            self.title = text
        self._path = [*(item for item in self._path if item[0] < level), (level, text)]

    def block(self, text: str) -> None:
        """Add a paragraph, a list item or a table."""
        if text.strip():
            self._blocks.append(text)

    def sections(self) -> list[Section]:
        """Return what was collected."""
        self._close()
        return self._sections

    def _close(self) -> None:
        if self._blocks:
            headings = tuple(text for _, text in self._path)
            self._sections.append(Section(text="\n\n".join(self._blocks), headings=headings))
            self._blocks = []


def table(rows: list[list[str]]) -> str:
    """Return a table as text, a row a line. Equal cells stay: they are values of other columns."""
    lines = []
    for row in rows:
        cells = [" ".join(cell.split()) for cell in row]
        if any(cells):
            lines.append(CELLS.join(cells))
    return "\n".join(lines)


def repeated(text: str) -> str:
    """Return what further rows tell of a cell over several; a long one is no value but a part of the page."""
    return text if len(text) <= _REPEATED else ""
