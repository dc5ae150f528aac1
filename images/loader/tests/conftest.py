# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the loader's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.models import model_path
from loader_testing.bench import MODEL, Bench
from loader_testing.hub import Hub
from loader_testing.server import serving
from loader_testing.tiny import TinyModel


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Serve a small sound model."""
    hub = Hub({MODEL: TinyModel(tensors=(("token_embd.weight", (64, 4000)),)).file(), "README.md": b"hello"})
    root = tmp_path / "models"
    root.mkdir()
    with serving(hub.answer) as server:
        yield Bench(hub, server, root)


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """Return the path of a real model by name, fetched once into the cache."""
    return model_path
