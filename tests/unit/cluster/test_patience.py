# SPDX-License-Identifier: Apache-2.0
"""Waiting for the API server at the start, in virtual time."""

import asyncio

import pytest

from nimblet.cluster.errors import Forbidden, Transient
from nimblet.cluster.patience import patiently
from tests.unit.shell.virtual import run_virtual


def test_a_start_waits_longer_and_longer_until_the_server_answers() -> None:
    errors, at = [Transient("away")] * 6, list[float]()

    async def ask() -> str:
        at.append(asyncio.get_running_loop().time())
        if errors:
            raise errors.pop()
        return "answer"

    assert run_virtual(patiently(ask, what="the test")) == "answer"
    assert at == [0, 1, 3, 7, 15, 23, 31]


def test_a_server_that_asks_for_patience_gets_it() -> None:
    errors, at = [Transient("throttled", retry_after=20.0)], list[float]()

    async def ask() -> None:
        at.append(asyncio.get_running_loop().time())
        if errors:
            raise errors.pop()

    run_virtual(patiently(ask, what="the test"))
    assert at == [0, 20]


def test_what_trying_again_can_not_heal_propagates() -> None:
    async def ask() -> None:
        raise Forbidden("no")

    with pytest.raises(Forbidden):
        run_virtual(patiently(ask, what="the test"))
