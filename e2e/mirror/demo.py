# SPDX-License-Identifier: Apache-2.0
"""The demo's hub: the real models, and repositories that fail in the ways that the tests provoke. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

SPLIT_REPO = "nimblet-tests/split-GGUF"
BROKEN_FILE = "not-a-model.gguf"
BROKEN_CONTENT = b"<!doctype html><title>Sign in</title><p>This is not a model file.</p>\n"
"""What a captive portal or a login page gives instead of a model."""


@dataclass(frozen=True)
class ModelEntry:
    """A real model's repository and file name; the file lies beside the hub's configuration."""

    repo: str
    file: str


def hub_document(
    models: tuple[ModelEntry, ...], tampered: tuple[ModelEntry, ...] = (), *, parts: tuple[str, ...] = ()
) -> dict[str, object]:
    """The hub's configuration (see catalog.read_hub); the first model is the one that faults are shown with.

    Of `tampered` a byte is changed on its way. `parts` are the files of a split model, served in a repository as
    publishers of many quantizations lay it out.
    """
    first = models[0]
    real: list[dict[str, object]] = [{"id": entry.repo, "files": {entry.file: entry.file}} for entry in models]
    faulty = [_entry(f"faults/{name}", first.file, extra=extra) for name, extra in _FAULTS.items()]
    changed = [_entry(entry.repo, entry.file, extra=_FAULTS["wrong-digest"]) for entry in tampered]
    broken = _entry("faults/not-a-model", BROKEN_FILE, extra={})
    plain: list[dict[str, object]] = [{"name": entry.file, "path": entry.file} for entry in models]
    split: list[dict[str, object]] = [_split(parts)] if parts else []
    return {
        "repos": [*real, *split, *faulty, *changed, broken],
        "plain": [*plain, {"name": BROKEN_FILE, "path": BROKEN_FILE}],
    }


_FAULTS: Mapping[str, Mapping[str, object]] = {
    "gated": {"access": "token"},
    "closed": {"access": "closed"},
    "forbidden": {"access": "forbidden"},
    "sized": {},
    "ends": {"fault": {"end_at_byte": 20_000_000}},
    "wrong-digest": {"fault": {"flip_byte": True}},
    "stalled": {"fault": {"stall_at_byte": 20_000_000}},
    "cut": {"fault": {"cut_after_bytes": 20_000_000}},
    "slow": {"fault": {"bytes_per_second": 5_000_000}},
    "no-range": {"fault": {"cut_after_bytes": 20_000_000, "ignore_range": True}},
    "unavailable": {"fault": {"unavailable": True}},
    "direct": {"redirect": False},
}


def _split(parts: tuple[str, ...]) -> dict[str, object]:
    """Return a repository with a folder for each quantization, and beside them what is no model."""
    beside = ("Q8_0/small-Q8_0-00001-of-00002.gguf", "small-UD-Q4_1.gguf", "mmproj-F16.gguf", "imatrix.gguf")
    files = {**{f"Q4_1/{name}": name for name in parts}, **dict.fromkeys(beside, BROKEN_FILE)}
    return {"id": SPLIT_REPO, "files": files}


def _entry(repo: str, file: str, *, extra: Mapping[str, object]) -> dict[str, object]:
    return {"id": repo, "files": {file: file}, **extra}
