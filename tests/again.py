# SPDX-License-Identifier: Apache-2.0
"""A second look at the few tests that failed: `python -m tests.again --status N --most N [pytest argument ...]`.

Some 6,000 tests on a machine that others use too: now and then one of them meets a moment that nobody thought of.
Their whole files are asked once more, in fresh clusters and processes. Both runs stand in the log, the tests are
named, and what fails twice has failed. More failures than `--most`, or a run that broke off, get no second look.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import pytest

FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")
"""Where pytest notes what failed: an object whose keys are node ids (its cache provider, `--last-failed`)."""


def files_of(failed: Collection[str], *, most: int) -> tuple[str, ...]:
    """Return the files to ask again; none where nothing failed, or more than `most` tests."""
    if len(failed) > most:
        return ()
    return tuple(sorted({nodeid.partition("::")[0] for nodeid in failed}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask again and return pytest's exit code; the first run's where there is no second."""
    parser = argparse.ArgumentParser(prog="python -m tests.again", description=__doc__.partition("\n")[0])
    parser.add_argument("--status", type=int, required=True, help="pytest's exit code of the first run")
    parser.add_argument("--most", type=int, required=True, help="so many failed tests get a second look")
    options, further = parser.parse_known_args(arguments)
    if options.status != pytest.ExitCode.TESTS_FAILED:
        return int(options.status)
    failed = list(json.loads(FAILED.read_bytes())) if FAILED.exists() else []
    files = files_of(failed, most=options.most)
    if not files:
        return int(options.status)
    sys.stdout.write("\n".join(["", "Failed, and asked once more with their files:", *failed, "", ""]))
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "pytest", *further, *files], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
