# SPDX-License-Identifier: Apache-2.0
"""Names and labels: short enough, distinct, the same in every process."""

import pytest

from nimblet import labels, names


def test_children_of_the_longest_name_fit() -> None:
    owner = "n" * names.MAX_OWNER_LENGTH
    digest = names.content_hash("x")
    made = {
        names.server(owner),
        names.resolver(owner),
        names.artifact(owner, source_hash=digest),
        names.fetch_policy(owner),
        names.api_key(owner),
    }
    assert len(made) == 5
    assert all(len(name) <= 63 for name in made)


@pytest.mark.parametrize("attempt", [1, 999, 1000, 123_456])
def test_jobs_fit_a_label_however_often_they_are_tried(attempt: int) -> None:
    owner, digits = "n" * names.MAX_OWNER_LENGTH, "0" * names.HASH_LENGTH
    named = [
        [
            names.resolver_job(owner, source_hash=digits, attempt=number),
            names.fill_job(owner, folder=digits, attempt=number),
            names.build(owner, build_hash=digits, attempt=number),
        ]
        for number in (attempt, attempt + 1)
    ]
    assert all(len(name) <= 63 for name in named[0])
    # and the next try has another name: the last one's Job may still be there
    assert not set(named[0]) & set(named[1])


def test_pods_and_revisions_of_qdrant_fit_a_label() -> None:
    # the StatefulSet controller puts name and an eleven characters' hash into one
    assert len(names.qdrant("n" * names.MAX_OWNER_LENGTH, number=99)) + 11 <= 63


def test_hash_ignores_the_order_of_keys() -> None:
    assert names.content_hash({"a": 1, "b": [2]}) == names.content_hash({"b": [2], "a": 1}) == "0855bfc20e"


def test_selector_is_sorted() -> None:
    assert labels.selector_string({"b": "2", "a": "1"}) == "a=1,b=2"
