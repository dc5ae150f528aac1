# SPDX-License-Identifier: Apache-2.0
"""The table of policy and pool, in docs/tee.md."""

from pathlib import Path
from typing import Final

from tests.teepools import table

OUTPUT: Final = Path(__file__).parents[2] / "docs" / "tee.md"
BEGIN: Final = "<!-- placements: `make gen` writes this table from tests/teepools.py -->\n"
END: Final = "<!-- end of placements -->\n"


def text() -> str:
    """Return the document with the table as the plan gives it."""
    before, begin, rest = OUTPUT.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in {OUTPUT.name}; put them back")
    return f"{before}{begin}\n{table()}\n{end}{after}"
