# SPDX-License-Identifier: Apache-2.0
"""Everything that happens to objects of a kind, in order and with the time it was seen: `kubectl get --watch`.

For what a poll would miss: a state between two others, and how soon a state was told.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO

from e2e.cluster.cluster import Cluster
from e2e.support.wait import until

DELIVERY_SECONDS = 60.0
"""For what happened already and is under way to who looks; when it happened is measured by its own time."""


@dataclass(frozen=True)
class Sighting:
    """One version of an object."""

    seen_at: datetime
    event: str
    """ADDED, MODIFIED or DELETED."""
    body: dict[str, object]


@dataclass
class Watch:
    """What was seen so far; `sightings` grows while the block of `watch` runs."""

    sightings: list[Sighting] = field(default_factory=list)

    def read(self, stream: IO[str]) -> None:
        """Take in one JSON document a line until the stream ends."""
        for line in stream:
            document = json.loads(line)
            seen = Sighting(datetime.now(UTC), str(document["type"]), dict(document["object"]))
            self.sightings.append(seen)

    def first(self, holds: Callable[[Sighting], bool], *, what: str) -> Sighting:
        """Return the first sighting of which `holds` is true, waiting a little for one under way."""
        return until(
            lambda: next((item for item in list(self.sightings) if holds(item)), None),
            what=f"to see {what}",
            seconds=DELIVERY_SECONDS,
            seen=lambda: f"{len(self.sightings)} sightings without it",
        )


@contextmanager
def watch(cluster: Cluster, kind: str, namespace: str) -> Iterator[Watch]:
    """Watch a kind in a namespace while the block runs."""
    argv = [str(cluster.kubectl_binary), f"--kubeconfig={cluster.kubeconfig}", "get", kind]
    argv += [f"--namespace={namespace}", "--watch", "--output-watch-events", "--output=json"]
    watched = Watch()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        if process.stdout is None:
            raise ValueError("expected a pipe from kubectl, found none")
        reader = threading.Thread(target=watched.read, args=(process.stdout,), name=f"watch-{kind}")
        reader.start()
        try:
            yield watched
        finally:
            process.terminate()
            reader.join()
