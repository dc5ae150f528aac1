# SPDX-License-Identifier: Apache-2.0
"""One node of a JSON Schema: its children, and typed access to its values. Knows no transform."""

from collections.abc import Iterable, Iterator
from typing import Final

from pydantic.config import JsonDict, JsonValue

Place = tuple[str, str | int | None]
"""Where a child hangs: the keyword, and its name or index below that keyword."""

MAPS: Final = ("properties", "patternProperties")
SINGLES: Final = ("items", "additionalProperties")
LISTS: Final = ("anyOf", "oneOf", "allOf")


class SchemaError(Exception):
    """A model says something that a structural schema can't say."""


def as_object(value: object) -> JsonDict:
    """Return `value` when it is an object, else raise SchemaError."""
    if not isinstance(value, dict):
        raise SchemaError(f"expected an object in the schema, found {value!r}")
    return value


def as_list(value: object) -> list[JsonValue]:
    """Return `value` when it is a list, else raise SchemaError."""
    if not isinstance(value, list):
        raise SchemaError(f"expected a list in the schema, found {value!r}")
    return value


def texts(value: object) -> frozenset[str]:
    """Return the strings of a list."""
    return frozenset(str(item) for item in as_list(value))


def children(node: JsonDict) -> Iterator[tuple[Place, JsonDict]]:
    """Yield every schema directly below `node`, with its place."""
    for keyword in MAPS:
        for name, child in as_object(node.get(keyword, {})).items():
            yield (keyword, name), as_object(child)
    for keyword in SINGLES:
        child = node.get(keyword)
        if isinstance(child, dict):
            yield (keyword, None), child
    for keyword in LISTS:
        for index, child in enumerate(as_list(node.get(keyword, []))):
            yield (keyword, index), as_object(child)


def with_children(node: JsonDict, replaced: Iterable[tuple[Place, JsonDict]]) -> JsonDict:
    """Return `node` with the children at the given places replaced."""
    done = dict(node)
    for (keyword, key), child in replaced:
        if key is None:
            done[keyword] = child
        elif isinstance(key, int):
            items = list(as_list(done[keyword]))
            items[key] = child
            done[keyword] = items
        else:
            done[keyword] = as_object(done[keyword]) | {key: child}
    return done
