# SPDX-License-Identifier: Apache-2.0
"""Opens a store on servers as its configuration says. Connects lazily: nothing is asked here."""

import ssl
from datetime import timedelta

from nimblet_retriever.config import ServerConfig
from nimblet_retriever.store.connection import SNAPSHOT_SECONDS, FileKey, connect
from nimblet_retriever.store.interface import Store
from nimblet_retriever.store.moving import MovingStore
from nimblet_retriever.store.server import ServerStore
from nimblet_retriever.store.serversnapshots import ServerSnapshots


def open_servers(config: ServerConfig, *, trust: ssl.SSLContext | None = None) -> Store:
    """Return the store on one place of servers, or on those that it moves between.

    `trust`: what servers that are asked by https are verified by.
    """
    auth = FileKey(config.key_file) if config.key_file is not None else None

    def place(url: str, snapshots: ServerSnapshots | None = None) -> ServerStore:
        return ServerStore(
            connect(url, auth, trust=trust),
            prefix=config.prefix,
            collection=config.collection,
            url=url,
            snapshots=snapshots,
        )

    if config.former:
        return MovingStore(place(config.url), [place(url) for url in config.former])
    return place(config.url, open_snapshots(config, trust=trust))


def open_snapshots(config: ServerConfig, *, trust: ssl.SSLContext | None = None) -> ServerSnapshots | None:
    """Return who takes the snapshots on the servers of url, each by its own address."""
    wanted = config.snapshots
    if wanted is None:
        return None
    auth = FileKey(config.key_file) if config.key_file is not None else None
    return ServerSnapshots(
        {url: connect(url, auth, trust=trust, seconds=SNAPSHOT_SECONDS) for url in wanted.servers},
        retain=wanted.retain,
        every=timedelta(seconds=wanted.every_seconds),
        folder=wanted.folder,
    )
