# SPDX-License-Identifier: Apache-2.0
"""The tables of what comes of each pool: of policies in docs/tee.md, of models in docs/hardware.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests import hardwarepools, teepools

DOCS: Final = Path(__file__).parents[2] / "docs"
BEGIN: Final = "<!-- placements: `make gen` writes this table from tests/{}.py -->\n"
END: Final = "<!-- end of placements -->\n"


def generate() -> Iterator[tuple[Path, str]]:
    """Return the documents with the tables as the plan gives them."""
    yield from (
        _filled(DOCS / "tee.md", teepools.table(), source="teepools"),
        _filled(DOCS / "hardware.md", hardwarepools.table(), source="hardwarepools"),
    )


def _filled(path: Path, table: str, *, source: str) -> tuple[Path, str]:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN.format(source))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN.format(source)!r} and {END!r} in {path.name}; put them back")
    return path, f"{before}{begin}\n{table}\n{end}{after}"
