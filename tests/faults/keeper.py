# SPDX-License-Identifier: Apache-2.0
"""Keeps an operator's process running, as a kubelet does, and stops it. Knows no faults. Only for tests."""

import threading
from dataclasses import dataclass, field
from typing import Final

from tests.cluster.operator_support import Launcher, Process

STOP_SECONDS: Final = 25.0
"""After SIGTERM; the operator itself allows EXIT_SECONDS."""
KILLED: Final = -9
TERMINATED: Final = -15
"""By a SIGTERM before the operator had come so far as to take signals."""


@dataclass(kw_only=True)
class Keeper:
    """Keeps one operator running: one that ends is started again at once.

    `codes` are the exit codes of those that ended by themselves or were killed, `stopped` of those told to end.
    """

    launcher: Launcher
    flags: tuple[str, ...]
    codes: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    process: Process | None = None
    _wanted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and keep it."""
        self._wanted = True
        self.process = self.launcher.start(*self.flags)
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def kill(self) -> None:
        """SIGKILL whatever runs; a new one comes at once while it is wanted."""
        with self._lock:
            if self.process is not None:
                self.process.popen.kill()

    def stop(self) -> None:
        """SIGTERM, and none comes after it. One that does not end in time is killed, as a kubelet would."""
        with self._lock:
            self._wanted = False
            process, thread = self.process, self._thread
        if process is not None and thread is not None:
            process.popen.terminate()
            thread.join(STOP_SECONDS)
            process.popen.kill()
            thread.join()
            self.stopped.append(process.popen.wait())
        self.process = self._thread = None

    def _keep(self) -> None:
        while True:
            process = self.process
            if process is None:
                return
            code = process.popen.wait()
            with self._lock:
                if not self._wanted:
                    return
                self.codes.append(code)
                self.process = self.launcher.start(*self.flags)
