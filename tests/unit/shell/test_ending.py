# SPDX-License-Identifier: Apache-2.0
"""A process that should end ends in time, with its exit code, and tells what hung."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nimblet.shell.ending import Ending
from nimblet.shell.operator import DEAD_SECONDS, end_when_dead
from nimblet.shell.server import Verdict
from tests.unit.shell.stubborn import CODE
from tests.unit.shell.virtual import VirtualLoop, run_virtual

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("how", "where"), [("task", "clings ("), ("loop", "in blocks")])
def test_a_process_that_hangs_is_ended_with_its_code_and_tells_where(how: str, where: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.unit.shell.stubborn", how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == CODE, ended.stderr
    assert "not ended within 0.3 s; these tasks are left:" in ended.stderr
    assert "  stubborn: clings (" in ended.stderr
    assert where in ended.stderr


def test_the_first_beginning_counts() -> None:
    codes: list[int] = []
    left = threading.Event()

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    async def begin_twice() -> None:
        ending = Ending(seconds=0.01, leave=leave)
        ending.begin(lambda: 1)
        ending.begin(lambda: 2)
        await asyncio.to_thread(left.wait, 60)

    asyncio.run(begin_twice())
    assert set(codes) == {1}


def test_a_process_that_calls_itself_dead_for_long_ends_itself() -> None:
    failures: list[BaseException] = []

    async def live_then_die() -> float:
        loop = asyncio.get_running_loop()

        def live() -> Verdict:
            ok = loop.time() < 100 or 120 <= loop.time() < 200
            return Verdict(ok=ok, why="the last resync ended long ago")

        await end_when_dead(live, failures.append)
        return loop.time()

    ended = run_virtual(live_then_die())
    assert 200 + DEAD_SECONDS - 10 <= ended <= 200 + DEAD_SECONDS + 10, "20 s of doubt end nothing"
    assert "dead by its own judgement for 60 s: the last resync ended long ago" in str(failures[0])


def test_a_process_that_stood_still_may_come_to_life_before_it_is_judged() -> None:
    failures: list[BaseException] = []

    async def wake_late() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        looks: list[float] = []

        def live() -> Verdict:
            looks.append(loop.time())
            if len(looks) == 1:
                loop.stand_still(600.0)
            return Verdict(ok=len(looks) > 2, why="the last resync ended long ago")

        checking = asyncio.create_task(end_when_dead(live, failures.append))
        await asyncio.sleep(700.0)
        checking.cancel()
        return looks

    assert len(run_virtual(wake_late())) > 3
    assert failures == []
