# SPDX-License-Identifier: Apache-2.0
"""Renders the chart with the real helm. Only for tests; helm comes from the test clusters' tools."""

import copy
import functools
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from e2e.cluster import toolchain
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress
from e2e.cluster.tools import HELM

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "nimblet"
RELEASE = "nimblet"
NAMESPACE = "nimblet-system"
KUBERNETES_VERSION = "v1.35.4"

Object = dict[str, object]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm and return what came of it."""
    cache = cache_of(os.environ)
    toolchain.ensure((HELM,), cache=cache, progress=Progress())
    return subprocess.run([HELM.path(cache), *arguments], capture_output=True, text=True, check=False, timeout=60)


def render(*, sets: Sequence[str] = (), chart: Path = CHART) -> list[Object]:
    """Return the objects of a release with `sets` (`key=<JSON>`) over the default values, as the caller's own."""
    return copy.deepcopy(_rendered(tuple(sets), chart))


@functools.cache
def _rendered(sets: tuple[str, ...], chart: Path) -> list[Object]:
    done = helm(*template_argv(sets=sets, chart=chart))
    assert done.returncode == 0, done.stderr
    # CRDs are long: the parser in C takes a tenth of the time
    return [document for document in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if document is not None]


def template_argv(*, sets: Sequence[str], chart: Path = CHART) -> tuple[str, ...]:
    """Return the arguments that render the chart."""
    options = [option for value in sets for option in ("--set-json", value)]
    return (
        "template",
        RELEASE,
        str(chart),
        "--namespace",
        NAMESPACE,
        "--kube-version",
        KUBERNETES_VERSION,
        *options,
    )


def at(value: object, *path: str) -> object:
    """Return what stands at `path` in nested objects; KeyError where it ends early."""
    for key in path:
        if not isinstance(value, dict):
            raise KeyError(f"expected an object that holds {key!r}, found {value!r}")
        value = value[key]
    return value


def of_kind(objects: Iterable[Object], *kinds: str) -> Iterator[Object]:
    """Yield the objects of some kinds."""
    return (item for item in objects if item["kind"] in kinds)


def only(objects: Iterable[Object], kind: str) -> Object:
    """Return the one object of a kind."""
    (found,) = of_kind(objects, kind)
    return found
