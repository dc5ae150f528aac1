# SPDX-License-Identifier: Apache-2.0
"""The kinds of faults. Each is one object a run: what it saw so far decides what it does next. Only for tests."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.faults.proxy import FORWARD, Action, Faults, Incoming, Verb

JSON_HEADERS: Final = {"Content-Type": "application/json"}
REASONS: Final[Mapping[int, str]] = {
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def refusal(status: int) -> Action:
    """Return an answer as the API server words it; a 429 asks for a second of patience."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": REASONS[status],
        "message": f"the fault proxy says {status}",
        "code": status,
    }
    headers = {**JSON_HEADERS, "Retry-After": "1"} if status == 429 else JSON_HEADERS
    return Action(verb=Verb.ANSWER, status=status, headers=headers, body=json.dumps(body).encode())


@dataclass
class AtWrite(Faults):
    """One action at the write of this number, once."""

    number: int
    action: Action
    reached: bool = False

    def request(self, incoming: Incoming, /) -> Action:
        """Act on the one write."""
        if incoming.write != self.number or self.reached:
            return FORWARD
        self.reached = True
        return self.action


@dataclass
class Unreliable(Faults):
    """One in so many requests that are no watches is refused, with each status in its turn.

    Dice with a fixed seed choose: a fixed rhythm would fall on the same request of every pass.
    """

    one_in: int
    statuses: tuple[int, ...]
    refused: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - nothing secret hangs on it

    def request(self, incoming: Incoming, /) -> Action:
        """Refuse what the dice choose."""
        if incoming.is_watch or self.dice.randrange(self.one_in):
            return FORWARD
        self.refused += 1
        status = self.statuses[self.refused % len(self.statuses)]
        # no server answers a read with 409
        return refusal(500 if status == 409 and incoming.method == "GET" else status)


@dataclass
class Deaf(Faults):
    """Watches lose events: every n-th comes, the others don't; `delay` holds each back that long."""

    keep: int = 0
    """Every which event passes; 0: none at all."""
    delay: float = 0.0
    dropped: int = 0

    async def lines(self, _: Incoming, source: AsyncIterator[bytes], /) -> AsyncIterator[bytes]:
        """Yield what gets through."""
        count = 0
        async for line in source:
            count += 1
            if self.delay:
                await asyncio.sleep(self.delay)
            elif not self.keep or count % self.keep:
                self.dropped += 1
                continue
            yield line


@dataclass
class Gone(Faults):
    """Every first try to watch a kind is refused with HTTP status 410."""

    refused: set[str] = field(default_factory=set)

    def request(self, incoming: Incoming, /) -> Action:
        """Refuse the first."""
        if not incoming.is_watch or incoming.path in self.refused:
            return FORWARD
        self.refused.add(incoming.path)
        return refusal(410)


@dataclass
class Expiring(Faults):
    """Watches are ended by an ERROR event with code 410 after a few lines, for ever again."""

    lines_each: int = 2
    ended: int = 0

    async def lines(self, _: Incoming, source: AsyncIterator[bytes], /) -> AsyncIterator[bytes]:
        """Yield a few lines and then the error."""
        count = 0
        async for line in source:
            yield line
            count += 1
            if count == self.lines_each:
                self.ended += 1
                yield json.dumps({"type": "ERROR", "object": json.loads(refusal(410).body)}).encode()
                return


@dataclass
class FatalOnce(Faults):
    """One ERROR event with code 500: the operator is meant to end, and to be started again."""

    after: int = 3
    sent: bool = False

    async def lines(self, _: Incoming, source: AsyncIterator[bytes], /) -> AsyncIterator[bytes]:
        """Yield lines, and once the error."""
        count = 0
        async for line in source:
            yield line
            count += 1
            if count == self.after and not self.sent:
                self.sent = True
                yield json.dumps({"type": "ERROR", "object": json.loads(refusal(500).body)}).encode()
                return


@dataclass
class Silent(Faults):
    """Every watch is accepted and stays silent."""

    stalled: int = 0

    def request(self, incoming: Incoming, /) -> Action:
        """Stall watches."""
        if not incoming.is_watch:
            return FORWARD
        self.stalled += 1
        return Action(verb=Verb.STALL)


@dataclass
class Spell(Faults):
    """From the write of this number on, for some seconds, every request meets `action`; open watches end."""

    number: int
    seconds: float
    action: Action
    met: int = 0
    until: float | None = None

    def request(self, incoming: Incoming, /) -> Action:
        """Act while it lasts."""
        if incoming.write == self.number and self.until is None:
            self.until = time.monotonic() + self.seconds
        if not self.lasts():
            return FORWARD
        self.met += 1
        return self.action

    async def lines(self, _: Incoming, source: AsyncIterator[bytes], /) -> AsyncIterator[bytes]:
        """Yield lines until it begins."""
        async for line in source:
            if self.lasts():
                return
            yield line

    def lasts(self) -> bool:
        """Tell whether it has begun and not ended."""
        return self.until is not None and time.monotonic() < self.until


@dataclass
class Stale(Faults):
    """Lists come from the past, and watches are silent, for some seconds from the first list after `replay` on.

    Not from `replay` itself: on a busy machine a process may take longer to start.
    """

    lists: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    until: float | None = None
    served: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def replay(self, lists: Mapping[str, bytes], *, seconds: float) -> None:
        """Go back to `lists` from now on."""
        with self.lock:
            self.lists, self.seconds, self.until = dict(lists), seconds, None

    def is_over(self) -> bool:
        """Tell whether there was a past, and it has ended."""
        return self.until is not None and time.monotonic() > self.until

    def request(self, incoming: Incoming, /) -> Action:
        """Answer lists from the past while it lasts."""
        with self.lock:
            body = None if incoming.is_watch else self.lists.get(incoming.target)
            if self.until is None:
                if body is None:
                    return FORWARD
                self.until = time.monotonic() + self.seconds
            left = self.until - time.monotonic()
            if left <= 0:
                return FORWARD
            if incoming.is_watch:
                return Action(verb=Verb.STALL, seconds=left)
            if body is None:
                return FORWARD
            self.served += 1
            return Action(verb=Verb.ANSWER, status=200, headers=JSON_HEADERS, body=body)
