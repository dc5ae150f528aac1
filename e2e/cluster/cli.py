# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m e2e.cluster {up,down,status,load,control-plane}`.

Only parses, calls and prints. Exit codes: 0 done, 1 not (the reason is on standard error), 2 wrong usage.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.cluster import cluster
from e2e.cluster.cluster import DEFAULT_NAME
from e2e.cluster.controlplane import ControlPlane, ControlPlaneOptions
from e2e.cluster.errors import ClusterError
from e2e.cluster.kwok import FakeNode
from e2e.cluster.paths import cache_of
from e2e.cluster.progress import Progress


def main(argv: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    arguments = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m e2e.cluster", description="A disposable Kubernetes cluster.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_control_plane(
        commands.add_parser("control-plane", help="apiserver and controllers only, in the foreground")
    )
    for name, help_text, run in (
        ("up", "bring the cluster up; builds its tools the first time", _run_up),
        ("tools", "build or fetch what the cluster and the tests need, and start nothing", _run_tools),
        ("down", "remove the cluster and everything of it", _run_down),
        ("status", "say whether it is up, with nodes and pods; exit code 0 or 1", _run_status),
    ):
        command = commands.add_parser(name, help=help_text)
        _add_name(command)
        command.set_defaults(run=run)
    load = commands.add_parser("load", help="import OCI image archives into the cluster")
    _add_name(load)
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE_ARCHIVE")
    load.set_defaults(run=_run_load)
    return top


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name (default: %(default)s)")
    command.add_argument(
        "--state", type=Path, help="its folder (default: below $NIMBLET_CACHE or ~/.cache/nimblet)"
    )


def _run_up(arguments: argparse.Namespace) -> int:
    cluster.up(arguments.name, cache=cache_of(os.environ), progress=Progress(), state=_state(arguments))
    return 0


def _run_tools(_: argparse.Namespace) -> int:
    cluster.prepare(cache=cache_of(os.environ), progress=Progress())
    return 0


def _run_down(arguments: argparse.Namespace) -> int:
    cluster.down(arguments.name, cache=cache_of(os.environ), progress=Progress(), state=_state(arguments))
    return 0


def _run_status(arguments: argparse.Namespace) -> int:
    found = cluster.find(arguments.name, cache=cache_of(os.environ), state=_state(arguments))
    well, text = cluster.status(found)
    print(text)
    return 0 if well else 1


def _run_load(arguments: argparse.Namespace) -> int:
    found = cluster.find(arguments.name, cache=cache_of(os.environ), state=_state(arguments))
    for name in found.load(arguments.archives):
        print(name)
    return 0


def _state(arguments: argparse.Namespace) -> Path | None:
    chosen: Path | None = arguments.state
    return chosen.absolute() if chosen is not None else None


def _add_control_plane(command: argparse.ArgumentParser) -> None:
    command.add_argument("--kubeconfig", type=Path, required=True, help="where to write the admin's kubeconfig")
    command.add_argument("--scheduler", action="store_true", help="run kube-scheduler too")
    command.add_argument("--no-kwok", action="store_true", help="run without make-believe nodes")
    command.add_argument("--node", action="append", default=[], metavar="NAME", help="add a make-believe node")
    command.add_argument(
        "--apiserver-arg",
        action="append",
        default=[],
        metavar="--FLAG=VALUE",
        help="one more flag for the apiserver",
    )
    command.set_defaults(run=_run_control_plane)


def _run_control_plane(arguments: argparse.Namespace) -> int:
    """Start, write the kubeconfig, wait for Ctrl-C or SIGTERM, stop."""
    options = ControlPlaneOptions(
        kwok=not arguments.no_kwok,
        scheduler=arguments.scheduler,
        extra_apiserver_args=tuple(arguments.apiserver_arg),
        cache=cache_of(os.environ),
        progress=Progress(),
    )
    target: Path = arguments.kubeconfig
    asked_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.set())
    with ControlPlane(options) as plane:
        for name in arguments.node:
            plane.add_node(FakeNode(name))
        shutil.copy(plane.kubeconfig, target)
        print(
            f"apiserver {plane.url}\nlogs      {plane.directory / 'logs'}\nexport KUBECONFIG={target.absolute()}"
        )
        print("Ctrl-C ends it.", flush=True)
        asked_to_end.wait()
    target.unlink(missing_ok=True)
    return 0
