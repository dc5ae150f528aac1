# SPDX-License-Identifier: Apache-2.0
"""What is looked for of a Secret's value, in all forms in which it may stand somewhere. Pure; only for tests."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote

from pydantic import JsonValue, TypeAdapter, ValidationError

SHORTEST: Final = 12
"""Characters; shorter parts of a Secret are words (user names, labels) that stand elsewhere too."""
_WORD: Final = re.compile(rf"[^\s\"',]{{{SHORTEST},}}")
_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)


def words(text: str) -> frozenset[str]:
    """Return the parts of a Secret's value that nobody else may know; of JSON the values: keys may be hosts."""
    try:
        texts = list(_leaves(_JSON.validate_json(text)))
    except ValidationError:
        texts = [text]
    return frozenset(word for each in texts for word in _WORD.findall(each))


def _leaves(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, str):
        yield value


def forms(word: str) -> frozenset[str]:
    """Return how a word may stand in a text: as it is, quoted for a URL, and in base64 after 0, 1 or 2 bytes."""
    data = word.encode()
    return frozenset({word, quote(word, safe=""), *(_inside(data, offset) for offset in range(3))})


def _inside(data: bytes, offset: int) -> str:
    """Return the base64 that `data` has after so many other bytes, whatever comes before and after it."""
    whole = (offset + len(data)) // 3 * 3
    encoded = base64.b64encode((bytes(offset) + data)[:whole]).decode()
    # of the first three bytes only what does not hang on the others
    return encoded[4 if offset else 0 :]


def spilled(needles: Mapping[str, str], places: Mapping[str, str]) -> list[str]:
    """Return which Secret's value stands in which place; `needles` maps what is looked for to where it is from."""
    found = {
        f"{where} in {place}" for place, text in places.items() for it, where in needles.items() if it in text
    }
    return sorted(found)
