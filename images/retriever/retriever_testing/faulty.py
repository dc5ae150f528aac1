# SPDX-License-Identifier: Apache-2.0
"""A client in local mode that dies at a chosen write, as a process does."""

from collections.abc import Callable
from typing import Any, Final

from qdrant_client import AsyncQdrantClient

WRITES: Final = frozenset(
    {
        "create_collection",
        "create_payload_index",
        "delete",
        "delete_collection",
        "update_collection",
        "update_collection_aliases",
        "upsert",
    }
)


class Killed(BaseException):
    """The process ends here: nothing handles it."""


class FaultyClient(AsyncQdrantClient):
    """Runs `before` ahead of every write."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.before: Callable[[], None] = lambda: None

    def __getattribute__(self, name: str) -> Any:
        if name in WRITES:
            super().__getattribute__("before")()
        return super().__getattribute__(name)


def killed_after(writes: int, *clients: FaultyClient) -> None:
    """Have the process die once so many writes were made through any of the clients."""
    left = [writes]

    def count() -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    for client in clients:
        client.before = count


def heal(*clients: FaultyClient) -> None:
    """Let writes through again."""
    for client in clients:
        client.before = lambda: None
