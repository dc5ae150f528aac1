# SPDX-License-Identifier: Apache-2.0
"""Hashes a stream in a thread of its own, so that hashing and receiving overlap.

It holds a bounded number of bytes and must not know what the bytes are.
"""

import hashlib
import queue
import threading

_BATCH_BYTES = 2**20
"""Small chunks (a TLS record has 16 KiB) are handed over together: a hand-over costs more than their hash."""
_QUEUED_BATCHES = 8
_Batch = list[bytes]


class RunningDigest:
    """The sha256 of all chunks so far; one thread feeds it. The thread ends with `close`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._batch: _Batch = []
        self._held = 0
        self._queue: queue.Queue[_Batch | None] = queue.Queue(_QUEUED_BATCHES)
        self._thread: threading.Thread | None = None

    def update(self, chunk: bytes) -> None:
        """Take a chunk, which must not change any more; waits only if hashing is far behind."""
        self._batch.append(chunk)
        self._held += len(chunk)
        if self._held >= _BATCH_BYTES:
            self._hand_over()

    def restart(self) -> None:
        """Forget all chunks."""
        self._settle()
        self._digest = hashlib.sha256()

    def hexdigest(self) -> str:
        """Wait until all chunks are hashed; return the digest in hex."""
        self._settle()
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _settle(self) -> None:
        self._hand_over()
        self._queue.join()

    def _hand_over(self) -> None:
        if not self._batch:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hashing", daemon=True)
            self._thread.start()
        self._queue.put(self._batch)
        self._batch, self._held = [], 0

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            for chunk in batch:
                self._digest.update(chunk)
            self._queue.task_done()
