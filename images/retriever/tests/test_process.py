# SPDX-License-Identifier: Apache-2.0
"""A builder process that has ended is told as the failure of the store, on the event loop of the retriever."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import uvloop

from nimblet_retriever.store.chunk import StoreError
from nimblet_retriever.store.frames import VectorsRequest
from nimblet_retriever.store.process import BUILDER_MEMORY, BuilderProcess
from retriever_testing.stores import manifest


def test_a_builder_that_was_killed_and_noticed_is_told(tmp_path: Path) -> None:
    async def ask_the_dead() -> None:
        # given a builder whose end is known before it is asked again
        builder = await BuilderProcess.start(tmp_path / "shard", manifest(), memory=BUILDER_MEMORY)
        os.kill(builder.pid, signal.SIGKILL)
        with pytest.raises(StoreError, match="ended with signal 9"):
            await builder.ask(VectorsRequest(reuse_keys=()))
        # when it is asked, then that is told once more
        async with asyncio.timeout(30):
            with pytest.raises(StoreError, match="ended with signal 9; begin the build again"):
                await builder.ask(VectorsRequest(reuse_keys=()))
            await builder.close()

    uvloop.run(ask_the_dead())
