# SPDX-License-Identifier: Apache-2.0
"""Troubles of an index or an Assistant as they are told: the first sight of a reason, what healed it, a table.

It watches and times; what breaks and what heals is the scenario's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from e2e.support.answers import ASSISTANT, INDEX
from e2e.support.kube import Kube
from e2e.support.objects import Pod, Resource
from e2e.support.wait import until
from e2e.support.watching import Sighting, Watch, watch

SOON: Final = timedelta(seconds=15)
CLOCK_GRAIN: Final = timedelta(seconds=1)
PATIENCE_SECONDS: Final = 240.0
"""For builds, too: what records a failure may be the end of one."""
MODELS: Final = "compactmodel"
PODS: Final = "pods"
F = TypeVar("F")
HEALTHY: Final = {"Ready": "True", "Serving": "True"}


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A row of the table; seconds from the record to the sight of the reason, and from the cure to Ready."""

    title: str
    reason: str
    message: str
    recorded: str
    told_seconds: float
    cure: str
    healed_seconds: float


@dataclass(frozen=True)
class Told:
    """A condition as it was seen first."""

    seen_at: datetime
    reason: str
    message: str


@dataclass(frozen=True)
class Stage:
    """Everything that happens to the resources of one namespace, and the rows so far."""

    watches: Mapping[str, Watch]
    rows: list[Trouble] = field(default_factory=list)

    def told(self, kind: str, name: str, wanted: Mapping[str, str], *, since: datetime, words: str = "") -> Told:
        """Wait for conditions (statuses or reasons, the first one's words) seen later than `since`."""
        first = next(iter(wanted))

        def holds(sighting: Sighting) -> Told | None:
            found = Resource.model_validate(sighting.body)
            if found.metadata.name != name or sighting.seen_at < since:
                return None
            shown = {type_: found.shown(type_) for type_ in wanted}
            condition = found.condition(first)
            if condition is None or words not in condition.message:
                return None
            good = all(value in shown[type_] for type_, value in wanted.items())
            return Told(sighting.seen_at, condition.reason, condition.message) if good else None

        return self._first(kind, holds, what=f"{dict(wanted)} of {kind} {name}")

    def pod_ended(self, prefix: str, *, since: datetime) -> datetime:
        """Return when a container of such a pod ended in failure, by the kubelet's own record."""

        def holds(sighting: Sighting) -> datetime | None:
            pod = Pod.model_validate(sighting.body)
            if not pod.metadata.name.startswith(prefix) or sighting.seen_at < since:
                return None
            states = [state for item in pod.containers for state in (item.state, item.last_state)]
            ends = [state.terminated for state in states if state.terminated is not None]
            failed = [end.finished_at for end in ends if end.exit_code != 0 and end.finished_at is not None]
            # an older pod may be seen once more, and times are whole seconds, cut off
            return min((at for at in failed if at >= since - CLOCK_GRAIN), default=None)

        return self._first(PODS, holds, what=f"the end of a pod {prefix}…")

    def pod_ready(self, prefix: str, *, since: datetime) -> datetime:
        """Return when such a pod that was made after `since` was seen to be ready."""
        older = set()

        def holds(sighting: Sighting) -> datetime | None:
            pod = Pod.model_validate(sighting.body)
            if sighting.seen_at < since:
                older.add(pod.metadata.uid)
            ours = pod.metadata.name.startswith(prefix) and pod.metadata.uid not in older
            return sighting.seen_at if ours and pod.ready else None

        return self._first(PODS, holds, what=f"a new pod {prefix}… to be ready")

    def pod_gone(self, prefix: str, *, since: datetime) -> datetime:
        """Return when such a pod was seen to be no longer ready, or gone."""

        def holds(sighting: Sighting) -> datetime | None:
            pod = Pod.model_validate(sighting.body)
            ours = pod.metadata.name.startswith(prefix) and sighting.seen_at >= since
            return sighting.seen_at if ours and (sighting.event == "DELETED" or not pod.ready) else None

        return self._first(PODS, holds, what=f"a pod {prefix}… to go")

    def healed(self, kind: str, name: str, *, since: datetime) -> float:
        """Return the seconds until a resource was Ready again."""
        return (self.told(kind, name, HEALTHY, since=since).seen_at - since).total_seconds()

    def row(self, trouble: Trouble) -> None:
        """Keep a row; AssertionError where the reason came too late."""
        print(f"\n{line_of(trouble)}")
        assert trouble.told_seconds <= SOON.total_seconds(), trouble
        self.rows.append(trouble)

    def _first(self, kind: str, holds: Callable[[Sighting], F | None], *, what: str) -> F:
        seen = self.watches[kind].sightings
        place = 0

        def look() -> F | None:
            nonlocal place
            for sighting in seen[place:]:
                place += 1
                found = holds(sighting)
                if found is not None:
                    return found
            return None

        return until(look, what=what, seconds=PATIENCE_SECONDS, seen=lambda: f"{len(seen)} sightings without it")


@contextmanager
def stage_of(kube: Kube, namespace: str) -> Iterator[Stage]:
    """Watch what is told of indexes, Assistants and their pods while the block runs."""
    with ExitStack() as opened:
        kinds = (INDEX, ASSISTANT, MODELS, PODS)
        yield Stage({kind: opened.enter_context(watch(kube.cluster, kind, namespace)) for kind in kinds})


HEAD: Final = """# Troubles of indexes and Assistants

Each was provoked on real pods by `e2e/scenarios/grounded`, which fails where a reason comes later than 15 s after
its cause was recorded. Nothing was deleted to heal. Written by such a run with `NIMBLET_WRITE_MATRIX=1`.

| trouble | reason | message | recorded by | told after | cure | healed after |
|---|---|---|---|---|---|---|
"""


def table(rows: Sequence[Trouble], *, before: str = "") -> str:
    """Return the page; what was not provoked keeps its line of the page `before`."""
    old = [line for line in before.splitlines()[len(HEAD.splitlines()) :] if line]
    lines = {_title(line): line for line in old} | {row.title: line_of(row) for row in rows}
    return HEAD + "".join(f"{line}\n" for line in lines.values())


def _title(line: str) -> str:
    return line.split(" | ", maxsplit=1)[0].removeprefix("| ")


def line_of(row: Trouble) -> str:
    """Return a row."""
    message = row.message.replace("|", "\\|")
    told, healed = f"{max(row.told_seconds, 0.0):.1f} s", f"{row.healed_seconds:.1f} s"
    cells = (row.title, f"`{row.reason}`", message, row.recorded, told, row.cure, healed)
    return f"| {' | '.join(cells)} |"


def now() -> datetime:
    """Return the time by which sightings are stamped too."""
    return datetime.now(UTC)
