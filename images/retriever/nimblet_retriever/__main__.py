# SPDX-License-Identifier: Apache-2.0
"""`python -m nimblet_retriever --config FILE`: serves one index until SIGTERM. Wires the parts."""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import uvicorn
from pydantic import ValidationError

from nimblet_retriever.config import EmbeddedConfig, RetrieverConfig, read_config
from nimblet_retriever.service import Surroundings, service
from nimblet_retriever.store.chunk import StoreError, StoreUnavailable
from nimblet_retriever.store.embedded import EmbeddedStore
from nimblet_retriever.store.interface import Store
from nimblet_tls.folder import TLSError, TLSFolder

log = logging.getLogger("nimblet_retriever")


def main(argv: Sequence[str]) -> int:
    """Serve; exit code 0 after SIGTERM, 1 when the store can't be opened, 2 for a wrong configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m nimblet_retriever",
        description="Serves one index. Exit codes: 0 stopped, 1 the store can't be opened, 2 wrong configuration.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="JSON, rendered by the operator"
    )
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - the pod's own
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 8080 by default")
    parser.add_argument(
        "--result",
        type=Path,
        default=Path("/dev/termination-log"),
        metavar="FILE",
        help="where the reason is left why the store's server can't be used; nowhere where there is no such file",
    )
    parser.add_argument(
        "--tls", type=Path, metavar="FOLDER", help="serve HTTPS, and trust, by the files mounted there"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request to a model tells nothing
    try:
        config = read_config(options.config)
    except (OSError, ValidationError) as error:
        log.error("%s: %s", options.config, error)  # noqa: TRY400 - the message says it all
        return 2
    place = Place(host=options.host, port=options.port, tls=TLSFolder(options.tls) if options.tls else None)
    try:
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(run(config, place))
    except TLSError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it all
        return 2
    except StoreError as error:
        log.error("the store can't be opened: %s", error)  # noqa: TRY400 - as above
        tell(options.result, error)
        return 1
    return 0


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop: the server's own choice, which is uvloop where that is installed."""
    return uvicorn.Config(app="", loop="auto").get_loop_factory()


def tell(result: Path, error: StoreError) -> None:
    """Leave the reason for the operator, who can't ask a retriever that never became ready."""
    if not isinstance(error, StoreUnavailable) or not result.is_file():
        return
    failure = {"reason": type(error).__name__, "message": str(error)}
    result.write_text(json.dumps({"version": 1, "error": failure}), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it listens; in plain HTTP without `tls`."""

    host: str
    port: int
    tls: TLSFolder | None = None


async def run(config: RetrieverConfig, place: Place) -> None:
    """Open everything and serve until a signal."""
    async with AsyncExitStack() as stack:
        tls = place.tls
        # the public authorities too: an embedding model may be a service outside
        trusted = tls.client(httpx.create_ssl_context()) if tls is not None else True
        client = await stack.enter_async_context(httpx.AsyncClient(verify=trusted))
        around = Surroundings(client=client, clock=time.monotonic, now=partial(datetime.now, UTC))
        app = await stack.enter_async_context(service(config, open_store(config), around))
        # no access log: paths hold names of documents
        settings = uvicorn.Config(
            app, host=place.host, port=place.port, access_log=False, log_config=None, lifespan="off"
        )
        if tls is not None:
            settings.load()
            settings.ssl = tls.server()
            stack.push_async_callback(_ended, asyncio.ensure_future(tls.watch()))
        # uvicorn raises the signal again once it has drained: what is closed below would never be, spans be lost
        signal.signal(signal.SIGTERM, lambda *_: None)
        await uvicorn.Server(settings).serve()


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def open_store(config: RetrieverConfig) -> Store:
    """Return the configured store. StoreError where another process has the folder."""
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

    return open_servers(store)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
