# SPDX-License-Identifier: Apache-2.0
"""Ends the process when its own end takes too long: a thread, so that nothing in the event loop can hold it up.

Crash-only: no clean-up is worth a process that neither works nor makes room. Must not decide when to end.
"""

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

EXIT_SECONDS: Final = 15.0
"""From signal or failure to the end of the process, whatever hangs. Below a kubelet's default patience of 30 s."""
TELL_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Ending:
    """Once begun, `leave` is called with an exit code after `seconds`, unless the process has ended before."""

    seconds: float = EXIT_SECONDS
    leave: Callable[[int], object] = os._exit
    _timer: threading.Timer | None = None

    def begin(self, code: Callable[[], int]) -> None:
        """Start the clock; the first call counts. `code` is asked at its end. Called in the running loop."""
        if self._timer is not None:
            return
        self._timer = threading.Timer(self.seconds, self._overdue, args=(asyncio.get_running_loop(), code))
        self._timer.daemon = True
        self._timer.start()

    def _overdue(self, loop: asyncio.AbstractEventLoop, code: Callable[[], int]) -> None:
        # telling may hang too: on a full pipe
        anyway = threading.Timer(TELL_SECONDS, self.leave, args=(code(),))
        anyway.daemon = True
        anyway.start()
        try:
            stuck = "\n".join(f"  {where_is(task)}" for task in asyncio.all_tasks(loop))
            log.critical("not ended within %g s; these tasks are left:\n%s", self.seconds, stuck)
            faulthandler.dump_traceback(all_threads=True)
        finally:
            self.leave(code())


def where_is(task: "asyncio.Task[Any]") -> str:
    """Return a task's name and where it waits, outermost first."""
    places: list[str] = []
    waits: object = task.get_coro()
    while isinstance(waits, Coroutine):
        frame = getattr(waits, "cr_frame", None)
        if frame is not None:
            places.append(f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})")
        waits = getattr(waits, "cr_await", None)
    return f"{task.get_name()}: {' > '.join(places) or 'no frame'}, waits for {waits!r}"
