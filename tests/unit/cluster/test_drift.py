# SPDX-License-Identifier: Apache-2.0
"""What counts as drift, and how its place is written."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimblet.cluster.drift import MISSING, Drift, drift

LEAVES = st.one_of(st.booleans(), st.integers(-5, 5), st.text("abc", max_size=3))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3),
    max_leaves=12,
)


def pod(**container: object) -> dict[str, object]:
    return {"spec": {"containers": [{"name": "server", **container}]}}


@given(st.dictionaries(st.text("xyz", min_size=1), TREES, max_size=4))
def test_an_object_never_drifts_from_itself(value: dict[str, object]) -> None:
    assert drift(value, copy.deepcopy(value)) == ()


def test_what_others_added_is_no_drift() -> None:
    live = {
        "metadata": {"labels": {"ours": "1", "theirs": "2"}, "uid": "u"},
        "spec": {"containers": [{"name": "sidecar"}, {"name": "server", "image": "i", "tty": False}]},
    }

    assert drift({"metadata": {"labels": {"ours": "1"}}, **pod(image="i")}, live) == ()


def test_a_changed_leaf_is_named_as_the_server_names_it() -> None:
    assert drift(pod(image="mine"), pod(image="theirs")) == (
        Drift(path='.spec.containers[name="server"].image', expected="mine", found="theirs"),
    )


def test_a_missing_container_is_one_drift() -> None:
    found = drift(pod(image="i"), {"spec": {"containers": [{"name": "other"}]}})

    assert [(each.path, each.found) for each in found] == [('.spec.containers[name="server"]', MISSING)]


@pytest.mark.parametrize(
    ("mine", "live"),
    [("1000m", "1"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1", 1), (2, "2")],
)
def test_quantities_are_compared_by_value(mine: object, live: object) -> None:
    rendered = pod(resources={"limits": {"cpu": mine}})

    assert drift(rendered, pod(resources={"limits": {"cpu": live}})) == ()


def test_a_quantity_with_another_value_is_drift() -> None:
    rendered = pod(resources={"limits": {"nvidia.com/gpu": "1"}})

    assert len(drift(rendered, pod(resources={"limits": {"nvidia.com/gpu": "2"}}))) == 1


def test_strings_elsewhere_are_no_quantities() -> None:
    assert len(drift({"data": {"limit": "1000m"}}, {"data": {"limit": "1"}})) == 1


def test_true_is_not_one() -> None:
    assert len(drift({"spec": {"suspend": True}}, {"spec": {"suspend": 1}})) == 1


def test_false_that_went_missing_is_drift() -> None:
    rendered = {"spec": {"automountServiceAccountToken": False}}

    assert [each.found for each in drift(rendered, {"spec": {}})] == [MISSING]


@pytest.mark.parametrize("nothing", [None, []])
def test_null_and_the_empty_list_are_the_same_as_none(nothing: object) -> None:
    assert drift({"spec": {"ingress": nothing}}, {"spec": {}}) == ()


def test_atomic_lists_are_compared_with_length_and_order() -> None:
    assert [each.path for each in drift(pod(args=["a", "b"]), pod(args=["a", "b", "c"]))] == [
        '.spec.containers[name="server"].args'
    ]
    assert [each.path for each in drift(pod(args=["a", "b"]), pod(args=["b", "a"]))] == [
        '.spec.containers[name="server"].args[0]',
        '.spec.containers[name="server"].args[1]',
    ]


def test_an_added_network_rule_is_drift() -> None:
    rule = {"ports": [{"port": 8080}]}
    live = {"ports": [{"port": 8080, "protocol": "TCP"}]}

    assert drift({"spec": {"ingress": [rule]}}, {"spec": {"ingress": [live]}}) == ()
    assert [each.path for each in drift({"spec": {"ingress": [rule]}}, {"spec": {"ingress": [live, {}]}})] == [
        ".spec.ingress"
    ]


def test_ports_are_matched_by_number_and_protocol() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}
    live = {"spec": {"ports": [{"port": 90}, {"port": 80, "protocol": "TCP", "targetPort": "http"}]}}
    server = pod(ports=[{"containerPort": 8080, "name": "http"}])

    assert drift(service, live) == ()
    assert drift(server, pod(ports=[{"containerPort": 8080, "protocol": "TCP", "name": "http"}])) == ()
    assert [each.path for each in drift(server, pod(ports=[{"containerPort": 8080, "protocol": "UDP"}]))] == [
        '.spec.containers[name="server"].ports[containerPort=8080,protocol="TCP"]'
    ]
