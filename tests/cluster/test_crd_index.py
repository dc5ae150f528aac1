# SPDX-License-Identifier: Apache-2.0
"""The definition of RetrievalIndex on a real API server: samples pass, and what the parser refuses is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ApiError
from nimblet import labels
from nimblet.api.retrievalindex import RetrievalIndexSpec
from nimblet.cluster.parse import InvalidIndex, parse_retrievalindex
from tests.cluster.crd_support import DRY_RUN, ROOT, read_manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
SAMPLES = sorted((ROOT / "samples").glob("retrievalindex-*.yaml"))
PATH = f"/apis/{labels.API_VERSION}/namespaces/default/retrievalindexes"
DOCS: Mapping[str, object] = {"name": "docs", "configMap": {"name": "handbook"}}
MODEL: Mapping[str, object] = {"modelRef": {"name": "minilm"}}
GOOD: Mapping[str, object] = {"embedding": MODEL, "sources": [DOCS]}
BAD: Mapping[str, Mapping[str, object]] = {
    "two kinds of source": {"sources": [{**DOCS, "pvc": {"claimName": "a"}}]},
    "no kind of source": {"sources": [{"name": "docs"}]},
    "no source": {"sources": []},
    "a source named twice": {"sources": [DOCS, DOCS]},
    "two embeddings": {"embedding": {**MODEL, "url": "https://a.example/v1", "model": "m"}},
    "a url without a model": {"embedding": {"url": "https://a.example/v1"}},
    "an external store without a url": {"store": {"type": "External"}},
    "a url of an embedded store": {"store": {"url": "https://a.example"}},
    "more copies than servers": {"store": {"type": "Dedicated", "dedicated": {"replicationFactor": 2}}},
    "bounds of an embedded store elsewhere": {"store": {"type": "Dedicated", "embedded": {"reserve": "1Gi"}}},
    "sizes of servers of an embedded store": {"resources": {"qdrant": {"memory": "4Gi"}}},
    "overlap as long as a passage": {"chunking": {"tokens": 32, "overlap": 32}},
    "a lag without a schedule": {"freshness": {"maxLag": "1h"}},
    "a pin that is no generation": {"generation": "latest"},
    "a web source with both lists": {
        "sources": [{"name": "s", "web": {"sitemap": "https://a.example/s", "urls": ["https://a.example/"]}}]
    },
}


def manifest(spec: Mapping[str, object]) -> dict[str, object]:
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "RetrievalIndex",
        "metadata": {"name": "sample"},
        "spec": {**GOOD, **spec},
    }


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_pass_strictly_and_parse(control_plane: ControlPlane, path: Path) -> None:
    sample = read_manifest(path)
    stored = control_plane.api.create(f"{PATH}?{DRY_RUN}", sample)
    given = RetrievalIndexSpec.model_validate(sample["spec"], by_alias=True, by_name=False)
    assert RetrievalIndexSpec.model_validate(stored["spec"]) == given


@pytest.mark.parametrize("spec", BAD.values(), ids=BAD.keys())
def test_what_the_parser_refuses_is_refused_by_the_server(
    control_plane: ControlPlane, spec: Mapping[str, object]
) -> None:
    assert isinstance(parse_retrievalindex(manifest(spec)), InvalidIndex)
    with pytest.raises(ApiError):
        control_plane.api.create(f"{PATH}?{DRY_RUN}", manifest(spec))


def test_type_of_the_store_can_not_be_changed(control_plane: ControlPlane) -> None:
    api = control_plane.api
    external = {"type": "External", "url": "https://qdrant.example"}
    api.create(PATH, {**manifest({}), "metadata": {"name": "fixed"}})
    try:
        found: Any = api.get(f"{PATH}/fixed")
        with pytest.raises(ApiError, match="make a new RetrievalIndex and switch to it"):
            api.replace(f"{PATH}/fixed", {**found, "spec": {**found["spec"], "store": external}})
    finally:
        api.delete(f"{PATH}/fixed")
