# SPDX-License-Identifier: Apache-2.0
"""Which file gets which generated text. Pure: `__main__` writes or compares."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nimblet import labels
from nimblet.crdgen.crd import KINDS, Kind, crd_manifest
from nimblet.crdgen.reference import reference_text
from nimblet.crdgen.text import chart_crd_text, crd_text

MAX_CRD_BYTES: Final = 200_000
"""Client-side apply keeps a copy in an annotation, and annotations end at 262144 bytes."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the generated files lie, below the root of the repository."""

    crds: Path = Path("crds")
    chart: Path = Path("charts/nimblet/templates/crds")
    reference: Path = Path("docs/api.md")


def crd_file(kind: Kind) -> str:
    """Return the file name of a kind's definition."""
    return f"{labels.GROUP}_{kind.definition.plural}.yaml"


def generate(places: Places, *, kinds: Iterable[Kind] = KINDS) -> Mapping[Path, str]:
    """Return every generated file and its text; raise ValueError where a definition grew too large."""
    files: dict[Path, str] = {}
    listed = tuple(kinds)
    for kind in listed:
        manifest = crd_manifest(kind)
        name = crd_file(kind)
        files[places.crds / name] = crd_text(manifest)
        files[places.chart / name] = chart_crd_text(manifest)
        size = len(files[places.chart / name].encode())
        if size >= MAX_CRD_BYTES:
            raise ValueError(f"{name}: expected < {MAX_CRD_BYTES} bytes, found {size}; shorten descriptions")
    files[places.reference] = reference_text(listed)
    return files


def stale_files(files: Mapping[Path, str]) -> list[Path]:
    """Return the files whose content on disk is not the generated one."""
    return [path for path, text in files.items() if not path.is_file() or path.read_bytes() != text.encode()]
