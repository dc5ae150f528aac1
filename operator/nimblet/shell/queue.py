# SPDX-License-Identifier: Apache-2.0
"""The work queue: keys in, one worker a key out, fair between namespaces, patient with failures.

Pure asyncio on the running loop's clock; randomness is passed in. It knows nothing of Kubernetes, and it holds
keys, never objects: a key added twice before its turn is one turn.
"""

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nimblet.cluster.key import Key

Work = Callable[[Key], Awaitable[float | None]]
"""Handles a key; returns the seconds until it wants another turn, None: not before the next `add`."""
OnError = Callable[[Key, Exception, float], None]
"""Told of a turn that raised, and after how many seconds the next comes."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Waits after failures: `base` seconds, doubled each time up to `cap`, then cut by up to `jitter`."""

    base: float = 1.0
    cap: float = 300.0
    jitter: float = 0.2

    def delay(self, failures: int, rng: random.Random) -> float:
        """Return the seconds to wait after the n-th failure in a row, n from 1."""
        full = min(self.cap, self.base * 2.0 ** min(failures - 1, 30))
        return full * (1.0 - self.jitter * rng.random())


class Queue:
    """Keys waiting for a turn. All methods belong to one event loop; `run` is awaited once."""

    def __init__(
        self,
        *,
        rng: random.Random,
        concurrency: int = 8,
        backoff: Backoff | None = None,
        rest: float = 0.0,
    ) -> None:
        """`rest`: seconds after a turn before the key's next, so that a burst of events is one turn more."""
        self._rng = rng
        self._rest = rest
        self._resting: dict[Key, asyncio.TimerHandle] = {}
        self._concurrency = concurrency
        self._backoff = backoff or Backoff()
        self._ready: OrderedDict[str, OrderedDict[Key, float]] = OrderedDict()
        self._again: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._busy: Counter[str] = Counter()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: Counter[Key] = Counter()
        self._filled = asyncio.Event()
        self._last_finish: float | None = None

    def add(self, key: Key) -> None:
        """Give the key a turn as soon as possible; a delayed turn is taken now instead."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        now = asyncio.get_running_loop().time()
        if key in self._running:
            self._again.setdefault(key, now)
            return
        self._ready.setdefault(key.namespace, OrderedDict()).setdefault(key, now)
        self._filled.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Give the key a turn after `delay` seconds; an earlier turn that is planned already wins."""
        if delay <= 0:
            self.add(key)
            return
        if key in self._again or key in self._ready.get(key.namespace, ()):
            return
        loop = asyncio.get_running_loop()
        planned = self._timers.get(key)
        if planned is not None:
            if planned.when() <= loop.time() + delay:
                return
            planned.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    def forget(self, key: Key) -> None:
        """Drop the count of failures and the delayed turn of a key that is gone."""
        self._failures.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    @property
    def depth(self) -> int:
        """Return the number of keys that wait for a turn now."""
        return sum(len(keys) for keys in self._ready.values()) + len(self._again)

    def oldest_age(self, now: float) -> float:
        """Return for how many seconds the longest waiting key has waited; `now` is the loop's time."""
        since = [age for keys in self._ready.values() for age in keys.values()]
        return max((now - age for age in (*since, *self._again.values())), default=0.0)

    def idle_age(self, now: float) -> float:
        """Return the seconds without a finished turn while keys wait; 0 when none waits."""
        if self.depth == 0:
            return 0.0
        waited = self.oldest_age(now)
        return waited if self._last_finish is None else min(waited, now - self._last_finish)

    async def run(self, work: Work, *, on_error: OnError) -> None:
        """Hand out turns until cancelled."""
        workers = [asyncio.create_task(self._worker(work, on_error)) for _ in range(self._concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for timer in (*self._timers.values(), *self._resting.values()):
                timer.cancel()
            self._timers.clear()
            self._resting.clear()

    async def _worker(self, work: Work, on_error: OnError) -> None:
        while True:
            key = await self._take()
            try:
                self._succeeded(key, await work(key))
            except Exception as error:  # noqa: BLE001 - the one place: whatever it is, the key gets another turn
                on_error(key, error, self._failed(key))
            finally:
                self._finish(key)

    def _succeeded(self, key: Key, again_after: float | None) -> None:
        self._failures.pop(key, None)
        if again_after is not None:
            self.add_after(key, again_after)

    def _failed(self, key: Key) -> float:
        # What came in during the failed turn waits too, or a turn that wakes itself would never back off.
        self._again.pop(key, None)
        self._failures[key] += 1
        delay = self._backoff.delay(self._failures[key], self._rng)
        self.add_after(key, delay)
        return delay

    async def _take(self) -> Key:
        while not self._ready:
            self._filled.clear()
            await self._filled.wait()
        return self._next()

    def _next(self) -> Key:
        """Take the oldest key of the namespace with the fewest running turns; ties go round."""
        namespace = min(self._ready, key=lambda name: self._busy[name])
        keys = self._ready[namespace]
        key, _ = keys.popitem(last=False)
        if keys:
            self._ready.move_to_end(namespace)
        else:
            del self._ready[namespace]
        self._running.add(key)
        self._busy[namespace] += 1
        return key

    def _finish(self, key: Key) -> None:
        self._last_finish = asyncio.get_running_loop().time()
        self._busy[key.namespace] -= 1
        if not self._busy[key.namespace]:
            del self._busy[key.namespace]
        if self._rest:
            self._resting[key] = asyncio.get_running_loop().call_later(self._rest, self._rested, key)
        else:
            self._rested(key)

    def _rested(self, key: Key) -> None:
        """Let the key have its next turn; one that was asked for meanwhile keeps its place by age."""
        self._resting.pop(key, None)
        self._running.discard(key)
        since = self._again.pop(key, None)
        if since is not None:
            self.add(key)
            self._ready[key.namespace][key] = since
