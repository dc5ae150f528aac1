# SPDX-License-Identifier: Apache-2.0
"""Runs the story once with one kind of fault, under a keeper that starts the operator again as a kubelet would.

Each run has namespaces, a proxy and operator processes of its own; the control plane is shared. Only for tests.
"""

import base64
import json
import logging
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from e2e.cluster.errors import ApiError
from e2e.support.needles import forms
from tests.cluster.operator_support import (
    RESYNC_SECONDS,
    SMALLEST,
    Launcher,
    View,
    grant_own_rights,
)
from tests.cluster.stub_server import Stub, stub_server
from tests.faults.access import plain_kubeconfig
from tests.faults.admin import SteadyApi, eventually
from tests.faults.keeper import KILLED, TERMINATED, Keeper
from tests.faults.proxy import Faults, Proxy, Upstream
from tests.faults.snapshot import Reader, Snapshot, difference, unhashed
from tests.faults.story import ModelStory, Story

TIMING: Final = {
    "resyncSeconds": RESYNC_SECONDS,
    "probeRetrySeconds": 1,
    # no second try of the missing repository within a story: the number of tries is part of the counts
    "retryBaseSeconds": 300,
    "retryCapSeconds": 300,
    "stableSeconds": 1,
}
QUIET_SECONDS: Final = 2.0
"""Without a write for this long the operator has nothing more to say; its own looks come after one second."""
EQUAL_SECONDS: Final = 120.0
WAIT_SECONDS: Final = 240.0
STEADY_RESYNCS: Final = 2
RESYNCS: Final = 'nimblet_resyncs_total{outcome="done"}'
MASTER_KEY: Final = "nimblet-master-key"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class World:
    """What all runs share."""

    api: SteadyApi
    paths: tuple[str, ...]
    upstream: Upstream
    directory: Path


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A run without faults: its state before the deletion and at the end, and what was made and deleted."""

    settled: Snapshot
    end: Snapshot
    creates: Counter[str]
    deletes: Counter[str]
    writes: int


@dataclass(kw_only=True)
class Scenario:
    """One run to do. `script` tells the story; by default as it stands.

    `same_counts` False where the operator can't have seen every step; `exits` are exit codes that are no defect;
    `clean_log` False where it is meant to end with a traceback.
    """

    name: str
    story: type[Story] = ModelStory
    faults: Faults = field(default_factory=Faults)
    script: "Callable[[Run], None] | None" = None
    same_counts: bool = True
    exits: tuple[int, ...] = (KILLED,)
    clean_log: bool = True


@dataclass(kw_only=True)
class Outcome:
    """What a run left. `problems` is empty where everything held."""

    scenario: Scenario
    writes: int = 0
    creates: Counter[str] = field(default_factory=Counter)
    deletes: Counter[str] = field(default_factory=Counter)
    settled: Snapshot = field(default_factory=dict)
    end: Snapshot = field(default_factory=dict)
    seconds: float = 0.0
    restarts: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Run:
    """One run under way."""

    world: World
    scenario: Scenario
    view: View
    proxy: Proxy
    keeper: Keeper
    stub: Stub
    reader: Reader
    reference: Reference | None
    outcome: Outcome
    operator_namespace: str
    hidden: set[str] = field(default_factory=set)
    """What was read of Secrets so far."""

    def story(self, **fields: Any) -> Story:
        """Return the story in this run's namespace."""
        return self.scenario.story(**{"view": self.view, "after": lambda _: None, **fields})

    def settle(self) -> None:
        """Record the state before the deletion."""
        self.remember_secrets()
        self.outcome.settled = self._state(
            "before the deletion", self.reference.settled if self.reference is not None else None
        )

    def finish(self) -> None:
        """Record the end, and that nothing is written any more."""
        self.outcome.end = self._state("at the end", self.reference.end if self.reference is not None else None)
        self.quiet()
        writes = self.proxy.writes
        self._rest()
        late = [str(entry) for entry in self.proxy.entries if entry.write is not None and entry.write > writes]
        self.note(late, "written although nothing changed")

    def resyncs(self, count: int) -> None:
        """Return after so many more resyncs of the operator that runs."""
        process = self.keeper.process
        if process is None:
            raise AssertionError("expected an operator that runs")
        goal = process.metric(RESYNCS) + count

        def done() -> bool:
            nonlocal process, goal
            now = self.keeper.process
            if now is not None and now is not process:  # a late write met its fault
                process, goal = now, float(count)
            return process is not None and process.metric(RESYNCS) >= goal

        self.wait(done, f"{count} resyncs")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Return once the condition holds."""
        eventually(condition, seconds=WAIT_SECONDS, what=f"{self.scenario.name}: {what}")

    def note(self, lines: Sequence[str], what: str) -> None:
        """Add a problem where there are lines that tell of one."""
        if lines:
            told = "\n    ".join(lines[:60])
            self.outcome.problems.append(f"{self.scenario.name}: {what}:\n    {told}")

    def check(self) -> None:
        """Compare counts, exits, logs and outputs."""
        outcome = self.outcome
        outcome.writes, outcome.restarts = self.proxy.writes, len(self.keeper.codes)
        # by now the proxy has ended, so that nobody counts any more
        outcome.creates, outcome.deletes = made(self.proxy.creates), made(self.proxy.deletes)
        if self.reference is not None and self.scenario.same_counts:
            self.note(_counts(self.reference.creates, outcome.creates), "creates differ (expected, found)")
            self.note(_counts(self.reference.deletes, outcome.deletes), "deletes differ (expected, found)")
        unexpected = [str(code) for code in self.keeper.codes if code not in self.scenario.exits]
        self.note(unexpected, "the operator ended by itself")
        overdue = [str(code) for code in self.keeper.stopped if code not in (0, TERMINATED)]
        self.note(overdue, "told to stop, the operator ended with")

    def secrets(self) -> tuple[str, ...]:
        """Return what must be seen in no output: keys that were used or stored in any form, and the master key."""
        path = f"/api/v1/namespaces/{self.operator_namespace}/secrets/{MASTER_KEY}"
        master: Any = self.view.api.get(path)
        self.remember_secrets()
        keys = {header.removeprefix("Bearer ") for header in tuple(self.stub.keys)} | self.hidden
        looked_for = {form for key in keys for form in forms(key)}
        return (*looked_for, str(master["data"]["key"]))

    def remember_secrets(self) -> None:
        """Read what the namespace's Secrets hold now, ours and those that users give, each in one piece."""
        listed: Any = self.view.api.get(f"/api/v1/namespaces/{self.view.namespace}/secrets")
        for secret in listed["items"]:
            for value in (secret.get("data") or {}).values():
                self.hidden.add(base64.b64decode(value).decode())

    def outputs(self) -> Iterator[tuple[str, str]]:
        """Yield everything that people other than the key's owner can see."""
        for process, _ in self.keeper.launcher.started:
            yield process.log.name, process.log.read_text(encoding="utf-8")
        for entry in self.proxy.entries:
            yield f"the body of {entry}", entry.text
        events = self.view.api.get(f"/api/v1/namespaces/{self.view.namespace}/events")
        yield "the Events", json.dumps(events)
        for item in self.reader.objects():
            if item["kind"] != "Secret":
                yield f"{item['kind']} {item['metadata']['name']}", json.dumps(item)

    def _state(self, when: str, expected: Snapshot | None) -> Snapshot:
        """Return the state once it is as expected (or quiet, where nothing is expected)."""
        if expected is None:
            return self._lasting()
        deadline = time.monotonic() + EQUAL_SECONDS
        while True:
            found = self.reader.read()
            differs = difference(expected, found)
            if not differs or time.monotonic() > deadline:
                self.note(differs, f"the state {when} differs from a run without faults")
                return found
            time.sleep(0.5)

    def _lasting(self) -> Snapshot:
        """Return a state that a resync leaves as it is: on a busy machine Kubernetes' controllers may be late."""
        self.quiet()
        found = self.reader.read()

        def same() -> bool:
            nonlocal found
            self.resyncs(1)
            self.quiet()
            before, found = found, self.reader.read()
            return not difference(before, found)

        self.wait(same, "a state that lasts")
        return found

    def _rest(self) -> None:
        """Return once resyncs leave every object as it is; who counts the operator's own writes is the caller."""
        deadline = time.monotonic() + EQUAL_SECONDS
        while True:
            before = self.view.versions()
            self.resyncs(STEADY_RESYNCS)
            after = self.view.versions()
            if after == before:
                return
            if time.monotonic() > deadline:
                self.note([str(before), str(after)], "objects change although nothing is asked")
                return

    def quiet(self) -> None:
        """Return once nothing was written for a while."""
        seen, since = self.proxy.writes, time.monotonic()

        def quiet() -> bool:
            nonlocal seen, since
            if self.proxy.writes != seen:
                seen, since = self.proxy.writes, time.monotonic()
            return time.monotonic() - since >= QUIET_SECONDS

        eventually(quiet, seconds=WAIT_SECONDS, what=f"no write for {QUIET_SECONDS:g} s")


