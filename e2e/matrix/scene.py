# SPDX-License-Identifier: Apache-2.0
"""One row's stage: a namespace of its own, and two watches that see everything in it. Decides nothing.

It waits on what the watches saw instead of asking again and again, so that many rows fit on two cores.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from e2e.support.kube import Kube, conditions_text
from e2e.support.manifests import SMOLLM2_URI, Manifest, model_manifest, namespace_manifest
from e2e.support.objects import Model, Pod
from e2e.support.wait import until
from e2e.support.watching import Sighting, Watch, watch

NAME: Final = "model"
SERVER: Final = f"{NAME}-model"
RESOURCES: Final = {"cpu": "50m"}
"""Less than is computed, so that a node of two cores holds the pods of several rows."""
RUNTIME: Final[Manifest] = {"contextLength": 1024, "parallel": 1}


@dataclass(frozen=True)
class Wish:
    """The parts of a CompactModel's spec that rows vary; `{…}` in the URI stands for a size of `Scene.sizes`."""

    uri: str = SMOLLM2_URI
    source: Mapping[str, object] = field(default_factory=dict)
    spec: Mapping[str, object] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """The namespace and what was seen in it so far."""

    kube: Kube
    namespace: str
    models: Watch
    pods: Watch

    def apply(self, wish: Wish) -> int:
        """Apply the model and return the generation that this made."""
        uri = wish.uri.format_map(self.sizes()) if "{" in wish.uri else wish.uri
        spec = {**wish.spec, "resources": {**RESOURCES, **wish.resources}}
        self.kube.apply(model_manifest(NAME, self.namespace, uri=uri, source=dict(wish.source), **spec))
        return self.kube.model(NAME, self.namespace).metadata.generation

    def put(self, manifest: Manifest) -> None:
        """Apply any other object of the namespace."""
        self.kube.apply(manifest)

    def delete(self, kind: str, *names: str) -> None:
        """Delete objects of the namespace, or cluster-scoped ones."""
        self.kube.run("delete", kind, *names, f"--namespace={self.namespace}", "--ignore-not-found")

    def mark(self) -> int:
        """Return where the watch of the model stands: what comes later was seen later."""
        return len(self.models.sightings)

    def after(self, sighting: Sighting) -> int:
        """Return where the watch of the model stood once it had seen this."""
        return 1 + next(place for place, seen in enumerate(self.models.sightings) if seen is sighting)

    def wait(self, holds: Callable[[Model], bool], *, since: int, what: str, seconds: float) -> Sighting:
        """Return the first sighting of the model from `since` on of which `holds` is true."""
        place = since

        def look() -> Sighting | None:
            nonlocal place
            for sighting in self.models.sightings[place:]:
                place += 1
                if holds(Model.model_validate(sighting.body)):
                    return sighting
            return None

        named = f"{what} of {self.namespace}"
        return until(look, what=named, seconds=seconds, seen=self.shown)

    def shown(self) -> str:
        """Return the conditions as they are now."""
        return conditions_text(self.kube.model(NAME, self.namespace))

    def pod_versions(self, component: str) -> Iterator[tuple[datetime, Pod]]:
        """Return every version of the pods of a component, with the time each was seen."""
        for sighting in list(self.pods.sightings):
            pod = Pod.model_validate(sighting.body)
            if pod.metadata.labels.get("app.kubernetes.io/component") == component:
                yield sighting.seen_at, pod

    def servers(self) -> frozenset[tuple[str, int]]:
        """Return the server pods that are not ending: uid and restarts."""
        pods = self.kube.pods(self.namespace, model=NAME, component="model")
        return frozenset(
            (pod.metadata.uid, pod.restarts) for pod in pods if pod.metadata.deletion_timestamp is None
        )

    def sizes(self) -> Mapping[str, int]:
        """Return a file's size that no node holds, and one that a node might hold but for what is on it."""
        (node,) = self.kube.items("nodes", "")
        name = _text(node, "metadata", "name")
        allocatable = int(_text(node, "status", "allocatable", "ephemeral-storage"))
        summary = json.loads(self.kube.run("get", "--raw", f"/api/v1/nodes/{name}/proxy/stats/summary"))
        free = int(summary["node"]["fs"]["availableBytes"])
        return {"too_large": 2 * allocatable, "no_room": free + (allocatable - free) // 3}


def _text(document: Mapping[str, object], *path: str) -> str:
    """Return a string deep inside a document."""
    value: object = document
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            raise LookupError(f"expected {'.'.join(path)}, found no {key}")
        value = value[key]
    return str(value)


@contextmanager
def scene_of(kube: Kube, namespace: str) -> Iterator[Scene]:
    """Make the namespace (restricted, as all of the scenarios) and watch it while the block runs."""
    kube.run("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")
    kube.apply(namespace_manifest(namespace))
    with (
        watch(kube.cluster, "compactmodels", namespace) as models,
        watch(kube.cluster, "pods", namespace) as pods,
    ):
        yield Scene(kube, namespace, models, pods)


_POD: Final = re.compile(r"\b(\S+-model-)[0-9a-z]{6,10}-[0-9a-z]{5}\b")
_JOB: Final = re.compile(r"\b(\S+-resolve-)[0-9a-z]+-\d+(-[0-9a-z]{5})?\b")


def unnamed(message: str) -> str:
    """Return a message without the parts of pods' names that differ from run to run."""
    return _JOB.sub(r"\1…", _POD.sub(r"\1…", message))


def now() -> datetime:
    """Return the time by which sightings are stamped too."""
    return datetime.now(UTC)
