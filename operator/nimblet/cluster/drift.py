# SPDX-License-Identifier: Apache-2.0
"""Where a live object differs from the manifest we rendered. Pure; looks at rendered leaves only.

What others added (fields, list items, defaults) is no drift. Paths are written as the API server writes them in
its conflicts: `.spec.containers[name="server"].image`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nimblet.quantity import decimal_of

MISSING: Final = "<missing>"
"""Stands for a value that the live object lacks."""

LIST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""List field → keys of its items, from the x-kubernetes-list-map-keys of Kubernetes' own schema."""
CONTAINER_PORT_KEYS: Final = ("containerPort", "protocol")
SERVICE_PORT_KEYS: Final = ("port", "protocol")
SERVICE_PORTS: Final = ".spec.ports"
KEY_DEFAULTS: Final[Mapping[str, object]] = {"protocol": "TCP"}
"""Defaults of list keys, in the same schema."""

QUANTITY_PARENTS: Final = frozenset({"limits", "requests"})
QUANTITY_FIELDS: Final = frozenset({"sizeLimit", "divisor"})
"""Where a string is a quantity and may come back in another notation of the same value."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One rendered leaf that the live object lacks or holds with another value."""

    path: str
    expected: object
    found: object


def drift(rendered: Mapping[str, object], live: Mapping[str, object]) -> tuple[Drift, ...]:
    """Return where `live` differs from `rendered`, in the manifest's order; empty when nothing does."""
    return tuple(_compare_maps("", rendered, live))


def _agrees(expected: object, found: object) -> bool:
    """Tell at once where every leaf surely is the same, which is nearly always; False says nothing."""
    kind = type(expected)
    if kind is not type(found):
        return False
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(key in found and _agrees(value, found[key]) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(_agrees, expected, found))
    return expected == found


def _compare(path: str, expected: object, found: object) -> Iterator[Drift]:
    if _agrees(expected, found):
        return
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        yield from _compare_maps(path, expected, found)
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        yield from _compare_lists(path, expected, found)
    elif not _same_leaf(path, expected, found):
        yield Drift(path=path, expected=expected, found=found)


def _compare_maps(path: str, expected: Mapping[str, object], found: Mapping[str, object]) -> Iterator[Drift]:
    for key, value in expected.items():
        if key in found:
            yield from _compare(f"{path}.{key}", value, found[key])
        elif not _says_nothing(value):
            yield Drift(path=f"{path}.{key}", expected=value, found=MISSING)


def _compare_lists(path: str, expected: Sequence[object], found: Sequence[object]) -> Iterator[Drift]:
    keys = _keys_of(path, expected)
    if not keys:
        yield from _compare_atomic(path, expected, found)
        return
    by_key = {_key(item, keys): item for item in found if isinstance(item, Mapping)}
    for item in expected:
        if not isinstance(item, Mapping):
            continue
        key = _key(item, keys)
        item_path = path + _key_text(keys, key)
        if key not in by_key:
            yield Drift(path=item_path, expected=item, found=MISSING)
        else:
            yield from _compare_maps(item_path, item, by_key[key])


def _compare_atomic(path: str, expected: Sequence[object], found: Sequence[object]) -> Iterator[Drift]:
    """Compare lists that have one owner as a whole: length and order count."""
    if len(expected) != len(found):
        yield Drift(path=path, expected=list(expected), found=list(found))
        return
    for index, (mine, theirs) in enumerate(zip(expected, found, strict=True)):
        yield from _compare(f"{path}[{index}]", mine, theirs)


def _keys_of(path: str, items: Sequence[object]) -> tuple[str, ...]:
    """Return the merge keys of the list at `path`; empty when it is atomic."""
    if not items or not all(isinstance(item, Mapping) for item in items):
        return ()
    field = path.rpartition(".")[2]
    if field != "ports":
        return LIST_KEYS.get(field, ())
    if path == SERVICE_PORTS:
        return SERVICE_PORT_KEYS
    first = items[0]
    return CONTAINER_PORT_KEYS if isinstance(first, Mapping) and "containerPort" in first else ()


def _key(item: Mapping[str, object], keys: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(item.get(key, KEY_DEFAULTS.get(key)) for key in keys)


def _key_text(keys: tuple[str, ...], values: tuple[object, ...]) -> str:
    pairs = ",".join(f"{key}={json.dumps(value)}" for key, value in zip(keys, values, strict=True))
    return f"[{pairs}]"


def _says_nothing(value: object) -> bool:
    """Tell whether a rendered value is the same as none at all: null and the empty list."""
    return value is None or (isinstance(value, list | tuple) and not value)


def _same_leaf(path: str, expected: object, found: object) -> bool:
    if isinstance(expected, bool) != isinstance(found, bool):
        return False  # in Python True equals 1
    if expected == found:
        return True
    return _is_quantity(path) and _same_quantity(expected, found)


def _is_quantity(path: str) -> bool:
    *_, parent, field = ("", *path.split("."))
    # an extended resource's name may itself hold dots: .limits.nvidia.com/gpu
    return field in QUANTITY_FIELDS or parent in QUANTITY_PARENTS or ".limits." in path or ".requests." in path


def _same_quantity(expected: object, found: object) -> bool:
    try:
        return decimal_of(str(expected)) == decimal_of(str(found))
    except ValueError:
        return False
