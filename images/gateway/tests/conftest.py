# SPDX-License-Identifier: Apache-2.0
"""What the gateway's tests share: one indexed retriever, and a stub model for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_testing.corpus import PASSAGES
from gateway_testing.process import build, retriever_keys
from gateway_testing.upstream import ModelServer
from retriever_testing.embeddings import EmbeddingServer
from retriever_testing.process import free_port, retriever, serving, write_config


@pytest.fixture(scope="session")
def index_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A retriever with the passages of gateway_testing/corpus.py."""
    folder, port = tmp_path_factory.mktemp("retriever"), free_port()
    with serving(EmbeddingServer().app()) as embedding_url:
        config = write_config(folder, embedding_url=embedding_url, keys=retriever_keys())
        with retriever(config, port=port):
            build(f"http://127.0.0.1:{port}", PASSAGES)
            yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def served_model() -> Iterator[tuple[ModelServer, str]]:
    """A stub model and its address."""
    model = ModelServer()
    with serving(model.app()) as url:
        yield model, url


@pytest.fixture
def model(served_model: tuple[ModelServer, str]) -> Iterator[ModelServer]:
    """The stub model, as new."""
    model, _ = served_model
    yield model
    model.renew()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the module's own."""
    return tmp_path_factory.mktemp("gateway")
