# SPDX-License-Identifier: Apache-2.0
"""The process that fills and seals one shard: `python -m nimblet_retriever.store.builder FOLDER MANIFEST`.

It is a process of its own because optimizing holds the interpreter's lock for seconds and a full disk ends the
engine by SIGBUS: neither may touch the retriever that answers queries. Requests come in frames on stdin, answers
go out on stdout; the end of stdin ends it.
"""

import fcntl
import sys
from pathlib import Path
from typing import BinaryIO

from qdrant_edge import EdgeShard

from nimblet_retriever.store import shard as shards
from nimblet_retriever.store.frames import (
    HEADER,
    REQUEST,
    AddRequest,
    Answer,
    SealRequest,
    VectorsRequest,
    frame,
    pack_vector,
)
from nimblet_retriever.store.generation import Manifest


def main(argv: list[str]) -> int:
    """Serve requests until stdin ends; exit code 0, 2 for a wrong command line."""
    if len(argv) != 2:  # noqa: PLR2004 - folder and manifest
        sys.stderr.write("usage: python -m nimblet_retriever.store.builder FOLDER MANIFEST_JSON\n")
        return 2
    folder, manifest = Path(argv[0]), Manifest.model_validate_json(argv[1])
    # of the container's processes this is the one to end when memory runs short, never the one that answers
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with (folder.parent / "lock").open("a", encoding="ascii") as lock:
        # the builder of a retriever that was killed may still be closing this shard: wait for its end
        fcntl.flock(lock, fcntl.LOCK_EX)
        shard = open_shard(folder, manifest)
        try:
            serve(shard, manifest, incoming=sys.stdin.buffer, outgoing=sys.stdout.buffer)
        finally:
            shard.close()
    return 0


def open_shard(folder: Path, manifest: Manifest) -> EdgeShard:
    """Open the shard that an earlier process left, or make one."""
    if (folder / "segments").is_dir():
        return EdgeShard.load(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    return shards.create(str(folder), manifest)


def serve(shard: EdgeShard, manifest: Manifest, *, incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer one request after another."""
    while (body := _read(incoming)) is not None:
        request = REQUEST.validate_json(body)
        try:
            answer = _answer(shard, manifest, request)
        except Exception as error:  # noqa: BLE001 - the engine raises nothing narrower; the retriever tells it on
            answer = Answer(error=f"{type(error).__name__}: {error}")
        outgoing.write(frame(answer))
        outgoing.flush()


def _answer(shard: EdgeShard, manifest: Manifest, request: AddRequest | VectorsRequest | SealRequest) -> Answer:
    if isinstance(request, AddRequest):
        shards.add(shard, request.points, language=manifest.language)
        return Answer()
    if isinstance(request, VectorsRequest):
        found = shards.vectors(shard, request.reuse_keys)
        return Answer(vectors={key: pack_vector(vector) for key, vector in found.items()})
    shard.optimize()
    shard.flush()
    return Answer(counts=shards.counts(shard))


def _read(incoming: BinaryIO) -> bytes | None:
    header = incoming.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = incoming.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
