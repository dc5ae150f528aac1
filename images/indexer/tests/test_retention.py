# SPDX-License-Identifier: Apache-2.0
"""Which generations go: never what serves, what was built, or what one rolls back to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimblet_indexer.retention import Ended, Kept, Store, plan_drops


def store(names: str, *, serving: str | None, before: str | None, built: str, unsealed: str = "") -> Store:
    """Return a store; each letter is a generation."""
    kept = [Kept(name=name, sealed=name not in unsealed) for name in names]
    return Store(generations=kept, serving=serving, before=before, built=built)


@pytest.mark.parametrize(
    ("held", "ended", "expected"),
    [
        (store("abc", serving="c", before="b", built="c"), Ended.SERVED, ["a"]),
        (store("abcd", serving="d", before="b", built="d"), Ended.SERVED, ["a", "c"]),  # c fell through its gate
        (store("abcd", serving="d", before="c", built="d", unsealed="b"), Ended.SERVED, ["a", "b"]),
        (store("abcd", serving="b", before="b", built="d"), Ended.HELD_BY_GATE, ["c"]),
        (store("abcd", serving="a", before="a", built="d"), Ended.HELD_BY_PIN, ["b"]),
        (store("a", serving=None, before=None, built="a"), Ended.HELD_BY_GATE, []),
    ],
)
def test_drops(held: Store, ended: Ended, expected: list[str]) -> None:
    assert plan_drops(held, ended, retain=1) == expected


@given(
    names=st.sets(st.sampled_from("abcdefgh"), min_size=1),
    unsealed=st.sets(st.sampled_from("abcdefgh")),
    serving=st.sampled_from("abcdefgh"),
    ended=st.sampled_from(Ended),
    retain=st.integers(min_value=0, max_value=5),
)
def test_what_serves_and_what_was_built_stay(
    names: set[str], unsealed: set[str], serving: str, ended: Ended, retain: int
) -> None:
    held = store("".join(names), serving=serving, before=None, built=max(names), unsealed="".join(unsealed))
    drops = plan_drops(held, ended, retain=retain)
    assert not {serving, max(names)} & set(drops)
    assert len(drops) == len(set(drops))