def tell_all(run: Run) -> None:
    """The story as it stands."""
    run.keeper.start()
    story = run.story()
    story.first_part()
    run.settle()
    story.second_part()
    run.finish()


def perform(world: World, scenario: Scenario, reference: Reference | None) -> Outcome:
    """Do one run."""
    outcome = Outcome(scenario=scenario)
    began = time.monotonic()
    with _prepared(world, scenario, reference, outcome) as run:
        try:
            (scenario.script or tell_all)(run)
        except (AssertionError, ApiError, TimeoutError, subprocess.TimeoutExpired) as error:
            state = run.reader.read()
            own = [json.dumps(item) for name, item in state.items() if name.partition("/")[0] in SMALLEST]
            tail = run.keeper.launcher.started[-1][0].log.read_text(encoding="utf-8").splitlines()[-25:]
            run.note([str(error), *own, *tail], "the story did not go on")
        run.keeper.stop()
        hidden = run.secrets()
        told = [where for where, text in run.outputs() if any(secret in text for secret in hidden)]
        run.note(told, "a secret is seen in")
        written = [scenario.story.breach(entry.text) for entry in run.proxy.entries if entry.write is not None]
        run.note([each for each in written if each], "what was written is forbidden")
    if scenario.clean_log:
        run.note(run.keeper.launcher.flaws(), "the log tells of a defect")
    run.check()
    outcome.seconds = time.monotonic() - began
    figures = (scenario.name, outcome.writes, outcome.restarts, outcome.seconds, len(outcome.problems))
    log.info("%s: %d writes, %d restarts, %.0f s, %d problems", *figures)
    for problem in outcome.problems:
        log.warning("%s", problem)
    return outcome


