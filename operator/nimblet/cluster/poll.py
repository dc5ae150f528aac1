# SPDX-License-Identifier: Apache-2.0
"""Asks retrievers and gateways again and again, outside of any pass; wakes their resource when one tells news.

What shows in no object of the cluster is found here. A pass reads what was told last and waits for nobody: a
server that hangs holds no worker. It writes nothing, and remembers in memory only.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp

from nimblet.cluster.key import Key
from nimblet.cluster.observe import Asking, KeyOf, PodUrl, TrustOf, ask, by_the_session, pod_url, standing
from nimblet.cluster.podstatus import StatusInquiry
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.facts import Answer, Observation, PodFacts

AT_ONCE: Final = 64
"""Questions under way at a time: a hundred servers that hang are through in ten seconds, and delay none more."""
TIMEOUT_SECONDS: Final = 5.0
"""Longest that a status is waited for; nothing is computed for one."""
FIRST_SECONDS: Final = 3.0
"""How long a pass is put off for a server's very first answer: a restarted operator would tell of a doubt."""
SPREAD: Final = 0.1
"""Share by which a wait is cut, at random: servers that began together are not asked together for ever."""

Run = tuple[str, str]
"""One run of a container: pod uid and container id."""


@dataclass(kw_only=True)
class _Watch:
    """One server that is asked for as long as it runs."""

    asking: Asking
    epoch: str
    began: float
    every: float
    observation: Observation | None = None
    heard: float = 0.0
    """When it was asked for what it told last; a busy one tells nothing."""
    now: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


@dataclass(frozen=True, kw_only=True)
class Polled:
    """Pods with what they told last; `wait`: seconds that a first answer may take, None where none is due."""

    pods: tuple[PodFacts, ...]
    wait: float | None


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Whom a poller tells: of a resource whose servers say something else, and of a defect that ended its work."""

    wake: Callable[[Key], None]
    fail: Callable[[BaseException], None]


@dataclass(kw_only=True)
class Poller:
    """Knows what the servers of each resource told last. Close it to end the questions under way."""

    session: aiohttp.ClientSession
    ways: Ways
    clock: Callable[[], float]
    rng: random.Random
    url_of: PodUrl = pod_url
    timeout: float = TIMEOUT_SECONDS
    trust_of: TrustOf = by_the_session
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _watches: dict[Key, dict[Run, _Watch]] = field(default_factory=dict)

    def look(self, key: Key, pods: Sequence[PodFacts], *, key_of: KeyOf, inquiry: StatusInquiry) -> Polled:
        """Return the pods with what they told last, and go on asking these and no others."""
        before = self._watches.get(key, {})
        asked = [pod for pod in pods if pod.ready and not pod.terminating and pod.ip]
        wanted = {_run(pod) for pod in asked}
        for run, watch in before.items():
            if run not in wanted:
                _stop(watch)
        self._watches[key] = {run: before[run] for pod in pods if (run := _run(pod)) in before}
        for pod in asked:
            self._ask_on(key, pod, api_key=key_of(pod), inquiry=inquiry)
        return Polled(
            pods=tuple(self._told(key, pod, asked=pod in asked) for pod in pods), wait=self._wait(key, asked)
        )

    def ask_again(self, key: Key) -> None:
        """Ask the servers of a resource at once; what they said stands until they answer."""
        for watch in self._watches.get(key, {}).values():
            watch.now.set()

    def forget(self, key: Key) -> None:
        """Drop all that is known of a resource that is gone."""
        for watch in self._watches.pop(key, {}).values():
            _stop(watch)

    async def close(self) -> None:
        """End the questions under way."""
        tasks = [w.task for watches in self._watches.values() for w in watches.values() if w.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask_on(self, key: Key, pod: PodFacts, *, api_key: str, inquiry: StatusInquiry) -> None:
        asking = Asking(
            url=self.url_of(pod, HTTP_PORT),
            api_key=api_key,
            timeout=self.timeout,
            questions=inquiry,
            source_hash=pod.source_hash,
            tls_host=pod.tls_host,
            trust=self.trust_of(pod.tls_host),
        )
        every = inquiry.every
        watch = self._watches[key].setdefault(
            _run(pod), _Watch(asking=asking, epoch=inquiry.epoch, began=self.clock(), every=every)
        )
        if watch.epoch != inquiry.epoch or watch.asking != asking:
            watch.now.set()
        watch.asking, watch.epoch, watch.every = asking, inquiry.epoch, every
        if watch.task is None:
            watch.task = asyncio.create_task(self._go_on(key, watch))
            watch.task.add_done_callback(self._ended)

    async def _go_on(self, key: Key, watch: _Watch) -> None:
        while True:
            watch.now.clear()
            async with self._room:
                asked_at = self.clock()
                told = await ask(self.session, watch.asking)
            if told.answer is not Answer.BUSY:
                watch.heard = asked_at
            before = watch.observation
            seen = watch.observation = standing(before, told)
            if seen != before:
                self.ways.wake(key)
            await self._rest(watch)

    async def _rest(self, watch: _Watch) -> None:
        """Wait until the next question is due, or wanted at once."""
        try:
            async with asyncio.timeout(watch.every * (1.0 - SPREAD * self.rng.random())):
                await watch.now.wait()
        except TimeoutError:
            return

    def _told(self, key: Key, pod: PodFacts, *, asked: bool) -> PodFacts:
        watch = self._watches[key].get(_run(pod))
        drains = pod.terminating and pod.ready  # not asked any more, but what it said still holds
        observation = None
        if watch is not None and watch.observation is not None and (asked or drains):
            observation = replace(watch.observation, age=self.clock() - watch.heard)
        elif asked:
            observation = Observation(answer=Answer.BUSY, detail="has not answered yet")
        return replace(pod, observation=observation)

    def _wait(self, key: Key, asked: Sequence[PodFacts]) -> float | None:
        """Return how long it is worth to wait for an answer that was never had."""
        watches = [self._watches[key][_run(pod)] for pod in asked]
        left = [FIRST_SECONDS - (self.clock() - item.began) for item in watches if item.observation is None]
        return max((wait for wait in left if wait > 0), default=None)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.ways.fail(error)


def _run(pod: PodFacts) -> Run:
    return pod.uid, pod.container_id


def _stop(watch: _Watch) -> None:
    if watch.task is not None:
        watch.task.cancel()
        watch.task = None
