# SPDX-License-Identifier: Apache-2.0
"""Which resources of ours a resource of ours names: they are planned again when those change. Pure.

Read from the raw spec, since a reference counts also where the rest of the spec does not parse.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from nimblet.cluster.key import Key
from nimblet.cluster.observed import metadata_of
from nimblet.cluster.trim import Object

Path = tuple[str, ...]

REFERENCES: Final[Mapping[str, Mapping[Path, str]]] = {
    "RetrievalIndex": {
        ("embedding", "modelRef", "name"): "CompactModel",
        ("search", "rerankerRef", "name"): "CompactModel",
    },
    "Assistant": {
        ("modelRef", "name"): "CompactModel",
        ("guardRef", "name"): "CompactModel",
        ("fallback", "modelRef", "name"): "CompactModel",
        ("indexRefs", "name"): "RetrievalIndex",
    },
}
"""Kind → where in its spec a name stands → of which kind. A list on the way means each of its items."""


def references_of(kind: str, body: Object) -> frozenset[Key]:
    """Return the resources that an object names; all are in its own namespace."""
    namespace = metadata_of(body).namespace
    return frozenset(
        Key(named, namespace, name)
        for path, named in REFERENCES.get(kind, {}).items()
        for name in _texts(body.get("spec"), path)
    )


def _texts(value: object, path: Path) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
    elif not path:
        if isinstance(value, str):
            yield value
    elif isinstance(value, Mapping):
        yield from _texts(value.get(path[0]), path[1:])
