# SPDX-License-Identifier: Apache-2.0
"""Requests about CompactModels that the CRD tests share. Only for tests."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from e2e.cluster.api import Api, field, has_condition, items
from nimblet import labels

ROOT = Path(__file__).parents[2]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DRY_RUN = "dryRun=All&fieldValidation=Strict"
ESTABLISHED_SECONDS = 60.0

Object = dict[str, object]


def models_in(namespace: str) -> str:
    """Return the path of a namespace's CompactModels."""
    return f"/apis/{labels.API_VERSION}/namespaces/{namespace}/compactmodels"


def read_manifest(path: Path) -> Object:
    """Return the one object of a YAML file."""
    # definitions are long: the parser in C takes a tenth of the time
    loaded: object = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    assert isinstance(loaded, dict)
    return loaded


def model_manifest(spec: object, *, name: str = "sample") -> Object:
    """Return a CompactModel with any spec, a wrong one too."""
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "CompactModel",
        "metadata": {"name": name},
        "spec": spec,
    }


def valid_spec(**fields: object) -> Object:
    """Return the smallest valid spec with `fields` set."""
    return {"source": {"uri": "hf://org/repo"}, **fields}


def install(api: Api, manifest: Mapping[str, object]) -> Object:
    """Create a definition strictly and return it once it is Established and served."""
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    path = f"{CRDS}/{metadata['name']}"
    api.create(f"{CRDS}?fieldValidation=Strict", manifest)
    established = api.wait_for(
        path,
        lambda found: has_condition(found, "Established"),
        seconds=ESTABLISHED_SECONDS,
        what=f"{metadata['name']} Established",
    )
    # who serves it reads that condition from a cache
    group, plural = field(established, "spec", "group"), field(established, "spec", "names", "plural")
    version = field(items(established, "spec", "versions")[0], "name")
    served = f"/apis/{group}/{version}/{plural}"
    api.wait_for(served, lambda _: True, seconds=ESTABLISHED_SECONDS, what=f"{metadata['name']} served")
    return established


def install_all(api: Api) -> None:
    """Install every committed definition."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        install(api, read_manifest(path))


def deep_copy(value: Object) -> Object:
    """Return a copy made of plain JSON values."""
    copied: Object = json.loads(json.dumps(value))
    return copied
