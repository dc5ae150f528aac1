# SPDX-License-Identifier: Apache-2.0
"""Turns pydantic's JSON Schema into a structural OpenAPI v3 schema, by a chain of small pure transforms.

Each transform takes one schema node whose children are already done and returns a new node. What can't be
said in a structural schema raises SchemaError: a lossy CRD would accept what the parser refuses.
"""

import json
from collections.abc import Callable, Iterable
from typing import Final

from pydantic import BaseModel
from pydantic.config import JsonDict

from nimblet.crdgen.node import SchemaError, as_list, as_object, children, texts, with_children

Transform = Callable[[JsonDict], JsonDict]

INT32_MAX: Final = 2**31 - 1
DEFINITIONS: Final = "#/$defs/"


def model_schema(model: type[BaseModel], *, defaults: bool) -> JsonDict:
    """Return the structural schema of `model`.

    With `defaults` False no default is kept: nobody but us writes a status, and a default there would be a
    field without an owner.
    """
    raw = as_object(model.model_json_schema(by_alias=True, mode="validation"))
    schema = inline_refs(raw)
    for transform in TRANSFORMS:
        schema = everywhere(transform, schema)
    return schema if defaults else everywhere(drop_default, schema)


def everywhere(transform: Transform, schema: JsonDict) -> JsonDict:
    """Apply `transform` to every node of `schema`, children first."""
    done = [(path, everywhere(transform, child)) for path, child in children(schema)]
    return transform(with_children(schema, done))


def inline_refs(schema: JsonDict) -> JsonDict:
    """Put every definition where it is referred to; a recursive model raises SchemaError."""
    definitions = as_object(schema.get("$defs", {}))
    top = {key: value for key, value in schema.items() if key != "$defs"}
    return _inline(top, definitions=definitions, within=())


def _inline(node: JsonDict, *, definitions: JsonDict, within: tuple[str, ...]) -> JsonDict:
    reference = node.get("$ref")
    if not isinstance(reference, str):
        done = [(at, _inline(child, definitions=definitions, within=within)) for at, child in children(node)]
        return with_children(node, done)
    name = reference.removeprefix(DEFINITIONS)
    if name in within:
        raise SchemaError(f"expected a finite model, found that {name} contains itself: {' > '.join(within)}")
    target = _inline(as_object(definitions[name]), definitions=definitions, within=(*within, name))
    return target | {key: value for key, value in node.items() if key != "$ref"}


def drop_titles(node: JsonDict) -> JsonDict:
    """Titles repeat the field's name."""
    return {key: value for key, value in node.items() if key not in {"title", "discriminator"}}


def default_objects(node: JsonDict) -> JsonDict:
    """Give an object that is made when absent `default: {}`, so that the defaults inside it apply.

    Runs before `optional_null`, while a field that may be null is still told from one that is made.
    """
    if "properties" not in node:
        return node
    required = texts(node.get("required", []))
    properties = as_object(node["properties"])
    done: JsonDict = {
        name: _with_empty_default(as_object(value)) if name not in required else value
        for name, value in properties.items()
    }
    return node | {"properties": done}


def _with_empty_default(node: JsonDict) -> JsonDict:
    if node.get("type") != "object" or "default" in node:
        return node
    inner = as_object(node.get("properties", {}))
    defaults: JsonDict = {
        name: as_object(value)["default"]
        for name, value in inner.items()
        if as_object(value).get("default") is not None
    }
    if not defaults:
        return node
    # rules are tried on the default as it stands here, before those inside it apply
    return node | {"default": defaults if "x-kubernetes-validations" in node else {}}


def optional_null(node: JsonDict) -> JsonDict:
    """`T or null` becomes T: the API server treats null as absent. Any other union raises SchemaError."""
    if "anyOf" not in node and "oneOf" not in node:
        return {key: value for key, value in node.items() if key != "default" or value is not None}
    options = [as_object(option) for option in as_list(node.get("anyOf", []))]
    real = [option for option in options if option.get("type") != "null"]
    if "oneOf" in node or len(real) != 1 or len(options) != len(real) + 1:
        raise SchemaError(
            f"expected `T | None`, found a union in {json.dumps(node)[:200]}; "
            "use optional fields and a rule that exactly one is set"
        )
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return optional_null(real[0] | rest)


def const_to_enum(node: JsonDict) -> JsonDict:
    """OpenAPI 3.0 has no `const`."""
    if "const" not in node:
        return node
    rest = {key: value for key, value in node.items() if key != "const"}
    return rest | {"enum": [node["const"]]}


def exclusive_bounds(node: JsonDict) -> JsonDict:
    """OpenAPI 3.0 writes an exclusive bound as the bound and a flag."""
    done = dict(node)
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        value = done.get(flag)
        if isinstance(value, int | float) and not isinstance(value, bool):
            done[bound] = value
            done[flag] = True
    return done


def keyed_maps(node: JsonDict) -> JsonDict:
    """Turn a rule on a map's keys, which structural schemas lack, into a CEL rule; the values stay typed."""
    rest = {key: value for key, value in node.items() if key not in {"patternProperties", "propertyNames"}}
    patterns = as_object(node.get("patternProperties", {}))
    if len(patterns) > 1:
        raise SchemaError(f"expected one pattern for a map's keys, found {sorted(patterns)}")
    keys = as_object(node.get("propertyNames", {}))
    checks = []
    if "maxLength" in keys:
        checks.append(f"key.size() <= {keys['maxLength']}")
    pattern = next(iter(patterns), keys.get("pattern"))
    if isinstance(pattern, str):
        checks.append(f"key.matches({cel_text(pattern)})")
        rest |= {"additionalProperties": patterns[pattern]} if pattern in patterns else {}
    if not checks:
        return node
    longest = keys.get("maxLength", "any number of")
    rule: JsonDict = {
        "rule": f"self.all(key, {' && '.join(checks)})",
        "message": f"each key has at most {longest} characters and matches {pattern}",
    }
    return rest | {"x-kubernetes-validations": [*as_list(rest.get("x-kubernetes-validations", [])), rule]}


def cel_text(text: str) -> str:
    """Return `text` as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def open_objects(node: JsonDict) -> JsonDict:
    """Drop `additionalProperties: false`: the server prunes and, when strict, refuses unknown fields itself."""
    if isinstance(node.get("additionalProperties"), bool):
        return {key: value for key, value in node.items() if key != "additionalProperties"}
    return node


def integer_formats(node: JsonDict) -> JsonDict:
    """Name the width that holds the integer, for typed clients."""
    if node.get("type") != "integer" or "format" in node:
        return node
    maximum = node.get("maximum")
    small = isinstance(maximum, int) and maximum <= INT32_MAX
    return node | {"format": "int32" if small else "int64"}


def list_types(node: JsonDict) -> JsonDict:
    """A list without a marker is replaced as a whole by server-side apply: say so."""
    if node.get("type") != "array" or "x-kubernetes-list-type" in node:
        return node
    return node | {"x-kubernetes-list-type": "atomic"}


def drop_default(node: JsonDict) -> JsonDict:
    return {key: value for key, value in node.items() if key != "default"}


TRANSFORMS: Final[Iterable[Transform]] = (
    drop_titles,
    default_objects,
    optional_null,
    const_to_enum,
    exclusive_bounds,
    keyed_maps,
    open_objects,
    integer_formats,
    list_types,
)
