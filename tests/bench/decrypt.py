# SPDX-License-Identifier: Apache-2.0
"""The loader beside the age library alone: the same file decrypted on the same volume, and the loader's memory.

The library reads the file and writes the plaintext, no more. The loader also hashes the plaintext, checks its
header, syncs it to disk and renames it; its figure holds all of that. Both run as processes of their own, in
turns.
"""

import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loader_testing.tiny import TinyModel
from nimblet_loader.age import new_identity
from nimblet_loader.contract import encode
from nimblet_loader.sealed import MANIFEST
from nimblet_loader.sealing import Sealing, seal
from tests.bench.loader import IDLE, Run, policy, run

ROUNDS = 3
GIBIBYTES = 2
AIM_RATIO, AIM_MEBIBYTES = 0.7, 64.0
LIBRARY = (
    "import sys, pyrage; key = pyrage.x25519.Identity.from_str(open(sys.argv[1]).read().split()[-1]); "
    "source, target = open(sys.argv[2], 'rb'), open(sys.argv[3], 'wb'); "
    "pyrage.decrypt_io(source, target, [key]); target.close()"
)
_BLOCK = 2**20
MODEL, REVISION = "bench/random", "1"


@dataclass(frozen=True)
class Figure:
    """Seconds of the best round of each, MiB of the loader's peak and of an idle loader."""

    size: int
    library_seconds: float
    loader_seconds: float
    peak_mebibytes: float
    idle_mebibytes: float

    @property
    def ratio(self) -> float:
        """Return the loader's speed as a share of the library's."""
        return self.library_seconds / self.loader_seconds


def main() -> int:
    """Measure and print; the exit code is 0 whatever the figures are."""
    with tempfile.TemporaryDirectory(prefix="nimblet-bench-") as folder:
        figure = measure(Path(folder))
    size = figure.size / 1e6
    print(f"file                  {size:.0f} MB of random tensors, best of {ROUNDS}")
    print(f"library alone         {figure.library_seconds:.2f} s ({size / figure.library_seconds:.0f} MB/s)")
    print(f"loader, whole process {figure.loader_seconds:.2f} s ({size / figure.loader_seconds:.0f} MB/s)")
    print(f"load of the machine   {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"ratio                 {figure.ratio:.2f} (aim: at least {AIM_RATIO})")
    above = figure.peak_mebibytes - figure.idle_mebibytes
    print(
        f"peak memory           {figure.peak_mebibytes:.0f} MiB, {above:.0f} MiB over the idle loader "
        f"(aim: at most {AIM_MEBIBYTES:.0f})"
    )
    return 0


def measure(folder: Path) -> Figure:
    """Encrypt a file, then let both decrypt it in turns."""
    size = prepare(folder)
    library: list[Run] = []
    loader: list[Run] = []
    for _ in range(ROUNDS):
        library.append(alone(folder))
        loader.append(fetched(folder))
    idle = min((run([sys.executable, "-c", IDLE]) for _ in range(2)), key=lambda ran: ran.peak)
    return Figure(
        size=size,
        library_seconds=min(ran.seconds for ran in library),
        loader_seconds=min(ran.seconds for ran in loader),
        peak_mebibytes=max(ran.peak for ran in loader),
        idle_mebibytes=idle.peak,
    )


def prepare(folder: Path) -> int:
    """Write a model's file with random tensors, encrypt it, and resolve it; return its size."""
    for name in ("plain", "sealed", "models"):
        (folder / name).mkdir()
    plain = folder / "plain" / "random.gguf"
    rows = GIBIBYTES * 2**30 // (64 * 4)
    model = TinyModel(tensors=(("token_embd.weight", (64, rows)),))
    header = model.header()
    with plain.open("wb") as file:
        file.write(header.ljust(-(-len(header) // 32) * 32, b"\0"))
        block = os.urandom(_BLOCK)
        for number in range(rows * 64 * 4 // _BLOCK):
            file.write(struct.pack("<Q", number) + block[8:])
    size = plain.stat().st_size
    key = new_identity()
    (folder / "identity").write_text(key.secret)
    seal(Sealing(folder / "plain", folder / "sealed", model=MODEL, revision=REVISION, recipients=(key.recipient,)))
    plain.unlink()
    (folder / "policy.json").write_bytes(encode(policy()))
    ended = loaded(folder, ["resolve"])
    if ended.code != 0:
        raise RuntimeError(f"expected the resolver to succeed, found exit code {ended.code}")
    (folder / "result").rename(folder / "artifact.json")
    return size


def alone(folder: Path) -> Run:
    """Let the library decrypt the file."""
    target = folder / "models" / "alone"
    paths = [folder / "identity", folder / "sealed" / "random.gguf.age", target]
    ran = run([sys.executable, "-c", LIBRARY, *map(str, paths)])
    if ran.code != 0:
        raise RuntimeError(f"expected the library to succeed, found exit code {ran.code}")
    target.unlink()
    return ran


def fetched(folder: Path) -> Run:
    """Let the loader bring the file."""
    artifact = ["--artifact", str(folder / "artifact.json"), "--dest", str(folder / "models")]
    ran = loaded(folder, ["fetch", *artifact, "--weights-key", str(folder / "identity")])
    if ran.code != 0:
        raise RuntimeError(f"expected the loader to succeed, found: {(folder / 'result').read_text()}")
    (folder / "models" / "random.gguf").unlink()
    return ran


def loaded(folder: Path, command: Sequence[str]) -> Run:
    """Run the loader's program over the encrypted folder as a claim."""
    digest = hashlib.sha256((folder / "sealed" / MANIFEST).read_bytes()).hexdigest()
    names = {"model": MODEL, "revision": REVISION}
    source = {"version": 1, "uri": "pvc://bench/", "sha256": {MANIFEST: digest}, "encryption": names}
    flags = {"policy": "policy.json", "claim": "sealed", "result": "result", "credentials": "none"}
    argv = [sys.executable, "-m", "nimblet_loader", *command]
    argv += [f"--{name}={folder / value}" for name, value in flags.items()]
    return run(argv, {"NIMBLET_SOURCE": json.dumps(source), "POD_UID": "bench"})


if __name__ == "__main__":
    sys.exit(main())
