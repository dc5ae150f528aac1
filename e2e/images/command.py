# SPDX-License-Identifier: Apache-2.0
"""Running build tools: each command's output goes to a log file, and a failure shows its end."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_TAIL_LINES = 25


class BuildError(Exception):
    """An image, or something that goes into one, could not be built."""


def run(argv: list[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run a command with its output appended to `log`; raise BuildError with the log's end if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as out:
            done = subprocess.run(argv, check=False, stdout=out, stderr=out, env=_environment(env))
    except FileNotFoundError as error:
        raise missing_tool(argv[0]) from error
    if done.returncode:
        raise _failure(argv, code=done.returncode, log=log)


def run_with_steps(argv: list[str], *, log: Path, label: str) -> None:
    """Run a ninja build and print its `[n/m]` progress each time a further tenth is done."""
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = 0
    try:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError as error:
        raise missing_tool(argv[0]) from error
    with log.open("a", encoding="utf-8") as out, process:
        for line in process.stdout or ():
            out.write(line)
            tenths = done_tenths(line)
            if tenths > shown:
                shown = tenths
                print(f"{label}: {tenths * 10} % {line.split(' ', maxsplit=1)[0]}", flush=True)
    if process.returncode:
        raise _failure(argv, code=process.returncode, log=log)


def succeeds(argv: list[str], *, env: Mapping[str, str] | None = None) -> bool:
    """Tell whether a probing command exists here and ends with 0; what it prints does not matter."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, env=_environment(env))
    except FileNotFoundError:
        return False
    return done.returncode == 0


def done_tenths(line: str) -> int:
    """How many tenths of a ninja build are done by its output line `[n/m] …`; 0 for any other line."""
    step = _STEP.match(line)
    return int(step[1]) * 10 // int(step[2]) if step else 0


def missing_tool(tool: str) -> BuildError:
    """The error for a command that is not on PATH."""
    return BuildError(
        f"expected `{tool}` on PATH, found none; on Debian: apt-get install "
        "buildah mmdebstrap cmake ninja-build g++ binutils libssl-dev (uv: see its own instructions)"
    )


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if extra is None else {**os.environ, **extra}


def _failure(argv: list[str], *, code: int, log: Path) -> BuildError:
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
    return BuildError(
        f"expected `{' '.join(argv[:3])} …` to end with 0, it ended with {code}; {log} ends:\n{tail}"
    )
