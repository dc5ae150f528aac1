# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_retriever.restore --config FILE < snapshots.json`: puts snapshots back on their servers.

It reads what `status.snapshots` of the RetrievalIndex holds and restores the newest of each collection and
server. It deletes nothing, and swaps to nothing.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError

from nimblet_retriever.config import ConfigModel, Id, RetrieverConfig, ServerConfig, Url, read_config
from nimblet_retriever.store.authorities import store_authorities
from nimblet_retriever.store.chunk import StoreError
from nimblet_retriever.store.opening import open_snapshots
from nimblet_retriever.store.serversnapshots import ServerSnapshots
from nimblet_retriever.store.snapshot import Snapshot
from nimblet_tls.folder import TLSError

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=500)]


class Listed(ConfigModel):
    """An entry of status.snapshots. A newer operator may say more."""

    model_config = ConfigDict(extra="ignore")

    server: Url
    collection: Annotated[Id, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    name: FileName
    taken_at: AwareDatetime | None = None


def main(argv: Sequence[str]) -> int:
    """Restore; exit code 0 when all is back, 1 when a server refused one, 2 for what can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m nimblet_retriever.restore",
        description="Restores the newest snapshot of each collection and server out of status.snapshots on stdin. "
        "Exit codes: 0 restored, 1 a server did not take one, 2 wrong input or configuration.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the retriever's own, as in its pod"
    )
    options = parser.parse_args(argv)
    try:
        held = read_snapshots(sys.stdin.buffer.read())
        config = read_config(options.config)
        servers = servers_of(config)
    except (OSError, ValueError, TLSError) as error:  # pydantic's ValidationError is one
        words = error if not isinstance(error, ValidationError) else f"{error.error_count()} errors: {error}"
        sys.stderr.write(f"can't restore: {words}\n")
        return 2
    return asyncio.run(restore(servers, held))


def read_snapshots(text: bytes) -> tuple[Snapshot, ...]:
    """Return the snapshots of a status. ValueError for anything else, and for none."""
    found = TypeAdapter(tuple[Listed, ...]).validate_json(text)
    if not found:
        raise ValueError("expected status.snapshots on stdin, found an empty list; nothing was restored")
    return tuple(
        Snapshot(server=item.server, collection=item.collection, name=item.name, bytes=0, taken_at=item.taken_at)
        for item in found
    )


def servers_of(config: RetrieverConfig) -> ServerSnapshots:
    """Return the servers that have snapshots. ValueError for an index that takes none."""
    store = config.store
    folder = store_authorities(config)
    trust = folder.client() if folder is not None else None
    servers = open_snapshots(store, trust=trust) if isinstance(store, ServerConfig) else None
    if servers is None:
        raise ValueError("this index takes no snapshots; set store.dedicated.snapshots")
    return servers


async def restore(servers: ServerSnapshots, held: Sequence[Snapshot]) -> int:
    """Restore one after another and tell each; stop at the first that is not taken."""
    try:
        async for item in servers.restore(held):
            sys.stdout.write(f"restored {item.collection} on {item.server} from {item.name}\n")
    except KeyError as error:
        sys.stderr.write(f"{error.args[0]} is no server of this index: take its entries out\n")
        return 1
    except StoreError as error:
        sys.stderr.write(f"stopped: {error}; what was restored stays, and it can be run again\n")
        return 1
    finally:
        await servers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
