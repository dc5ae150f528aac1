# SPDX-License-Identifier: Apache-2.0
"""How generations are laid out on a server: what the request says, and that searches still find.

The client's local mode takes the settings and ignores them; what a server makes of them was not run.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nimblet_retriever.config import CollectionConfig, ServerConfig
from nimblet_retriever.store.chunk import Mode
from nimblet_retriever.store.server import ServerStore
from retriever_testing.process import serving
from retriever_testing.stores import DIMENSION, asked, chunk, found, manifest, sealed

pytestmark = [
    pytest.mark.asyncio,
    # the client's local mode says what it ignores: right, and nothing a store can change
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]
PUMP = chunk("pump", "The pump X200 runs at 45 bar.", angle=0.0)
VALVE = chunk("valve", "Close the valve before you clean the filter.", angle=1.0)
CLUSTER: Mapping[str, Any] = {"shards": 6, "replicationFactor": 3, "writeConsistencyFactor": 2}


@contextmanager
def server(asked_for: dict[str, Any]) -> Iterator[str]:
    """Serve what a Qdrant server answers while a build begins; note the collection that is asked for."""

    async def any_request(request: Request) -> Response:
        path = request.url.path
        if request.method == "GET" and path == "/collections":
            return answer({"collections": []})
        if request.method == "PUT" and path.count("/") == 2:
            asked_for.update(json.loads(await request.body()))
        return answer({"operation_id": 1, "status": "completed"} if path.endswith("/index") else True)

    def answer(result: object) -> Response:
        return JSONResponse({"result": result, "status": "ok", "time": 0.0})

    app = Starlette(routes=[Route("/{path:path}", any_request, methods=["GET", "PUT"])])
    with serving(app) as url:
        yield url


async def created(config: CollectionConfig | None) -> dict[str, Any]:
    """Return the request that makes a collection."""
    request: dict[str, Any] = {}
    with server(request) as url:
        store = ServerStore(AsyncQdrantClient(url=url, check_compatibility=False), prefix="uid", collection=config)
        await store.begin(manifest())
        await store.close()
    return request


def config(**fields: Any) -> CollectionConfig:
    return CollectionConfig.model_validate(fields)


async def test_parts_and_copies_are_asked_for() -> None:
    request = await created(config(**CLUSTER))
    assert (request["shard_number"], request["replication_factor"]) == (6, 3)
    assert request["write_consistency_factor"] == 2
    assert request["vectors"]["dense"]["size"] == DIMENSION
    assert request["vectors"]["dense"]["on_disk"] is False


async def test_vectors_on_disk_have_their_graph_and_words_there_too() -> None:
    request = await created(config(memory="OnDisk"))
    assert request["vectors"]["dense"]["on_disk"] is True
    assert request["vectors"]["dense"]["hnsw_config"]["on_disk"] is True
    assert request["sparse_vectors"]["lexical"]["index"]["on_disk"] is True
    assert "quantization_config" not in request


async def test_the_compressed_copy_is_in_memory_with_the_graph() -> None:
    request = await created(config(memory="OnDisk", quantization="Scalar"))
    scalar = {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}
    assert request["quantization_config"] == scalar
    assert request["vectors"]["dense"]["hnsw_config"]["on_disk"] is False
    binary = await created(config(quantization="Binary"))
    assert binary["quantization_config"]["binary"]["always_ram"] is True


async def test_nothing_is_asked_of_a_server_whose_layout_is_its_own() -> None:
    request = await created(None)
    # the manifest in the metadata aside
    assert set(request) == {"vectors", "sparse_vectors", "metadata"}
    assert set(request["vectors"]["dense"]) == {"size", "distance"}


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("quantization", ["None", "Scalar", "Binary"])
async def test_every_layout_finds_the_same(mode: Mode, quantization: str) -> None:
    laid_out = config(**CLUSTER, memory="OnDisk", quantization=quantization)
    store = ServerStore(AsyncQdrantClient(":memory:"), prefix="uid", collection=laid_out)
    name = await sealed(store, [PUMP, VALVE])
    assert (await found(store, name, asked("clean the valve", angle=1.0, mode=mode)))[0] == "valve"
    await store.close()


async def test_the_configuration_file_has_it_in_camel_case() -> None:
    text = json.dumps({"url": "http://q:6333", "prefix": "uid", "collection": {**CLUSTER, "memory": "OnDisk"}})
    read = ServerConfig.model_validate_json(text)
    assert read.collection == config(**CLUSTER, memory="OnDisk")
