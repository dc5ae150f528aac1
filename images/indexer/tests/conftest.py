# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the indexer's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer_testing.build import Bench, bench_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A retriever on loopback and a folder to build in."""
    with bench_of(tmp_path) as made:
        yield made
