# SPDX-License-Identifier: Apache-2.0
"""Published argument lists of the pinned servers: files with one flag a line, `--flag` or `--flag VALUE`.

`read_help` makes the same of what `llama-server --help` prints: the built server is compared with its file.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "contract" / "arguments"
_FLAG: Final = re.compile(r"--?[A-Za-z][A-Za-z0-9-]*$")


def published(runtime: str, version: str) -> Mapping[str, bool]:
    """Return the flags of a version: whether a value follows each."""
    path = FOLDER / f"{runtime.lower()}-{version}.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    return {flag: bool(value) for flag, *value in words}


def read_help(text: str) -> Mapping[str, bool]:
    """Return the flags that llama.cpp's --help lists: names first, then the value's name, then the description.

    It lists removed ones too, which end the server, and says so.
    """
    found: dict[str, bool] = {}
    entries: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("-") and not line.startswith("---"):
            entries.append([line])
        elif entries and line.startswith(" "):
            entries[-1].append(line)
    for first, *more in entries:
        if _REMOVED in " ".join(" ".join([first, *more]).split()):
            continue
        names, rest = _names(first.split())
        described = len(first) > _COLUMN and first[_COLUMN - 1] == " " and first[_COLUMN] != " "
        head = first[:_COLUMN].split() if described else first.split()
        found.update(dict.fromkeys(names, len(head) > len(names) and bool(rest)))
    return found


_REMOVED: Final = "argument has been removed"
_COLUMN: Final = 40
"""Where descriptions begin; a longer head has its description in the next line."""


def _names(words: Iterable[str]) -> tuple[list[str], list[str]]:
    names: list[str] = []
    rest = list(words)
    while rest and _FLAG.fullmatch(rest[0].rstrip(",")):
        names.append(rest.pop(0).rstrip(","))
    return names, rest


def unpublished(args: Iterable[str], flags: Mapping[str, bool]) -> list[str]:
    """Return what of an argv no flag of these explains: unknown flags, and words that follow none."""
    wrong = []
    words = list(args)
    while words:
        word = words.pop(0)
        if word not in flags:
            wrong.append(word)
        elif flags[word]:
            words.pop(0)
    return wrong
