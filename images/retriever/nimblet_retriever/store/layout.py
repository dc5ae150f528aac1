# SPDX-License-Identifier: Apache-2.0
"""The embedded store's folders, and the few steps on them that must be atomic. Knows no engine.

ROOT/lock                       held by the one process that uses the store
ROOT/serving                    the serving generation's name; replaced by rename
ROOT/building/NAME.TOKEN/       a build: manifest.json and shard/
ROOT/generations/NAME/          a sealed generation: manifest.json with its counts, and shard/
ROOT/pushes/                    the log of pushed documents: pushlog.py
ROOT/ballast                    given up when the volume is full: ballast.py
ROOT/trash/                     on its way out
"""

import fcntl
import os
import shutil
import uuid
from pathlib import Path
from typing import Final, TextIO

from pydantic import ValidationError

from nimblet_retriever.store.chunk import GenerationUnknown, StoreBusy, StoreError
from nimblet_retriever.store.generation import Generation, is_generation_name

MANIFEST: Final = "manifest.json"
SHARD: Final = "shard"
BLOCK_BYTES: Final = 512
"""What st_blocks counts in, by POSIX; the engine's files are longer than what they take."""


class Layout:
    """Paths under `root`, and the lock on it. StoreBusy where another process has the lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (root, root / "building", root / "generations", root / "trash"):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(root / "lock")
        for folder in (root / "trash").iterdir():
            # what a builder that is still ending writes to stays until the next start
            shutil.rmtree(folder, ignore_errors=True)
        self._serving = _read_if_there(root / "serving")
        """As the file says, which nobody else writes while we have the lock: asked with every question."""

    def release(self) -> None:
        """Give the lock up."""
        self._lock.close()

    def building(self, generation: Generation) -> Path:
        """Return a build's folder."""
        return self.root / "building" / f"{generation.name}.{generation.manifest.token}"

    def sealed(self, name: str) -> Path:
        """Return a sealed generation's folder. GenerationUnknown for a name that is none."""
        if not is_generation_name(name):
            raise GenerationUnknown(f"expected a generation such as g000001, found {name!r}")
        return self.root / "generations" / name

    def shard(self, name: str) -> Path:
        """Return the shard of a sealed generation; GenerationUnknown where there is none."""
        folder = self.sealed(name) / SHARD
        if not folder.is_dir():
            raise GenerationUnknown(f"generation {name} is not among the sealed ones")
        return folder

    def generations(self) -> tuple[Generation, ...]:
        """Read every manifest, of sealed ones and of builds."""
        folders = [*(self.root / "generations").iterdir(), *(self.root / "building").iterdir()]
        found = [read_manifest(folder) for folder in folders if (folder / MANIFEST).exists()]
        return tuple(sorted(found, key=lambda item: (item.name, item.manifest.token)))

    def serving(self) -> str | None:
        """Return the serving generation's name."""
        return self._serving

    def point_to(self, name: str) -> None:
        """Make a generation the serving one: a rename, so that a reader sees the old or the new."""
        write_durably(self.root / "serving", name)
        self._serving = name

    def start(self, generation: Generation) -> Path:
        """Make a build's folder, or return the one that is there."""
        folder = self.building(generation)
        folder.mkdir(exist_ok=True)
        write_durably(folder / MANIFEST, generation.model_dump_json(by_alias=True))
        return folder

    def seal(self, generation: Generation) -> None:
        """Move a closed build among the sealed ones: manifest with counts first, then one rename."""
        folder = self.building(generation)
        write_durably(folder / MANIFEST, generation.model_dump_json(by_alias=True))
        target = self.sealed(generation.name)
        folder.rename(target)
        sync_folder(target.parent)
        sync_folder(folder.parent)

    def rewrite(self, generation: Generation) -> None:
        """Replace a sealed generation's manifest."""
        text = generation.model_dump_json(by_alias=True)
        write_durably(self.shard(generation.name).parent / MANIFEST, text)

    def discard(self, folder: Path) -> None:
        """Take a folder out of sight in one step, then remove it."""
        if not folder.exists():
            return
        out = self.root / "trash" / uuid.uuid4().hex
        folder.rename(out)
        shutil.rmtree(out)


def read_manifest(folder: Path) -> Generation:
    """Return the manifest of a folder. StoreError for one that can't be read."""
    path = folder / MANIFEST
    try:
        return Generation.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise StoreError(
            f"expected a generation's manifest in {path}, found {error}; remove its folder"
        ) from error


def _read_if_there(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def write_durably(path: Path, text: str) -> None:
    """Replace a small file: new content, synced, renamed over the old, folder synced."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def size_of(folder: Path) -> int:
    """Return the bytes that a folder's files take on the disk; a file that goes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(path: Path) -> TextIO:
    file = path.open("a", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StoreBusy(f"{path.parent} is used by another process; a volume serves one retriever") from error
    return file
