# SPDX-License-Identifier: Apache-2.0
"""Names and labels: short enough, distinct, the same in every process."""

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


def test_resolver_job_fits_a_label_up_to_a_thousand_tries() -> None:
    name = names.resolver_job("n" * names.MAX_OWNER_LENGTH, source_hash="0" * names.HASH_LENGTH, attempt=999)
    assert len(name) <= 63


def test_pods_and_revisions_of_qdrant_fit_a_label() -> None:
    # the StatefulSet controller puts name and an eleven characters' hash into one
    assert len(names.qdrant("n" * names.MAX_OWNER_LENGTH, number=99)) + 11 <= 63


def test_hash_ignores_the_order_of_keys() -> None:
    assert names.content_hash({"a": 1, "b": [2]}) == names.content_hash({"b": [2], "a": 1}) == "0855bfc20e"


def test_selector_is_sorted() -> None:
    assert labels.selector_string({"b": "2", "a": "1"}) == "a=1,b=2"
