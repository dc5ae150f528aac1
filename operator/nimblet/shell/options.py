# SPDX-License-Identifier: Apache-2.0
"""The command line and the settings file, parsed once into a frozen value."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from nimblet import __version__
from nimblet.settings import Settings

DEFAULT_PORT: Final = 8080


class OptionsError(Exception):
    """The command line or the settings file is wrong; the message says what to correct."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run the operator."""

    settings: Settings
    kubeconfig: Path | None
    namespaces: tuple[str, ...]
    metrics_port: int
    leader_election: bool
    log_format: str


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="python -m nimblet",
        description="Runs the Nimblet operator until SIGTERM. Exit codes: 0 stopped by a signal, 1 failed, "
        "2 wrong options or settings, 3 leadership lost; after 1 and 3 it is meant to be started again.",
    )
    made.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="the administrator's settings, YAML or JSON; defaults without it",
    )
    made.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        dest="namespaces",
        help="serve this namespace only; may be repeated; overrides watchNamespaces of the settings",
    )
    made.add_argument(
        "--metrics-port",
        type=int,
        default=DEFAULT_PORT,
        metavar="PORT",
        help=f"port of /metrics, /livez and /readyz, {DEFAULT_PORT} by default, 0 for a free one",
    )
    made.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="how to reach the cluster; by default $KUBECONFIG, else the pod's own service account",
    )
    made.add_argument(
        "--no-leader-election",
        action="store_false",
        dest="leader_election",
        help="don't take the Lease: only where no second operator can run",
    )
    made.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="one line an entry, as text or JSON"
    )
    made.add_argument("--version", action="version", version=f"nimblet {__version__}")
    return made


def parse_options(argv: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Return the options; OptionsError for an unusable settings file, SystemExit 2 for unknown flags."""
    found = parser().parse_args(argv)
    settings = read_settings(found.settings) if found.settings is not None else Settings()
    named = environment.get("KUBECONFIG")
    return Options(
        settings=settings,
        kubeconfig=found.kubeconfig or (Path(named) if named else None),
        namespaces=tuple(sorted(set(found.namespaces))) or settings.watch_namespaces,
        metrics_port=found.metrics_port,
        leader_election=found.leader_election,
        log_format=found.log_format,
    )


def read_settings(path: Path) -> Settings:
    """Read the settings file, YAML or JSON. OptionsError names file and field."""
    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionsError(
            f"expected the settings in {path}, found: {error.strerror}; correct --settings"
        ) from error
    except yaml.YAMLError as error:
        raise OptionsError(f"expected YAML or JSON in {path}, found: {error}") from error
    try:
        return Settings.model_validate({} if content is None else content)
    except ValidationError as error:
        flaws = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise OptionsError(f"{path}: {flaws}; correct the chart's values") from error
