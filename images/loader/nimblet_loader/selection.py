# SPDX-License-Identifier: Apache-2.0
"""Picks the files of one model out of a source's listing. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from nimblet_egress.errors import Reason, SourceError, listed, quoted
from nimblet_egress.paths import unsafe_path
from nimblet_loader.contract import MAX_FILES, Format, Source
from nimblet_loader.quantization import has_quantization, is_companion, is_dynamic, label_of
from nimblet_loader.repository import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    SHARD,
    belongs,
    is_weights,
    needed,
    split_path,
)
from nimblet_loader.split import is_raw_piece, part_of

_UNSAFE = {
    ".bin .pt .pth .pkl .pickle .ckpt .joblib .dill .npy .npz .t7 .h5 .hdf5 .keras .pb .mar .nemo": "can hold "
    "code that runs when it is loaded",
    ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .whl": "is an archive, and none is unpacked",
    ".py .pyc .sh .so .dll .dylib .exe .jar .js .ipynb": "is a program, and none is run",
}
"""Why files by their last suffix are never loaded. What is not here and of no model isn't loaded either."""
_FLAWS = {suffix: why for suffixes, why in _UNSAFE.items() for suffix in suffixes.split()}
_LISTED = 32
"""Candidates named in a message; their names are short where they are many."""
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

    @property
    def size(self) -> str:
        """Return the size for people, "" where the source tells none."""
        sizes = [entry.size for entry in self.entries if entry.size is not None]
        if len(sizes) < len(self.entries):
            return ""
        return f" ({sum(sizes) / 2**20:.0f} MiB)" if sum(sizes) < 2**30 else f" ({sum(sizes) / 2**30:.1f} GiB)"


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
        names = {entry: entry.path.removeprefix(self.folder) for entry in self.entries}
        return tuple(entry for entry, name in names.items() if is_weights(name) or name == ADAPTER_WEIGHTS)


def choose(entries: Sequence[Entry], source: Source) -> Selection:
    """Return the files of the one model that a source means, or raise SourceError.

    GGUF wins where both formats are there, unless the source prefers safetensors; a quantization names GGUF.
    """
    if source.adapter:
        return _adapter(entries, source)
    ggufs = any(entry.path.lower().endswith(".gguf") and _matches(entry, source.files) for entry in entries)
    others = any(_is_shard(entry) and _matches(entry, source.files) for entry in entries)
    if others and source.quantization is None and (not ggufs or source.prefer == "Safetensors"):
        return _repository(entries, source.files)
    chosen = select(entries, globs=source.files, quantization=source.quantization)
    return Selection("GGUF", chosen)


def stray(paths: Sequence[str], source: Source) -> str | None:
    """Return the first of an artifact's files that `files` or `quantization` do not choose; None where all fit.

    Of safetensors `files` choose the tensors, and what lies beside them comes along whatever its name.
    """
    ggufs = [path for path in paths if path.lower().endswith(".gguf")]
    tensors = ggufs or [path for path in paths if split_path(path)[1] == ADAPTER_WEIGHTS or _is_tensors(path)]
    wanted = [path for path in tensors if _globbed(path, source.files)]
    if not wanted or (ggufs and len(wanted) < len(ggufs)):
        return next(path for path in tensors or paths if path not in wanted)
    quantization = source.quantization
    return next((path for path in ggufs if quantization and not has_quantization(path, quantization)), None)


def _adapter(entries: Sequence[Entry], source: Source) -> Selection:
    """Return the files of the one adapter: a GGUF file, or in one folder what PEFT writes."""
    matching = [entry for entry in entries if _matches(entry, source.files)]
    ggufs = any(entry.path.lower().endswith(".gguf") for entry in matching)
    folders = {entry.path.removesuffix(ADAPTER_WEIGHTS) for entry in matching if _is_peft(entry)}
    if not ggufs and not folders and any(_is_shard(entry) for entry in matching):
        raise SourceError(
            Reason.NotAnAdapter,
            f"Expected {ADAPTER_WEIGHTS} and {ADAPTER_CONFIG}, or a .gguf file; the source holds a model. Name "
            "the adapter's own files in the adapter's source, and the model in spec.source.",
        )
    if not folders or (ggufs and source.prefer != "Safetensors"):
        return Selection("GGUF", select(entries, globs=source.files, quantization=None))
    folder = min(folders)
    if len(folders) > 1:
        raise SourceError(
            Reason.QuantizationAmbiguous,
            f"Expected one adapter; {ADAPTER_WEIGHTS} lies in {listed(folders)}. Set source.files to those of one "
            "folder.",
        )
    names = (folder + ADAPTER_CONFIG, folder + ADAPTER_WEIGHTS)
    chosen = tuple(entry for entry in entries if entry.path in names)
    if len(chosen) != len(names):
        raise SourceError(
            Reason.FileNotFound,
            f"Expected {quoted(names[0])} beside the adapter's tensors, which tells what they are; the source has "
            "none. Use a whole adapter, as PEFT saves it.",
        )
    _check_paths(chosen)
    return Selection("Safetensors", chosen, folder)


