# SPDX-License-Identifier: Apache-2.0
"""A GGUF file's facts as the operator gets them: read by the loader's code, and carried over as its result is."""

from pathlib import Path
from typing import Final

from nimblet.plan.artifact import Header
from nimblet_loader.contract import HeaderFacts
from nimblet_loader.facts import header_facts
from nimblet_loader.gguf import GGUFHeader, parse_header

_CHUNK_BYTES: Final = 1 << 20


def parsed(path: Path) -> tuple[GGUFHeader, int]:
    """Return a file's header and its size."""
    with path.open("rb") as source:
        return parse_header(iter(lambda: source.read(_CHUNK_BYTES), b"")), path.stat().st_size


def header_of(facts: HeaderFacts) -> Header:
    """Return the loader's facts as the operator reads them."""
    return Header.model_validate_json(facts.model_dump_json(by_alias=True))


def read_model_header(model: Path) -> Header:
    """Return the facts of a model's file as the operator gets them from the resolver."""
    return header_of(header_facts(model.name, [parsed(model)]))
