# SPDX-License-Identifier: Apache-2.0
"""Opens a store on servers as its configuration says. Connects lazily: nothing is asked here."""

from nimblet_retriever.config import ServerConfig
from nimblet_retriever.store.connection import FileKey, connect
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.moving import MovingStore
from nimblet_retriever.store.server import ServerStore


def open_servers(config: ServerConfig) -> Store:
    """Return the store on one place of servers, or on those that it moves between."""
    auth = FileKey(config.key_file) if config.key_file is not None else None

    def place(url: str) -> ServerStore:
        return ServerStore(connect(url, auth), prefix=config.prefix, collection=config.collection, url=url)

    target = place(config.url)
    return MovingStore(target, [place(url) for url in config.former]) if config.former else target