def perform_all(
    world: World, scenarios: Sequence[Scenario], reference: Reference | None, *, workers: int
) -> list[Outcome]:
    """Do several runs, some at the same time: they mostly wait."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda scenario: perform(world, scenario, reference), scenarios))


@contextmanager
def _prepared(world: World, scenario: Scenario, reference: Reference | None, outcome: Outcome) -> Iterator[Run]:
    api, token = world.api, uuid.uuid4().hex[:8]
    team, own = f"team-{token}", f"system-{token}"
    for name in (team, own):
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    grant_own_rights(api, own)
    for name in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
        path = f"/api/v1/namespaces/{team}/{name}"
        api.wait_for(path, lambda _: True, seconds=WAIT_SECONDS, what="a settled namespace")
    directory = world.directory / token
    directory.mkdir()
    view, story = View(api=api, namespace=team), scenario.story
    try:
        names = {team: "TEAM", own: "SYSTEM", **story.furnish(view)}
        with (
            stub_server(story.stub(api, team)) as stub,
            _kept(world, scenario, stub=stub, directory=directory, team=team, own=own) as (keeper, proxy),
        ):
            yield Run(
                world=world,
                scenario=scenario,
                view=view,
                proxy=proxy,
                keeper=keeper,
                stub=stub,
                reader=Reader(api=api, paths=world.paths, namespace=team, names=names),
                reference=reference,
                outcome=outcome,
                operator_namespace=own,
            )
    finally:
        for name in (team, own):
            api.delete(f"/api/v1/namespaces/{name}")
        story.clear(view)
        api.close()


@contextmanager
def _kept(
    world: World, scenario: Scenario, *, stub: Stub, directory: Path, team: str, own: str
) -> Iterator[tuple[Keeper, Proxy]]:
    """Yield who starts the run's operators, and the proxy that they talk to; end both."""
    launcher = Launcher(
        kubeconfig=directory / "kubeconfig", stub=stub, directory=directory, namespace=own, timing=TIMING
    )
    keeper = Keeper(launcher=launcher, flags=("--namespace", team))
    try:
        with Proxy(world.upstream, faults=scenario.faults, kill=keeper.kill) as proxy:
            launcher.kubeconfig.write_text(json.dumps(plain_kubeconfig(proxy.url)), encoding="utf-8")
            try:
                yield keeper, proxy
            finally:
                keeper.stop()
    finally:
        launcher.end_all()


def made(counted: Counter[str]) -> Counter[str]:
    """Return what was created or deleted, by a name that is the same in every run, but Events.

    A crash between a status and its Event loses the Event, by design.
    """
    found: Counter[str] = Counter()
    for name, count in counted.items():
        if not name.startswith("Event/"):
            found[unhashed(name)] += count
    return found


def _counts(expected: Counter[str], found: Counter[str]) -> list[str]:
    names = sorted({*expected, *found})
    return [f"{name}: {expected[name]}, {found[name]}" for name in names if expected[name] != found[name]]
