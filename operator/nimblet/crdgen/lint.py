# SPDX-License-Identifier: Apache-2.0
"""Our own rules for a schema, beyond what the API server enforces. Pure; returns problems, never fixes."""

from collections.abc import Iterator
from typing import Final

from pydantic.config import JsonDict

from nimblet.crdgen.node import Place, as_object, children

FORBIDDEN: Final = frozenset(
    {
        "$ref",
        "$defs",
        "anyOf",
        "oneOf",
        "allOf",
        "const",
        "title",
        "nullable",
        "patternProperties",
        "propertyNames",
    }
)
"""Keywords that are no part of a structural schema, or that we never need in one."""
BOUNDS: Final = {"string": ("enum", "maxLength"), "array": ("maxItems",), "object": ("maxProperties",)}
"""What ends a value of each type; without an end CEL's cost can't be estimated and a request can fill etcd."""


def schema_problems(schema: JsonDict) -> list[str]:
    """Return what is wrong with the schema of a whole resource, one line each: `path: expected …`."""
    halves = as_object(schema["properties"])
    found = list(_node(as_object(halves["spec"]), path="spec", bounded=True))
    if "status" in halves:
        found.extend(_node(as_object(halves["status"]), path="status", bounded=False))
    return found


def _node(node: JsonDict, *, path: str, bounded: bool) -> Iterator[str]:
    for keyword in sorted(FORBIDDEN & node.keys()):
        yield f"{path}: expected no {keyword}"
    kind = node.get("type")
    if kind not in {"string", "integer", "number", "boolean", "array", "object"}:
        yield f"{path}: expected one type, found {kind!r}"
    if kind == "object" and "properties" not in node and "additionalProperties" not in node:
        yield f"{path}: expected properties or the type of a map's values"
    if kind == "array" and "x-kubernetes-list-type" not in node:
        yield f"{path}: expected x-kubernetes-list-type, so that server-side apply knows how to merge"
    if not bounded and "default" in node:
        yield f"{path}: expected no default in a status"
    if bounded:
        yield from _bounds(node, path=path)
    for place, child in children(node):
        below = _below(path, place)
        if place[0] == "properties" and not child.get("description"):
            yield f"{below}: expected a description"
        yield from _node(child, path=below, bounded=bounded)


def _bounds(node: JsonDict, *, path: str) -> Iterator[str]:
    kind = str(node.get("type"))
    if kind == "object" and "properties" in node:
        return
    wanted = BOUNDS.get(kind, ())
    if wanted and not any(keyword in node for keyword in wanted):
        yield f"{path}: expected {' or '.join(wanted)}"
    if kind in {"integer", "number"} and not {"minimum", "maximum"} <= node.keys():
        yield f"{path}: expected minimum and maximum"


def _below(path: str, place: Place) -> str:
    keyword, key = place
    if keyword == "properties":
        return f"{path}.{key}"
    return f"{path}[]" if keyword == "items" else f"{path}.{keyword}"
