# SPDX-License-Identifier: Apache-2.0
"""The indexer's memory is bounded by the files under way, not by how many there are."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from indexer_testing.build import Bench, told
from loader_testing.server import Reply, Request

pytestmark = pytest.mark.timeout(300)
MEBIBYTE: Final = 2**20
MOST_MEBIBYTES: Final = 200
"""An interpreter with its libraries, a dozen files of 64 KiB as passages, batches on their way."""
MOST_GROWTH: Final = 24
TEXT: Final = "The pump of the hall is examined by two people every day. " * 1100


def peak_of(bench: Bench, folder: Path, *, files: int) -> float:
    """Run the program over so many files, return its peak memory when it seals, in MiB."""
    folder.mkdir()
    for number in range(files):
        (folder / f"{number}.txt").write_text(f"{number} {TEXT}")
    config = bench.config({"name": "wiki", "folder": str(folder)}, generation=f"g{files:06}", parsers=2)
    path = bench.folder / f"{files}.json"
    path.write_text(json.dumps(config.model_dump(mode="json", by_alias=True, exclude_none=True)))
    peaks: list[float] = []
    sound = bench.retriever._sound

    def sealing(request: Request, part: str) -> Reply:
        if part == "seal":
            status = Path(f"/proc/{process.pid}/status").read_text()
            peaks.append(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)
        if part == "passages":
            return told({"embedded": len(json.loads(request.body)["passages"]), "reused": 0})
        return sound(request, part)

    bench.retriever._sound = sealing  # type: ignore[method-assign]
    command = [sys.executable, "-m", "nimblet_indexer", "--config", str(path), "--progress-port", "0"]
    with subprocess.Popen([*command, "--report", str(bench.folder / "report")]) as process:
        assert process.wait() == 0
    bench.retriever._sound = sound  # type: ignore[method-assign]
    return peaks[0]


def test_five_times_the_files_need_no_more_memory(bench: Bench, tmp_path: Path) -> None:
    few = peak_of(bench, tmp_path / "few", files=12)
    many = peak_of(bench, tmp_path / "many", files=60)
    assert many < few + MOST_GROWTH
    assert many < MOST_MEBIBYTES