def _is_peft(entry: Entry) -> bool:
    return entry.path.rpartition("/")[2] == ADAPTER_WEIGHTS


def select(entries: Sequence[Entry], *, globs: Sequence[str], quantization: str | None) -> tuple[Entry, ...]:
    """Return the files of the one model that globs and quantization pick, or raise SourceError.

    Without globs every GGUF file is offered but those that are no models by themselves (`mmproj*` and others).
    """
    choices = group_choices(_offered(entries, globs))
    if quantization is not None:
        choices = _quantized(choices, quantization, [entry.path for entry in entries])
    if len(choices) > 1:
        raise SourceError(
            Reason.QuantizationAmbiguous,
            f"Expected one model; {len(choices)} match: {_candidates(choices)}. {_way_out(choices, quantization)}",
        )
    return _complete(choices[0])


def _quantized(choices: Sequence[Choice], quantization: str, paths: Sequence[str]) -> list[Choice]:
    """Return the choices of a quantization; a plain one wins over the dynamic one of the same name."""
    matching = [choice for choice in choices if has_quantization(choice.name, quantization)]
    if matching:
        return [choice for choice in matching if not is_dynamic(choice.name)] or matching
    raw = sorted(path for path in paths if is_raw_piece(path) and has_quantization(path, quantization))
    pieces = f" {quoted(raw[0])} is a piece of a file cut up as bytes, which no server loads." if raw else ""
    raise SourceError(
        Reason.QuantizationNotFound,
        f"Expected a GGUF file with quantization {quoted(quantization)}; the source offers {_candidates(choices)}."
        f"{pieces} Set source.quantization to one of those.",
    )


def _candidates(choices: Sequence[Choice]) -> str:
    """Return what there is with sizes: by quantization where that tells them apart, else by name."""
    labels = {label_of(choice.name): choice for choice in choices}
    told = labels if len(labels) == len(choices) and "" not in labels else {item.name: item for item in choices}
    shown = [f"{quoted(name)}{choice.size}" for name, choice in sorted(told.items())[:_LISTED]]
    more = f" and {len(told) - _LISTED} more" if len(told) > _LISTED else ""
    return ", ".join(shown) + more


def _way_out(choices: Sequence[Choice], quantization: str | None) -> str:
    """Return what tells one from the others."""
    labels = {label_of(choice.name) for choice in choices}
    if quantization is None and len(labels) == len(choices):
        return "Set source.quantization to one of them."
    if quantization is None and len(labels) > 1:
        return "Set source.quantization, or source.files to one of them."
    return "Set source.files to one of them, instead of source.quantization."


def group_choices(entries: Sequence[Entry]) -> list[Choice]:
    """Group GGUF files into models: split parts count as one, in the order of their numbers."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        part = part_of(entry.path)
        name = part.whole if part is not None else entry.path
        groups.setdefault(name, []).append(entry)
    return [
        Choice(name, tuple(sorted(group, key=lambda entry: entry.path))) for name, group in sorted(groups.items())
    ]


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
        ggufs = [entry for entry in ggufs if not is_companion(entry.path)]
    if not ggufs:
        _refuse_unsafe(matching)
        raise SourceError(
            Reason.UnsupportedFormat,
            f"Expected a .gguf file, or model.safetensors or its parts; found "
            f"{listed(entry.path for entry in matching) or 'no files'}. Use a source that holds the model so.",
        )
    return ggufs


def _matches(entry: Entry, globs: Sequence[str]) -> bool:
    return _globbed(entry.path, globs)


def _globbed(path: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(path, glob) for glob in globs)


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
    return _is_tensors(entry.path)


def _is_tensors(path: str) -> bool:
    return is_weights(split_path(path)[1])


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
            Reason.PartMissing,
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
    part = part_of(choice.entries[0].path)
    if part is None:
        return choice.entries
    if part.count > MAX_FILES:
        raise SourceError(
            Reason.TooManyFiles,
            f"Expected at most {MAX_FILES} files; {quoted(choice.name)} has {part.count} parts. Use a source with "
            "larger or unsplit files, or a smaller quantization.",
        )
    found = [other.number for entry in choice.entries if (other := part_of(entry.path)) is not None]
    missing = sorted(set(range(1, part.count + 1)) - set(found))
    if missing or len(found) != part.count:
        raise SourceError(
            Reason.PartMissing,
            f"Expected parts 1 to {part.count} of {quoted(choice.name)}; found {found}. Widen source.files, or "
            "use a source that holds them all: an https:// source names one file alone.",
        )
    return choice.entries
