# SPDX-License-Identifier: Apache-2.0
"""Picks the files of one model out of a source's listing. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_egress.paths import unsafe_path
from nimblet_loader.contract import MAX_FILES, Format, Source
from nimblet_loader.repository import CONFIG, SHARD, belongs, is_weights, needed, split_path

_SPLIT = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$", re.IGNORECASE)


_UNSAFE = {
    ".bin .pt .pth .pkl .pickle .ckpt .joblib .dill .npy .npz .t7 .h5 .hdf5 .keras .pb .mar .nemo": "can hold "
    "code that runs when it is loaded",
    ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .whl": "is an archive, and none is unpacked",
    ".py .pyc .sh .so .dll .dylib .exe .jar .js .ipynb": "is a program, and none is run",
}
"""Why files by their last suffix are never loaded. What is not here and of no model isn't loaded either."""
_FLAWS = {suffix: why for suffixes, why in _UNSAFE.items() for suffix in suffixes.split()}
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Entry:
    """One file that a source offers: its path, size in bytes and sha256, where the source tells them."""

    path: str
    size: int | None
    sha256: str | None
    tag: str | None = None
    """What pins the file where the source has no commits; every later request names it."""
    measured: bool = False
    """Whether the digest is what the resolver read, and not what the source says."""


@dataclass(frozen=True)
class Choice:
    """One model: a single GGUF file, or all parts of a split one in order."""

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Selection:
    """The files of one model and their format; of safetensors also the folder that they lie in."""

    format: Format
    entries: tuple[Entry, ...]
    folder: str = ""

    @property
    def weights(self) -> tuple[Entry, ...]:
        """Return the files with tensors, in the order of their parts."""
        if self.format == "GGUF":
            return self.entries
        return tuple(entry for entry in self.entries if is_weights(entry.path.removeprefix(self.folder)))


def choose(entries: Sequence[Entry], source: Source) -> Selection:
    """Return the files of the one model that a source means, or raise SourceError.

    GGUF wins where both formats are there, unless the source prefers safetensors; a quantization names GGUF.
    """
    ggufs = any(entry.path.lower().endswith(".gguf") and _matches(entry, source.files) for entry in entries)
    others = any(_is_shard(entry) and _matches(entry, source.files) for entry in entries)
    if others and source.quantization is None and (not ggufs or source.prefer == "Safetensors"):
        return _repository(entries, source.files)
    chosen = select(entries, globs=source.files, quantization=source.quantization)
    return Selection("GGUF", chosen)


def select(entries: Sequence[Entry], *, globs: Sequence[str], quantization: str | None) -> tuple[Entry, ...]:
    """Return the files of the one model that globs and quantization pick, or raise SourceError.

    Without globs every GGUF file is offered but projectors (`mmproj*`), which are no models by themselves.
    """
    offered = _offered(entries, globs)
    choices = group_choices(offered)
    if quantization is not None:
        matching = [choice for choice in choices if has_quantization(choice.name, quantization)]
        if not matching:
            raise SourceError(
                Reason.QuantizationNotFound,
                f"Expected a GGUF file with quantization {quoted(quantization)}; the source offers "
                f"{listed(choice.name for choice in choices)}. Set source.quantization to one of those.",
            )
        choices = matching
    if len(choices) > 1:
        raise SourceError(
            Reason.QuantizationAmbiguous,
            f"Expected one model; {len(choices)} match: {listed(choice.name for choice in choices)}. "
            "Set source.quantization, or source.files to one of them.",
        )
    return _complete(choices[0])


