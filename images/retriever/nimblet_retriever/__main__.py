# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_retriever --config FILE`: serves one index until SIGTERM. Wires the parts."""

import json
import logging
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx

from nimblet_retriever.config import EmbeddedConfig, RetrieverConfig, read_config
from nimblet_retriever.service import Surroundings, service
from nimblet_retriever.store.authorities import store_authorities
from nimblet_retriever.store.chunk import StoreError, StoreUnavailable
from nimblet_retriever.store.embedded import EmbeddedStore
from nimblet_retriever.store.interface import Store
from nimblet_tls.serving import Place, alongside, options_of, run_until_stopped, serve, server_at

log = logging.getLogger("nimblet_retriever")


def main(argv: Sequence[str]) -> int:
    """Serve; exit code 0 after SIGTERM, 1 when the store can't be opened, 2 for a wrong configuration."""
    parser = options_of(
        "nimblet_retriever",
        "Serves one index. Exit codes: 0 stopped, 1 the store can't be opened, 2 wrong configuration.",
    )
    parser.add_argument(
        "--result",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="where the reason is left why the store's server can't be used; nowhere where there is no such file",
    )
    options = parser.parse_args(argv)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request to a model tells nothing
    try:
        return run_until_stopped(options, read=read_config, run=run, log=log)
    except StoreError as error:
        log.error("the store can't be opened: %s", error)  # noqa: TRY400 - the message says it all
        tell(options.result, error)
        return 1


def tell(result: Path, error: StoreError) -> None:
    """Leave the reason for the operator, who can't ask a retriever that never became ready."""
    if not isinstance(error, StoreUnavailable) or not result.is_file():
        return
    failure = {"reason": type(error).__name__, "message": str(error)}
    result.write_text(json.dumps({"version": 1, "error": failure}), encoding="utf-8")


async def run(config: RetrieverConfig, place: Place) -> None:
    """Open everything and serve until a signal."""
    async with AsyncExitStack() as stack:
        tls = place.tls
        # the public authorities too: an embedding model may be a service outside
        trusted = tls.client(httpx.create_ssl_context()) if tls is not None else True
        client = await stack.enter_async_context(httpx.AsyncClient(verify=trusted))
        around = Surroundings(client=client, clock=time.monotonic, now=partial(datetime.now, UTC))
        trusted_store = store_authorities(config)
        store = open_store(config, trust=trusted_store.client() if trusted_store is not None else None)
        app = await stack.enter_async_context(service(config, store, around))
        server = server_at(place, app)
        if trusted_store is not None:
            alongside(stack, trusted_store.watch())
        await serve(server, tls, stack)


def open_store(config: RetrieverConfig, *, trust: ssl.SSLContext | None = None) -> Store:
    """Return the configured store. StoreError where another process has the folder.

    `trust`: what servers that are asked by https are verified by.
    """
    store = config.store
    if isinstance(store, EmbeddedConfig):
        return EmbeddedStore(
            store.folder,
            reserve=store.reserve_bytes,
            limit=store.push_passages,
            memory=store.builder_memory_bytes,
        )
    # the client takes half of the start's time, which an embedded store need not pay at a restart
    from nimblet_retriever.store.opening import open_servers  # noqa: PLC0415

    return open_servers(store, trust=trust)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
