# SPDX-License-Identifier: Apache-2.0
"""The work queue, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from nimblet.cluster.key import Key
from nimblet.shell.queue import Backoff, Queue
from tests.unit.shell.virtual import dice, run_virtual


def key(name: str, namespace: str = "a") -> Key:
    return Key("CompactModel", namespace, name)


@dataclass
class Journal:
    """Turns taken: (second, name); errors: (error, delay)."""

    turns: list[tuple[float, str]] = field(default_factory=list)
    errors: list[tuple[str, float]] = field(default_factory=list)

    def note(self, taken: Key) -> None:
        self.turns.append((asyncio.get_running_loop().time(), taken.name))

    def error(self, _: Key, error: Exception, delay: float) -> None:
        self.errors.append((str(error), delay))


@asynccontextmanager
async def running(
    queue: Queue, work: Callable[[Key], Awaitable[float | None]], journal: Journal | None = None
) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(work, on_error=(journal or Journal()).error))
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def new_queue(**options: object) -> Queue:
    return Queue(rng=dice(), **options)  # type: ignore[arg-type]


def test_a_key_added_many_times_has_one_turn() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue()

        async def work(taken: Key) -> None:
            journal.note(taken)

        for _ in range(5):
            queue.add(key("one"))
        async with running(queue, work):
            await asyncio.sleep(1)
        assert journal.turns == [(0.0, "one")]

    run_virtual(main())


def test_a_key_rests_after_a_turn_and_a_burst_is_one_turn_more() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue(rest=0.5)

        async def work(taken: Key) -> None:
            journal.note(taken)

        queue.add(key("one"))
        async with running(queue, work):
            for _ in range(4):
                await asyncio.sleep(0.1)
                queue.add(key("one"))
                queue.add(key("two"))
            await asyncio.sleep(2)
        assert [turn for turn in journal.turns if turn[1] == "one"] == [(0.0, "one"), (0.5, "one")]
        assert journal.turns[1][1] == "two"
        assert queue.depth == 0

    run_virtual(main())


def test_a_key_that_rests_holds_no_worker() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue(rest=10.0, concurrency=1)

        async def work(taken: Key) -> None:
            journal.note(taken)

        queue.add(key("one"))
        queue.add(key("two"))
        async with running(queue, work):
            await asyncio.sleep(1)
        assert journal.turns == [(0.0, "one"), (0.0, "two")]

    run_virtual(main())


def test_a_key_has_one_worker_and_what_came_meanwhile_is_one_more_turn() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue()
        at_once = 0

        async def work(taken: Key) -> None:
            nonlocal at_once
            at_once += 1
            assert at_once == 1
            journal.note(taken)
            await asyncio.sleep(10)
            at_once -= 1

        async with running(queue, work):
            queue.add(key("one"))
            await asyncio.sleep(1)
            queue.add(key("one"))
            queue.add(key("one"))
            assert queue.depth == 1
            await asyncio.sleep(100)
        assert journal.turns == [(0.0, "one"), (10.0, "one")]

    run_virtual(main())


def test_no_more_turns_at_once_than_allowed() -> None:
    async def main() -> None:
        queue, running_now, most = new_queue(concurrency=3), 0, 0

        async def work(_: Key) -> None:
            nonlocal running_now, most
            running_now += 1
            most = max(most, running_now)
            await asyncio.sleep(1)
            running_now -= 1

        for number in range(10):
            queue.add(key(f"k{number}"))
        async with running(queue, work):
            await asyncio.sleep(60)
        assert (most, queue.depth) == (3, 0)

    run_virtual(main())


def test_a_namespace_with_many_keys_does_not_hold_up_another() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue(concurrency=2)

        async def work(taken: Key) -> None:
            journal.note(taken)
            await asyncio.sleep(1)

        for number in range(50):
            queue.add(key(f"many{number}", "crowd"))
        queue.add(key("single", "quiet"))
        async with running(queue, work):
            await asyncio.sleep(100)
        assert (0.0, "single") in journal.turns
        assert len(journal.turns) == 51

    run_virtual(main())


def test_namespaces_take_turns_with_one_worker() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue(concurrency=1)

        async def work(taken: Key) -> None:
            journal.note(taken)

        for name, namespace in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")):
            queue.add(key(name, namespace))
        async with running(queue, work):
            await asyncio.sleep(1)
        assert [name for _, name in journal.turns] == ["a1", "b1", "a2", "b2", "a3"]

    run_virtual(main())


def test_failures_back_off_and_success_resets() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue(backoff=Backoff(base=1, cap=300, jitter=0))
        failing = True

        async def work(taken: Key) -> None:
            journal.note(taken)
            if failing:
                raise RuntimeError("no")

        async with running(queue, work, journal):
            queue.add(key("one"))
            await asyncio.sleep(2000)
            failing = False
            await asyncio.sleep(301)
            failing = True
            queue.add(key("one"))
            await asyncio.sleep(0.5)
        delays = [delay for _, delay in journal.errors]
        assert delays[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        assert delays[-1] == 1

    run_virtual(main())


def test_backoff_jitter_only_shortens_and_is_seeded() -> None:
    backoff = Backoff(base=1, cap=300, jitter=0.2)
    delays = [backoff.delay(number, dice(number)) for number in range(1, 40)]
    assert all(0.8 * min(300, 2 ** (n - 1)) <= delay <= 300 for n, delay in enumerate(delays, start=1))
    assert delays == [backoff.delay(number, dice(number)) for number in range(1, 40)]


def test_a_failing_turn_that_wakes_itself_still_backs_off() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue(backoff=Backoff(base=10, jitter=0))

        async def work(taken: Key) -> None:
            journal.note(taken)
            queue.add(taken)
            raise RuntimeError("no")

        async with running(queue, work, journal):
            queue.add(key("one"))
            await asyncio.sleep(25)
        assert [at for at, _ in journal.turns] == [0.0, 10.0]

    run_virtual(main())


def test_of_two_delayed_turns_the_earlier_wins() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue()

        async def work(taken: Key) -> None:
            journal.note(taken)

        async with running(queue, work):
            queue.add_after(key("one"), 50)
            queue.add_after(key("one"), 20)
            queue.add_after(key("one"), 90)
            await asyncio.sleep(200)
        assert journal.turns == [(20.0, "one")]

    run_virtual(main())


def test_an_event_takes_the_delayed_turn_at_once() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue()

        async def work(taken: Key) -> float | None:
            journal.note(taken)
            return 30.0 if len(journal.turns) == 1 else None

        async with running(queue, work):
            queue.add(key("one"))
            await asyncio.sleep(10)
            queue.add(key("one"))
            await asyncio.sleep(200)
        assert [at for at, _ in journal.turns] == [0.0, 10.0]

    run_virtual(main())


def test_depth_and_age_of_the_oldest_key() -> None:
    async def main() -> None:
        queue, loop = new_queue(concurrency=1), asyncio.get_running_loop()

        async def work(_: Key) -> None:
            await asyncio.sleep(30)

        async with running(queue, work):
            queue.add(key("one"))
            await asyncio.sleep(1)
            queue.add(key("two"))
            await asyncio.sleep(4)
            queue.add(key("three"))
            assert (queue.depth, queue.oldest_age(loop.time())) == (2, 4.0)
            await asyncio.sleep(100)
            assert (queue.depth, queue.oldest_age(loop.time()), queue.idle_age(loop.time())) == (0, 0.0, 0.0)

    run_virtual(main())


def test_a_stuck_queue_shows_as_idle_age() -> None:
    async def main() -> None:
        queue, loop = new_queue(concurrency=1), asyncio.get_running_loop()

        async def work(_: Key) -> None:
            await asyncio.Event().wait()

        async with running(queue, work):
            queue.add(key("stuck"))
            queue.add(key("waits"))
            await asyncio.sleep(100)
            assert queue.idle_age(loop.time()) == 100.0

    run_virtual(main())


def test_forget_drops_a_delayed_turn() -> None:
    async def main() -> None:
        journal, queue = Journal(), new_queue()

        async def work(taken: Key) -> None:
            journal.note(taken)

        async with running(queue, work):
            queue.add_after(key("one"), 5)
            queue.forget(key("one"))
            await asyncio.sleep(60)
        assert journal.turns == []

    run_virtual(main())
