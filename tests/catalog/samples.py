# SPDX-License-Identifier: Apache-2.0
"""The catalogue's files: samples/catalog/<name>.yaml with its CompactModels, facts/<name>.json beside. Pure."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from nimblet.labels import API_VERSION
from tests.catalog.entries import ENTRIES
from tests.catalog.facts import artifacts, names, uri_of
from tests.catalog.record import Entry, Figure

CATALOG: Final = Path(__file__).parents[2] / "samples" / "catalog"
_WIDTH: Final = 112
_LARGE: Final = 6_000_000_000
"""Parameters from which one request at a time is asked of a CPU: each costs cores."""


def generate() -> Iterator[tuple[Path, str]]:
    """Return every file and its text."""
    for entry in ENTRIES:
        yield CATALOG / f"{entry.name}.yaml", _sample(entry)
        if not entry.listing:
            yield CATALOG / "facts" / f"{entry.name}.json", _facts(entry)


def _facts(entry: Entry) -> str:
    document: dict[str, Any] = {"about": _about(entry), "artifacts": artifacts(entry)}
    if entry.gated:
        document["secret"] = {"hosts": ["huggingface.co"], "keys": ["token"]}
    return json.dumps(document, indent=1) + "\n"


def _about(entry: Entry) -> dict[str, str]:
    """Return who says what."""
    figures = {"parameters": entry.parameters, "safetensors bytes": entry.size}
    if entry.gguf is not None:
        figures[f"{entry.gguf.quantization} file bytes"] = entry.gguf.size
    told = {key: _told(figure) for key, figure in figures.items() if figure is not None}
    return {
        "title": entry.title,
        "licence": entry.licence,
        "gated": "the hub asks for an account that accepted the licence" if entry.gated else "no",
        "shape": f"config.json of {entry.config_source}",
        **told,
    }


def _told(figure: Figure) -> str:
    rounded = "" if not figure.within else " (rounded there)"
    return f"{figure.value} by {figure.source}{rounded}"


def billions(entry: Entry) -> str:
    """Return the parameters in billions, or in millions where they are few."""
    value = entry.parameters.value
    return f"{value / 1e9:.2f}B" if value > 0.95e9 else f"{value / 1e6:.0f}M"


def _sample(entry: Entry) -> str:
    gated = " Gated: the hub asks for an account that accepted it." if entry.gated else ""
    about = f"{entry.title}, {billions(entry)} parameters. Licence: {entry.licence}.{gated}"
    lines = ["SPDX-License-Identifier: Apache-2.0", *textwrap.wrap(about, _WIDTH)]
    lines += textwrap.wrap(entry.note, _WIDTH)
    lines += ["Written by `make gen` from tests/catalog; docs/catalog.md shows where it fits.", ""]
    lines += _command(entry)
    head = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    body = "---\n".join(yaml.safe_dump(document, sort_keys=False) for document in documents(entry))
    return head + body


def _command(entry: Entry) -> list[str]:
    if entry.listing:
        return [f"  kubectl apply -f samples/catalog/{entry.name}.yaml   # the resolver says UnsafeFormat"]
    facts = f"--facts samples/catalog/facts/{entry.name}.json --facts samples/catalog/nodes/cpu.yaml"
    return [f"  nimblet plan -f samples/catalog/{entry.name}.yaml \\", f"    {facts}"]


def documents(entry: Entry) -> list[dict[str, Any]]:
    """Return the CompactModels: of the GGUF file, and of the safetensors."""
    found = []
    if entry.gguf is not None:
        stored = entry.gguf.repository
        source: dict[str, Any] = {"uri": uri_of(stored)}
        if "://" not in stored:
            source["quantization"] = entry.gguf.quantization
        found.append(
            _document(entry, names(entry)[0], source, parallel=1 if entry.parameters.value >= _LARGE else 2)
        )
    if entry.repository:
        source = {"uri": f"hf://{entry.repository}"}
        if entry.gated:
            source["credentialsSecretRef"] = {"name": "hub-token"}
        found.append(_document(entry, names(entry)[-1], source, parallel=4))
    return found


def _document(entry: Entry, name: str, source: dict[str, Any], *, parallel: int) -> dict[str, Any]:
    longest = min(entry.context or 2048, 512 if entry.task != "Chat" else 8192)
    spec: dict[str, Any] = {"source": source}
    if entry.task != "Chat":
        spec["task"] = entry.task
    spec["runtime"] = {"contextLength": longest, "parallel": parallel}
    return {"apiVersion": API_VERSION, "kind": "CompactModel", "metadata": {"name": name}, "spec": spec}
