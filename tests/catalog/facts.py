# SPDX-License-Identifier: Apache-2.0
"""What the resolver would write of each model, by the loader's own functions from what is published. Pure."""

import json
from collections.abc import Mapping
from math import prod
from typing import Any, Final

from nimblet_egress.errors import SourceError
from nimblet_loader import selection
from nimblet_loader.contract import HeaderFacts, Source, encode
from nimblet_loader.modelfacts import Repository, repository_facts
from nimblet_loader.safetensors import BITS, SafetensorsHeader, Tensor
from tests.catalog.gguf import TOKEN_BYTES, gguf_facts
from tests.catalog.record import GGUF, Entry

NOT_RESOLVED: Final = "as-published"
"""Stands for the commit: these facts were written without asking the hub."""
_BESIDE: Final = 20_000_000
"""Bytes assumed of tokenizer and configuration beside safetensors: the largest are Gemma's 17 MB."""


def plain_facts(entry: Entry, **config: object) -> HeaderFacts:
    """Return what the loader tells of a repository with the model's config.json and tensors.

    SourceError where it would load none of it.
    """
    texts: Mapping[str, Mapping[str, object]] = {"config.json": {**entry.config, **config}, **entry.texts}
    raw = {name: json.dumps(text).encode() for name, text in texts.items()}
    return repository_facts(Repository("", [_header(entry)], raw, frozenset(raw)))


def _header(entry: Entry) -> SafetensorsHeader:
    tensors, end = [], 0
    for name, (dtype, sizes) in entry.tensors.items():
        start, end = end, end + prod(sizes) * BITS[dtype] // 8
        tensors.append(Tensor(name, dtype, sizes, start, end))
    return SafetensorsHeader(tuple(tensors), {}, 0, end)


def refusal(entry: Entry) -> SourceError | None:
    """Return why the loader takes nothing of the repository; None where it takes a model."""
    if not entry.listing:
        return None
    offered = [selection.Entry(path, None, None) for path in entry.listing]
    try:
        selection.choose(offered, Source(version=1, uri=f"hf://{entry.repository}"))
    except SourceError as error:
        return error
    return None


def artifacts(entry: Entry) -> dict[str, dict[str, Any]]:
    """Return the resolver's result by the name of each CompactModel that has one."""
    found = {}
    if entry.gguf is not None:
        found[names(entry)[0]] = _of_gguf(entry, entry.gguf)
    if entry.repository and not entry.listing:
        found[names(entry)[-1]] = _of_safetensors(entry)
    return found


def names(entry: Entry) -> tuple[str, ...]:
    """Return the names of the entry's CompactModels: of the GGUF file, and of the safetensors beside it."""
    name = entry.name.replace(".", "-")
    return (name, f"{name}-safetensors") if entry.gguf is not None and entry.repository else (name,)


def uri_of(repository: str) -> str:
    """Return a repository as a source names it: at the hub, unless it says otherwise."""
    return repository if "://" in repository else f"hf://{repository}"


def _of_gguf(entry: Entry, gguf: GGUF) -> dict[str, Any]:
    facts = gguf_facts(entry, gguf, known_facts(entry))
    size = gguf.size.value if gguf.size is not None else facts.tensor_bytes + TOKEN_BYTES * (facts.vocab_size or 0)
    name = f"{gguf.repository.rpartition('/')[2].removesuffix('-GGUF')}.{gguf.quantization}.gguf"
    return _artifact(gguf.repository, "GGUF", facts, [{"path": name, "size": max(size, facts.tensor_bytes)}])


def _of_safetensors(entry: Entry) -> dict[str, Any]:
    facts = plain_facts(entry)
    files = [
        {"path": "config.json", "size": 1000},
        {"path": "model.safetensors", "size": facts.tensor_bytes},
        {"path": "tokenizer.json", "size": _BESIDE},
    ]
    return _artifact(entry.repository, "Safetensors", facts, files)


def known_facts(entry: Entry) -> HeaderFacts:
    """Return the facts of config.json, whether or not a server would load the repository that it is of."""
    plain = {key: value for key, value in entry.config.items() if key != "auto_map"}
    return plain_facts(Entry(**{**vars(entry), "config": plain}))


def _artifact(repository: str, format_: str, facts: HeaderFacts, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": 1,
        "uri": uri_of(repository),
        "commit": NOT_RESOLVED,
        "digestSource": "None",
        "format": format_,
        "files": files,
        "header": json.loads(encode(facts)),
    }
