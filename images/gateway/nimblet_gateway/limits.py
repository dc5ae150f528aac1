# SPDX-License-Identifier: Apache-2.0
"""How much may be asked: rates of each key, one bounded queue before the model, room for bodies. Knows no HTTP."""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from nimblet_gateway.config import Limits
from nimblet_gateway.errors import RETRY_AFTER_SECONDS, limited, unavailable
from nimblet_gateway.keys import Caller

MINUTE: Final = 60.0
MAX_CALLERS: Final = 10_000
"""Keys whose use is remembered; beyond them the longest unused are forgotten."""

Take = Callable[[int], None]
"""Asks for room for so many bytes more."""


@dataclass(kw_only=True)
class Room:
    """Bytes of all requests that are being read: a key's rate counts whole requests, and memory has an end."""

    most: int
    held: int = 0

    @contextmanager
    def reading(self) -> Iterator[Take]:
        """Yield what gives one request its room, until the block ends: ApiError 503 where none is left."""
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self.held + count > self.most:
                raise unavailable("too many long requests come in at once; ask again", code="queue_full")
            self.held, mine = self.held + count, mine + count

        try:
            yield take
        finally:
            self.held -= mine


@dataclass(kw_only=True)
class Bucket:
    """A minute's allowance that fills up evenly. It may be overdrawn: an answer's cost is known after it."""

    per_minute: float
    level: float
    filled: float

    def fill(self, now: float) -> None:
        """Add what has grown since."""
        grown = (now - self.filled) * self.per_minute / MINUTE
        self.level, self.filled = min(self.per_minute, self.level + grown), now

    def wait_seconds(self, need: float) -> int:
        """Return how long until `need` is there."""
        return math.ceil(max(0.0, need - self.level) * MINUTE / self.per_minute)


@dataclass
class _Use:
    requests: Bucket | None = None
    tokens: Bucket | None = None


class Rates:
    """Requests and tokens per minute of each key; `replicas` tells by how many gateways they are shared."""

    def __init__(self, limits: Limits, *, replicas: Callable[[], int], clock: Callable[[], float]) -> None:
        self._limits = limits
        self._replicas = replicas
        self._clock = clock
        self._uses: OrderedDict[str, _Use] = OrderedDict()

    def admit(self, caller: Caller) -> None:
        """Count a request. ApiError 429 names the limit and when to come again."""
        use = self._use(caller)
        if use.tokens is not None and use.tokens.level <= 0:
            wait = use.tokens.wait_seconds(1.0)
            raise limited(
                f"this key's tokens of a minute are used up; ask again in {wait} s",
                code="tokens_per_minute_exceeded",
                retry_after=wait,
            )
        if use.requests is not None:
            if use.requests.level < 1.0:
                wait = use.requests.wait_seconds(1.0)
                raise limited(
                    f"this key's requests of a minute are used up; ask again in {wait} s",
                    code="requests_per_minute_exceeded",
                    retry_after=wait,
                )
            use.requests.level -= 1.0

    def charge(self, caller: Caller, tokens: int) -> None:
        """Count what an answer cost, also one that nobody waited for."""
        use = self._use(caller)
        if use.tokens is not None:
            use.tokens.level -= tokens

    def _use(self, caller: Caller) -> _Use:
        now = self._clock()
        use = self._uses.setdefault(caller.id, _Use())
        self._uses.move_to_end(caller.id)
        while len(self._uses) > MAX_CALLERS:
            self._uses.popitem(last=False)
        use.requests = self._bucket(
            use.requests, caller.requests_per_minute or self._limits.requests_per_minute, now
        )
        use.tokens = self._bucket(use.tokens, caller.tokens_per_minute or self._limits.tokens_per_minute, now)
        return use

    def _bucket(self, bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
        if per_minute is None:
            return None
        share = max(1.0, per_minute / self._replicas())
        if bucket is None:
            return Bucket(per_minute=share, level=share, filled=now)
        bucket.fill(now)
        if bucket.per_minute != share:  # what was used stays used
            bucket.per_minute, bucket.level = share, min(bucket.level, share)
        return bucket


@dataclass
class Turnstile:
    """Lets `concurrency` requests pass at a time, the others in the order in which they came, at most `queue`."""

    concurrency: int
    queue: int
    running: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it. ApiError 503 where the queue is full. Cancelling gives the place back."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self.running < self.concurrency:
            self.running += 1
            return
        if len(self.waiting) >= self.queue:
            raise unavailable(
                f"{self.running} requests run and {len(self.waiting)} wait; ask again in {RETRY_AFTER_SECONDS} s",
                code="queue_full",
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave()  # the turn came in the same moment: the next one has it
            elif place in self.waiting:
                self.waiting.remove(place)
            raise

    def _leave(self) -> None:
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(None)  # the turn passes over; `running` stays
                return
        self.running -= 1
