# SPDX-License-Identifier: Apache-2.0
"""A process that does not end by itself: `python -m tests.unit.shell.stubborn task|loop`. Only for tests."""

import asyncio
import sys
import threading

from nimblet.shell.ending import Ending
from nimblet.shell.logs import set_up_logging

SECONDS = 0.3
CODE = 3


async def clings() -> None:
    """Go on after every cancellation."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            sys.stderr.write("cancelled, and goes on\n")


def blocks() -> None:
    """Hold the event loop up."""
    threading.Event().wait()


async def main(how: str) -> None:
    task = asyncio.create_task(clings(), name="stubborn")
    await asyncio.sleep(0)
    Ending(seconds=SECONDS).begin(lambda: CODE)
    if how == "loop":
        blocks()
    task.cancel()
    await task


if __name__ == "__main__":
    set_up_logging("text")
    asyncio.run(main(sys.argv[1]))
