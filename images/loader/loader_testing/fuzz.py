# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of the header parsers (`make fuzz`): any error but their own, or much memory, is a find.

Usage: python -m loader_testing.fuzz gguf|safetensors|config SECONDS. Hypothesis holds the same in `make test`.
"""

import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from loader_testing.tensors import CONFIG, as_json
from loader_testing.tensors import file as tensors_file
from loader_testing.tiny import TinyModel
from nimblet_egress.errors import SourceError
from nimblet_loader import facts, gguf, modelfacts, safetensors

MEMORY_MEBIBYTES = 512
"""Far above what a parser may hold, with the fuzzer's own corpus and coverage."""
_TENSOR = b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}'
SEEDS = {
    "gguf": TinyModel().file()[:4096],
    "safetensors": struct.pack("<Q", len(_TENSOR)) + _TENSOR + bytes(12),
    "config": as_json(CONFIG),
}


def read_gguf(raw: bytes) -> None:
    """Read bytes as the resolver reads a GGUF file."""
    try:
        header = gguf.parse_header(iter([raw]))
        facts.check_extent("m", header, len(raw))
        facts.header_facts("m", [(header, len(raw))])
    except (gguf.GGUFError, SourceError):
        return


def read_safetensors(raw: bytes) -> None:
    """Read bytes as the resolver reads a safetensors file."""
    try:
        safetensors.check_extent(safetensors.parse_header(iter([raw])), len(raw))
    except safetensors.SafetensorsError:
        return


def read_config(raw: bytes) -> None:
    """Read bytes as the resolver reads a config.json, beside tensors that it may say anything about."""
    try:
        header = safetensors.parse_header(iter([tensors_file()]))
        modelfacts.repository_facts(modelfacts.Repository("", [header], {"config.json": raw}, frozenset()))
    except SourceError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "gguf": read_gguf,
    "safetensors": read_safetensors,
    "config": read_config,
}


def main(argv: Sequence[str]) -> None:
    """Fuzz one parser for some seconds; a find ends the process with libFuzzer's report and exit code."""
    # Only here: the library is of the group `fuzz`, which nobody else installs.
    import atheris  # noqa: PLC0415

    target, seconds = TARGETS[argv[0]], int(argv[1])
    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "seed").write_bytes(SEEDS[argv[0]])
        flags = [f"-max_total_time={seconds}", "-max_len=8192", f"-rss_limit_mb={MEMORY_MEBIBYTES}", "-timeout=5"]
        atheris.Setup([sys.argv[0], *flags, corpus], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
