# SPDX-License-Identifier: Apache-2.0
"""Which characters a reader never sees although Unicode calls them letters or marks. Pure.

Control and format characters (category C) go in text.py. These are of other categories: fillers, joiners and
variation selectors, of which a run can carry any hidden text. Source: Unicode's Default_Ignorable_Code_Point, and
the blank of Braille, which has no dots.
"""

from typing import Final

_RANGES: Final = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)
IGNORABLE: Final = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))
