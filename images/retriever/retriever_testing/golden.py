# SPDX-License-Identifier: Apache-2.0
"""Twenty small documents and a golden question on each: enough to calibrate by."""

from typing import Final

THINGS: Final = ("pump", "valve", "filter", "motor", "crane", "boiler", "kettle", "ladder", "winch", "anchor")
COLOURS: Final = ("red", "blue")


def _text(thing: str, colour: str) -> str:
    return f"The {colour} {thing} stands in hall {thing[0]}{colour[0]}."


PAINTED: Final[tuple[dict[str, object], ...]] = tuple(
    {"document": f"{thing}-{colour}", "text": _text(thing, colour), "access": ["public"]}
    for thing in THINGS
    for colour in COLOURS
)
ASK_PAINTED: Final[tuple[dict[str, object], ...]] = tuple(
    {
        "id": f"{thing}-{colour}",
        "question": f"In which hall stands the {colour} {thing}?",
        "document": f"{thing}-{colour}",
        "quote": f"hall {thing[0]}{colour[0]}",
    }
    for thing in THINGS
    for colour in COLOURS
)
