# SPDX-License-Identifier: Apache-2.0
"""Run a mirror: `python -m e2e.mirror --config hub.json`. It logs a line per answer and ends at SIGTERM."""

import argparse
import signal
import sys
from pathlib import Path
from threading import Event

from e2e.mirror.catalog import read_hub
from e2e.mirror.protocol import Request, Response
from e2e.mirror.server import Listener, serve


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.mirror", description="Serve models over the hub's protocol."
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON file: repositories, files, faults")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    parser.add_argument("--cdn-port", type=int, default=8081, help="port that downloads are redirected to")
    parser.add_argument("--token-file", type=Path, help="file with the one valid token")
    parser.add_argument("--certificate", type=Path, help="TLS certificate chain (PEM): serve https")
    parser.add_argument("--key", type=Path, help="its private key (PEM)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Serve until the process is told to end."""
    arguments = parse_arguments(argv)
    told_to_end = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    token = arguments.token_file.read_text(encoding="utf-8").strip() if arguments.token_file else None
    hub = read_hub(arguments.config, token=token)
    listener = Listener(
        arguments.host,
        arguments.port,
        cdn_port=arguments.cdn_port,
        certificate=arguments.certificate,
        key=arguments.key,
    )
    with serve(hub, listener=listener, observe=_log) as server:
        print(f"serving {len(hub.repos)} repositories on port {server.port}", flush=True)
        for repo in hub.repos.values():
            print(f"  {repo.id} @ {repo.commit}: {', '.join(repo.files)}", flush=True)
        told_to_end.wait()
    return 0


def _log(method: str, request: Request, response: Response) -> None:
    path = request.target.partition("?")[0]
    if path != "/healthz":
        print(f"{method} {path} range={request.range or '-'} -> {response.status.value}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
