# SPDX-License-Identifier: Apache-2.0
"""Where the cluster recorded a failure: the time from which a row counts its seconds, by the cluster's own clock.

Kubernetes stores whole seconds, cut off, so that a row may measure up to one second too much.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from e2e.matrix.scene import Scene
from e2e.support.objects import Ended, Pod
from e2e.support.wait import until

PATIENCE_SECONDS: Final = 60.0
"""For what was recorded already and is under way to the watch."""
PULL_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})


@dataclass(frozen=True)
class Record:
    """What stands in the table, and how the time is found; `applied` is when the row broke something."""

    words: str
    find: Callable[[Scene, datetime], datetime | None]

    def at(self, scene: Scene, applied: datetime) -> datetime:
        """Return the time; the watch may bring it a little after the condition."""
        return until(lambda: self.find(scene, applied), what=f"to find {self.words}", seconds=PATIENCE_SECONDS)


APPLIED: Final = Record("the change itself", lambda _, applied: applied)


def ended(component: str, *, reason: str = "", good: bool = False) -> Record:
    """Count from the first end of a component's container: a failed one, or for `good` the first that did well."""

    def find(scene: Scene, _: datetime) -> datetime | None:
        ends = (end for _, pod in scene.pod_versions(component) for end in _ends(pod))
        wanted = (end for end in ends if (end.exit_code == 0) is good and reason in ("", end.reason))
        return min((end.finished_at for end in wanted if end.finished_at is not None), default=None)

    what = {"resolver": "the resolver's end", "model": "the container's end"}[component]
    return Record(f"{what}{f' ({reason})' if reason else ''}", find)


def _ends(pod: Pod) -> Iterator[Ended]:
    for container in pod.containers:
        yield from (
            end for end in (container.state.terminated, container.last_state.terminated) if end is not None
        )


def event(reason: str) -> Record:
    """Count from the first Event of a reason."""

    def find(scene: Scene, applied: datetime) -> datetime | None:
        times = [item.at for item in scene.kube.events(scene.namespace) if item.reason == reason]
        return min((at for at in times if at is not None and at >= applied.replace(microsecond=0)), default=None)

    return Record(f"the Event {reason}", find)


def pod_condition(type_: str, status: str) -> Record:
    """Count from the transition of a server pod's condition."""

    def find(scene: Scene, _: datetime) -> datetime | None:
        found = (pod.condition(type_) for _, pod in scene.pod_versions("model"))
        times = (item.last_transition_time for item in found if item is not None and item.status == status)
        return min((at for at in times if at is not None), default=None)

    return Record(f"the pod's condition {type_}", find)


def _pull_failed(scene: Scene, _: datetime) -> datetime | None:
    for seen_at, pod in scene.pod_versions("resolver"):
        if any(
            item.state.waiting is not None and item.state.waiting.reason in PULL_REASONS for item in pod.containers
        ):
            return seen_at
    return None


PULL: Final = Record("the pod's status, as a watcher saw it", _pull_failed)
"""A waiting state has no time of its own."""
