# SPDX-License-Identifier: Apache-2.0
"""What the servers behind a store say of themselves, and which versions of Qdrant are known. Pure values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nimblet_retriever.store.chunk import StoreError, StoreUnsupported

OLDEST: Final = (1, 16)
"""The first that keeps metadata with a collection, where a generation's manifest stands."""
NEWEST: Final = (1, 18)
"""The newest whose REST interface the requests here were compared with."""
_VERSION: Final = re.compile(r"^v?(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class ServerLook:
    """One address of servers: their version, our collections there, and whether questions or pushes go there."""

    url: str
    used: bool
    version: str = ""
    collections: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a store's servers stand that answer; empty of a store that has none."""

    servers: tuple[ServerLook, ...] = ()
    full: bool = False
    """A write met a full disk, and still does."""
    trouble: StoreError | None = None
    """What is wrong though searches are answered."""
    note: str = ""
    """What there is to say of servers that are in order."""


ALONE: Final = Look()
"""A store without a server."""


def version_note(version: str) -> str:
    """Return what there is to say of a server's version. StoreUnsupported for one that is too old."""
    found = _VERSION.match(version)
    if found is None:
        return f"The Qdrant server calls its version {version[:40]!r}, which can't be compared."
    numbers = (int(found[1]), int(found[2]))
    if numbers < OLDEST:
        raise StoreUnsupported(f"the Qdrant server is {version[:40]}; run {_words(OLDEST)} or newer")
    if numbers > NEWEST:
        return f"The Qdrant server is {version[:40]}, newer than {_words(NEWEST)}, the newest that is known here."
    return ""


def joined(looks: Sequence[Look]) -> Look:
    """Return the looks at several addresses as one."""
    return Look(
        servers=tuple(item for look in looks for item in look.servers),
        full=any(look.full for look in looks),
        trouble=next((look.trouble for look in looks if look.trouble is not None), None),
        note=next((look.note for look in looks if look.note), ""),
    )


def _words(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
