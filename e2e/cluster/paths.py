# SPDX-License-Identifier: Apache-2.0
"""Where things live: the cache of built tools, and one state folder a cluster.

Both are outside the source tree. Nothing is created here; the writers do that.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError

# 8 characters, since a network interface's name (15 at most) is made of it
NAME_PATTERN = re.compile(r"[a-z][a-z0-9]{0,7}")


@dataclass(frozen=True)
class Cache:
    """The cache folder, `$NIMBLET_CACHE` or `~/.cache/nimblet`; may be deleted at any time."""

    root: Path

    @property
    def bin(self) -> Path:
        """Built binaries, in a folder `<tool>-<version>` each."""
        return self.root / "bin"

    @property
    def logs(self) -> Path:
        """Logs of builds."""
        return self.root / "logs"

    def state(self, name: str) -> Path:
        """The state folder of the cluster called `name`."""
        if not NAME_PATTERN.fullmatch(name):
            message = f"a cluster's name is 1 to 8 of a-z and 0-9, a letter first; found {name!r}; use another one"
            raise ClusterError(message)
        return self.root / "cluster" / name


def cache_of(environment: Mapping[str, str]) -> Cache:
    """Return the cache that the environment asks for."""
    chosen = environment.get("NIMBLET_CACHE")
    return Cache(root=Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "nimblet")
