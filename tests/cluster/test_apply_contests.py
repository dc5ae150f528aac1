# SPDX-License-Identifier: Apache-2.0
"""Fights over fields: three repairs, then the rival is named and the object left to it until it calms."""

import pytest

from tests.cluster.apply_support import RIVAL, Rig, config_map, version_of

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]


async def _fight(rig: Rig, rounds: int) -> None:
    """Let the rival take a field and us take it back, `rounds` times."""
    for number in range(rounds):
        rig.overwrite(config_map(a=f"rival {number}"))
        assert await rig.apply_fresh(config_map(a="ours")) == ()


async def test_a_field_taken_back_three_times_is_contested_and_no_longer_written(rig: Rig) -> None:
    await rig.apply(config_map(a="ours"))
    await _fight(rig, 3)
    rig.overwrite(config_map(a="rival again"))
    before = version_of(await rig.read())

    for _ in range(2):
        failures = await rig.apply_fresh(config_map(a="ours"))

        assert [each.category for each in failures] == ["Contested"]
        assert RIVAL in failures[0].message
        assert ".data.a" in failures[0].message
    assert version_of(await rig.read()) == before


async def test_a_field_removed_again_and_again_is_contested_too(rig: Rig) -> None:
    await rig.apply(config_map(a="ours", keep="1"))
    for _ in range(3):
        _remove_field(rig)
        assert await rig.apply_fresh(config_map(a="ours", keep="1")) == ()
    _remove_field(rig)

    failures = await rig.apply_fresh(config_map(a="ours", keep="1"))

    assert [each.category for each in failures] == ["Contested"]
    assert RIVAL in failures[0].message


async def test_a_contest_ends_when_the_rival_agrees(rig: Rig) -> None:
    await rig.apply(config_map(a="ours"))
    await _fight(rig, 3)
    rig.overwrite(config_map(a="rival again"))
    assert await rig.apply_fresh(config_map(a="ours")) != ()

    rig.overwrite(config_map(a="ours"))
    assert await rig.apply_fresh(config_map(a="ours")) == ()
    rig.overwrite(config_map(a="rival once more"))

    assert await rig.apply_fresh(config_map(a="ours")) == ()
    assert (await rig.read())["data"] == {"a": "ours"}


async def test_a_contest_ends_with_another_manifest(rig: Rig) -> None:
    await rig.apply(config_map(a="ours"))
    await _fight(rig, 3)
    rig.overwrite(config_map(a="rival again"))
    assert await rig.apply_fresh(config_map(a="ours")) != ()

    assert await rig.apply_fresh(config_map(a="changed")) == ()

    assert (await rig.read())["data"] == {"a": "changed"}


def _remove_field(rig: Rig) -> None:
    rig.overwrite(config_map(a="mine", theirs="1"))
    rig.overwrite(config_map(theirs="1"))
