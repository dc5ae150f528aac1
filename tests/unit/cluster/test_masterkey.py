# SPDX-License-Identifier: Apache-2.0
"""Derived keys: stable, distinct by use, and telling nothing of what they came from."""

from nimblet.cluster.masterkey import api_key, content_hash

MASTER = bytes(range(32))


def test_an_api_key_depends_on_master_uid_and_version_alone() -> None:
    key = api_key(MASTER, uid="u", version=1)

    assert key == api_key(MASTER, uid="u", version=1)
    others = {
        api_key(MASTER, uid="u", version=2),
        api_key(MASTER, uid="v", version=1),
        api_key(bytes(32), uid="u", version=1),
    }
    assert len(others | {key}) == 4


def test_an_api_key_is_a_prefix_and_64_hex_digits() -> None:
    key = api_key(MASTER, uid="u", version=1)

    assert key.startswith("nk-")
    assert len(bytes.fromhex(key.removeprefix("nk-"))) == 32


def test_uid_and_version_can_not_be_shifted_into_each_other() -> None:
    assert api_key(MASTER, uid="u1", version=1) != api_key(MASTER, uid="u", version=11)


def test_a_content_hash_sees_every_change_and_no_order() -> None:
    assert content_hash(MASTER, {"a": "1", "b": "2"}) == content_hash(MASTER, {"b": "2", "a": "1"})
    assert content_hash(MASTER, {"a": "1"}) != content_hash(MASTER, {"a": "2"})
    assert content_hash(MASTER, {"a": "1"}) != content_hash(bytes(32), {"a": "1"})