def group_choices(entries: Sequence[Entry]) -> list[Choice]:
    """Group GGUF files into models: split parts count as one, in the order of their numbers."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        found = _SPLIT.match(entry.path)
        name = f"{found['stem']}-of-{found['parts']}.gguf" if found else entry.path
        groups.setdefault(name, []).append(entry)
    return [
        Choice(name, tuple(sorted(group, key=lambda entry: entry.path))) for name, group in sorted(groups.items())
    ]


def has_quantization(path: str, quantization: str) -> bool:
    """Tell whether a path names exactly this quantization: Q4_K is not in model-Q4_K_M.gguf."""
    pattern = rf"(?<![A-Za-z0-9]){re.escape(quantization)}(?![A-Za-z0-9_])"
    return re.search(pattern, path, re.IGNORECASE) is not None


def _offered(entries: Sequence[Entry], globs: Sequence[str]) -> list[Entry]:
    matching = [entry for entry in entries if _matches(entry, globs)]
    _refuse_unsafe([entry for entry in matching if entry.path in globs and not _WILD.search(entry.path)])
    if globs and not matching:
        raise SourceError(
            Reason.FileNotFound,
            f"Expected files that match {listed(globs)}; the source has "
            f"{listed(entry.path for entry in entries) or 'no files'}. Correct source.files.",
        )
    ggufs = [entry for entry in matching if entry.path.lower().endswith(".gguf")]
    if not globs:
        ggufs = [entry for entry in ggufs if not entry.path.rsplit("/", 1)[-1].lower().startswith("mmproj")]
    if not ggufs:
        _refuse_unsafe(matching)
        raise SourceError(
            Reason.UnsupportedFormat,
            f"Expected a .gguf file, or model.safetensors or its parts; found "
            f"{listed(entry.path for entry in matching) or 'no files'}. Use a source that holds the model so.",
        )
    return ggufs


def _matches(entry: Entry, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(entry.path, glob) for glob in globs)


def _refuse_unsafe(entries: Sequence[Entry]) -> None:
    for entry in entries:
        why = _FLAWS.get(entry.path[entry.path.rfind(".") :].lower())
        if why is not None:
            raise SourceError(
                Reason.UnsafeFormat,
                f"Expected a .gguf file, or model.safetensors or its parts; {quoted(entry.path)} {why}. Use a "
                "source that holds the model so.",
            )


def _is_shard(entry: Entry) -> bool:
    return is_weights(split_path(entry.path)[1])


def _repository(entries: Sequence[Entry], globs: Sequence[str]) -> Selection:
    """Return the files of the model in the one folder whose tensors match; what lies beside them comes along."""
    _refuse_unsafe([entry for entry in entries if entry.path in globs and not _WILD.search(entry.path)])
    folders = {split_path(entry.path)[0] for entry in entries if _is_shard(entry) and _matches(entry, globs)}
    folder = "" if "" in folders and not globs else min(folders)
    if len(folders) > 1 and folder:
        raise SourceError(
            Reason.QuantizationAmbiguous,
            f"Expected one model; safetensors lie in {listed(folders)}. Set source.files to those of one folder.",
        )
    inside = {entry.path.removeprefix(folder): entry for entry in entries if entry.path.startswith(folder)}
    names = needed(name for name in inside if belongs(name))
    if CONFIG not in names:
        raise SourceError(
            Reason.FileNotFound,
            f"Expected {quoted(folder + CONFIG)} beside the tensors, which tells what they are; the source "
            "has none. Use a whole repository, as transformers saves it.",
        )
    _whole(folder, names)
    chosen = tuple(inside[name] for name in names)
    _check_paths(chosen)
    return Selection("Safetensors", chosen, folder)


def _whole(folder: str, names: Sequence[str]) -> None:
    """Raise unless every part is there exactly once and a message can hold the files."""
    parts = [(int(found["part"]), int(found["parts"])) for name in names if (found := SHARD.match(name))]
    total = parts[0][1] if parts else 0
    if sorted(parts) != [(number, total) for number in range(1, total + 1)]:
        raise SourceError(
            Reason.FileNotFound,
            f"Expected parts 1 to {total} of {quoted(folder + 'model.safetensors')}; found "
            f"{sorted(number for number, _ in parts)}. Use a source that is complete.",
        )
    if len(names) > MAX_FILES:
        raise SourceError(
            Reason.TooManyFiles,
            f"Expected at most {MAX_FILES} files; the model has {len(names)}, {total} of them parts. Save it in "
            "larger parts.",
        )


def _check_paths(entries: Sequence[Entry]) -> None:
    for entry in entries:
        flaw = unsafe_path(entry.path)
        if flaw is not None:
            raise SourceError(
                Reason.UnsafePath, f"The source names a file {quoted(entry.path)}: {flaw}. Use another source."
            )


def _complete(choice: Choice) -> tuple[Entry, ...]:
    _check_paths(choice.entries)
    split = _SPLIT.match(choice.entries[0].path)
    if split is None:
        return choice.entries
    parts = int(split["parts"])
    if parts > MAX_FILES:
        raise SourceError(
            Reason.TooManyFiles,
            f"Expected at most {MAX_FILES} files; {quoted(choice.name)} has {parts} parts. "
            "Use a source with larger or unsplit files.",
        )
    found = [int(match["part"]) for entry in choice.entries if (match := _SPLIT.match(entry.path))]
    if found != list(range(1, parts + 1)):
        raise SourceError(
            Reason.FileNotFound,
            f"Expected parts 1 to {parts} of {quoted(choice.name)}; found {found}. "
            "Widen source.files, or use a source that is complete.",
        )
    return choice.entries
