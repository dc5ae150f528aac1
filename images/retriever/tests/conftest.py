# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the retriever's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from nimblet_retriever.store.interface import Store
from retriever_testing.stores import kinds, opened


@pytest_asyncio.fixture(params=kinds())
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every kind of store, empty."""
    async with opened(request.param, tmp_path / "index") as made:
        yield made
