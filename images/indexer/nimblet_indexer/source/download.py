# SPDX-License-Identifier: Apache-2.0
"""Brings one answer of a source to disk: bounded in size and in time. Knows no protocol."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nimblet_egress.client import Answer
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.retry import Pace
from nimblet_indexer.config import FileLimits
from nimblet_indexer.document import FileRefused, Refusal


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What readers of remote sources share."""

    scratch: Path
    limits: FileLimits
    pace: Pace
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """Make a new file whose name nobody else chose; gone after the block."""
    handle, name = tempfile.mkstemp(dir=folder.resolve(), prefix="file-")
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def save(answer: Answer, path: Path, tools: Tools) -> None:
    """Write the body. FileRefused when it is too large, SourceError when it takes too long or breaks off."""
    until = tools.now() + tools.limits.fetch_seconds
    length = answer.last.headers.get("content-length", "")
    if length.isdecimal():
        check_size(int(length), tools.limits)
    written = 0
    with path.open("wb") as file:
        for chunk in answer.chunks():
            written += len(chunk)
            check_size(written, tools.limits)
            if tools.now() > until:
                raise SourceError(
                    Reason.DownloadStalled,
                    f"Expected {answer.last.target.shown} within {tools.limits.fetch_seconds:g} s; it is too "
                    "slow. It is tried again; if it goes on, check the source and the network.",
                )
            file.write(chunk)


def check_size(size: int, limits: FileLimits) -> None:
    """Refuse a file that is too large before it is fetched whole."""
    if size > limits.file_bytes:
        raise FileRefused(
            Refusal.TOO_LARGE,
            f"it has more than {limits.file_bytes // 2**20} MiB, the most that is read; split it",
        )
