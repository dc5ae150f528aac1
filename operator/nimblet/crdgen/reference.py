# SPDX-License-Identifier: Apache-2.0
"""Writes docs/api.md from the same schemas as the CRDs. Returns a text; writes no file."""

import json
from collections.abc import Iterable, Iterator
from typing import Final

from pydantic.config import JsonDict

from nimblet import labels
from nimblet.crdgen.crd import Kind, resource_schema
from nimblet.crdgen.node import as_list, as_object, texts

INTRODUCTION: Final = (
    "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
    "<!-- Generated from operator/nimblet/api by `make gen`: edit the models, not this file. -->\n\n"
    "# API reference\n\n"
    f"Group `{labels.GROUP}`, version `{labels.VERSION}`. An absent field and `null` mean the same. "
    "Unknown fields are refused by strict clients (`kubectl` is one) and pruned otherwise.\n"
)


def reference_text(kinds: Iterable[Kind]) -> str:
    """Return the reference of all kinds, as Markdown."""
    return INTRODUCTION + "".join(_kind(kind) for kind in kinds)


def _kind(kind: Kind) -> str:
    definition = kind.definition
    schema = resource_schema(kind)
    properties = as_object(schema["properties"])
    scope = "namespaced" if definition.namespaced else "cluster-wide"
    names = ", ".join(f"`{name}`" for name in (definition.plural, *definition.short_names))
    scaled = f" `kubectl scale` and autoscalers use `{labels.GROUP}`'s `/scale`." if definition.scale else ""
    lines = [
        f"\n## {definition.kind}\n",
        f"\n{definition.description} It is {scope}; `kubectl get` knows it as {names}.{scaled}\n",
        *_rules(schema),
    ]
    for half in ("spec", "status"):
        lines.extend(_tables(half, as_object(properties[half])))
    return "".join(lines)


def _tables(path: str, schema: JsonDict) -> Iterator[str]:
    yield f"\n### {path}\n\n{schema.get('description', '')}\n"
    yield from _rules(schema)
    properties = as_object(schema.get("properties", {}))
    required = texts(schema.get("required", []))
    yield "\n| field | type | default | meaning |\n|---|---|---|---|\n"
    for name, value in properties.items():
        yield _row(name, as_object(value), required=name in required)
    for name, value in properties.items():
        inner, suffix = _inner(as_object(value))
        if "properties" in inner:
            yield from _tables(f"{path}.{name}{suffix}", inner)


def _inner(node: JsonDict) -> tuple[JsonDict, str]:
    if node.get("type") == "array":
        return as_object(node["items"]), "[]"
    return node, ""


def _row(name: str, node: JsonDict, *, required: bool) -> str:
    default = "required" if required else _default(node)
    cells = (f"`{name}`", _type(node), default, str(node.get("description", "")))
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _default(node: JsonDict) -> str:
    if node.get("default") in (None, {}):
        return ""
    return f"`{json.dumps(node['default'])}`"


def _type(node: JsonDict) -> str:
    if node.get("type") == "array":
        return f"list of {_type(as_object(node['items']))}{_count(node, 'Items')}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"map to {_type(as_object(node['additionalProperties']))}{_count(node, 'Properties')}"
    if "enum" in node:
        return " or ".join(f"`{option}`" for option in as_list(node["enum"]))
    return _scalar(node, kind=str(node.get("type")))


def _scalar(node: JsonDict, *, kind: str) -> str:
    if kind == "string":
        pattern = f"`{node['pattern']}`" if "pattern" in node else ""
        return str(node.get("format", f"{kind} {pattern}".strip()))
    if "minimum" in node or "maximum" in node:
        return f"{kind}, {node.get('minimum', '')}…{node.get('maximum', '')}"
    return kind


def _count(node: JsonDict, what: str) -> str:
    most = node.get(f"max{what}")
    return "" if most is None else f", at most {most}"


def _rules(schema: JsonDict) -> Iterator[str]:
    rules = [as_object(rule) for rule in as_list(schema.get("x-kubernetes-validations", []))]
    if rules:
        yield "\nRules:\n\n"
    for rule in rules:
        yield f"- {rule['message']}\n"
