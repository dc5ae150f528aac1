# SPDX-License-Identifier: Apache-2.0
"""The servers of a Dedicated store: what they are, what size they have, and how one set gives way to another."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nimblet.manifests.qdrant import QdrantKeys
from nimblet.plan.qdrant import QdrantLoad, QdrantPlan, QdrantSets, QdrantShape, plan_qdrant, size_server, stepped
from nimblet.quantity import GIBIBYTE, MEBIBYTE, bytes_of
from tests.qdrant import KEY, LOAD, READER, SHAPE, an_owner, live_set, planned

CLUSTER = replace(SHAPE, replicas=3, shards=6, replication_factor=2)


def of_kind(plan: QdrantPlan, kind: str) -> dict[str, Any]:
    """Return the children of a kind by name."""
    return {item["metadata"]["name"]: item for item in map(as_any, plan.children) if item["kind"] == kind}


def as_any(item: Mapping[str, object]) -> Any:
    return item


def sets(plan: QdrantPlan) -> dict[str, int]:
    """Return the replicas of each StatefulSet."""
    return {name: item["spec"]["replicas"] for name, item in of_kind(plan, "StatefulSet").items()}


def container(plan: QdrantPlan) -> Any:
    return of_kind(plan, "StatefulSet")["docs-qdrant"]["spec"]["template"]["spec"]["containers"][0]


# what the servers are


def test_peers_start_together_and_find_each_other_before_they_are_ready() -> None:
    plan = planned(CLUSTER)
    server = of_kind(plan, "StatefulSet")["docs-qdrant"]["spec"]
    assert server["podManagementPolicy"] == "Parallel"
    headless = of_kind(plan, "Service")[server["serviceName"]]["spec"]
    assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)
    assert headless["selector"] == server["selector"]["matchLabels"]


def test_first_peer_is_the_one_that_all_begin_with() -> None:
    env = {item["name"]: item.get("value") for item in container(planned(CLUSTER))["env"]}
    first = str(env["QDRANT_URI"]).replace("$(POD_NAME)", "docs-qdrant-0")
    assert first == env["QDRANT_BOOTSTRAP"] == "http://docs-qdrant-0.docs-qdrant-headless:6335"
    # a value sees only what stands before it
    assert next(iter(env)) == "POD_NAME"


def test_probes_ask_where_no_key_is_needed() -> None:
    found = container(planned(CLUSTER))
    paths = {name: found[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def test_pods_meet_the_restricted_standard() -> None:
    pod = of_kind(planned(CLUSTER), "StatefulSet")["docs-qdrant"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container(planned(CLUSTER))["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    claims = {item["metadata"]["name"] for item in claims_of(planned(CLUSTER))}
    volumes = {item["name"] for item in pod["volumes"]} | claims
    assert {item["name"] for item in pod["containers"][0]["volumeMounts"]} == volumes


def claims_of(plan: QdrantPlan) -> list[Any]:
    claims: list[Any] = of_kind(plan, "StatefulSet")["docs-qdrant"]["spec"]["volumeClaimTemplates"]
    return claims


def test_snapshots_have_a_volume_of_the_same_size() -> None:
    storage, snapshots = claims_of(planned(replace(SHAPE, size="20Gi", storage_class="fast")))
    assert (storage["metadata"]["name"], snapshots["metadata"]["name"]) == ("storage", "snapshots")
    assert storage["spec"] == snapshots["spec"]
    assert storage["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert storage["spec"]["storageClassName"] == "fast"


def test_keys_are_in_the_secret_alone_and_servers_read_them_from_a_file() -> None:
    owner = replace(an_owner(), keys=QdrantKeys(api_key=KEY, read_only=READER, former="nk-old", versions=(1, 2)))
    plan = plan_qdrant(owner, SHAPE, LOAD, QdrantSets(serving=0))
    secret = of_kind(plan, "Secret")["docs-qdrant-keys"]
    texts = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    assert (texts["api-key"], texts["read-only-api-key"]) == (KEY, READER)
    assert yaml.safe_load(texts["server.yaml"]) == {
        "service": {"api_key": KEY, "read_only_api_key": READER, "alt_api_key": "nk-old"}
    }
    others = json.dumps([item for item in plan.children if item["kind"] != "Secret"])
    assert not [key for key in (KEY, READER, "nk-old", *secret["data"].values()) if key in others]
    assert not [key for key in (KEY, READER, "nk-old") if key in repr(owner)]
    # the servers mount their own file alone, and another key rolls them
    pod = of_kind(plan, "StatefulSet")["docs-qdrant"]["spec"]["template"]
    (keys,) = [item["secret"] for item in pod["spec"]["volumes"] if item["name"] == "keys"]
    assert [item["key"] for item in keys["items"]] == ["server.yaml"]
    assert pod["metadata"]["labels"]["nimblet.dev/key-versions"] == "1-2"


def test_only_the_retriever_peers_and_scrapers_reach_a_server() -> None:
    policy = of_kind(planned(CLUSTER), "NetworkPolicy")["docs-qdrant"]["spec"]
    rest, peers = policy["ingress"]
    own = {"podSelector": policy["podSelector"]}
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert rest["from"] == [an_owner().callers[0], own, scraper]
    assert (peers["from"], peers["ports"]) == ([own], [{"protocol": "TCP", "port": 6335}])
    # out: names, and the peers
    assert [rule["to"] for rule in policy["egress"]] == [[{"namespaceSelector": {}}], [own]]


@pytest.mark.parametrize(("replicas", "budgets"), [(1, []), (3, ["docs-qdrant"])])
def test_a_drain_takes_one_server_at_a_time(replicas: int, budgets: list[str]) -> None:
    assert list(of_kind(planned(replace(SHAPE, replicas=replicas)), "PodDisruptionBudget")) == budgets


@pytest.mark.parametrize(("copies", "confirmed"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_a_write_needs_most_of_the_copies(copies: int, confirmed: int) -> None:
    shape = replace(SHAPE, replicas=5, replication_factor=copies)
    assert planned(shape).collection.write_consistency_factor == confirmed


# what size they have


def test_memory_is_that_of_the_documented_formula() -> None:
    # 1,000,000 vectors of 1,024 numbers x 4 bytes x 1.5 are 5.72 GiB; words and filters 2.38 GiB; base 0.25 GiB
    load = QdrantLoad(chunks=1_000_000, dimension=1024, generations=1)
    resident = 256 * MEBIBYTE + 1_000_000 * (1024 * 4 * 1.5 + 2048 + 512)
    memory = bytes_of(size_server(SHAPE, load).memory)
    assert resident / 0.8 <= memory <= 1.25 * resident / 0.8
    # twice the copies on twice the servers is the same a server, and three generations three times the passages
    assert size_server(replace(SHAPE, replicas=2, replication_factor=2), load).memory == f"{memory // MEBIBYTE}Mi"
    thrice = size_server(SHAPE, replace(load, chunks=3_000_000))
    assert size_server(SHAPE, replace(load, generations=3)).memory == thrice.memory


def test_less_in_memory_needs_less_of_it() -> None:
    load = QdrantLoad(chunks=1_000_000, dimension=1024)

    def needed(**changes: Any) -> int:
        return bytes_of(size_server(replace(SHAPE, **changes), load).memory)

    mapped = [needed(memory="OnDisk", quantization=kind) for kind in ("None", "Binary", "Scalar")]
    assert max(mapped) < needed() <= needed(quantization="Binary") <= needed(quantization="Scalar")
    # the compressed copy is in memory where the vectors are not: a quarter of them, with its graph
    assert mapped[2] < needed() / 2


def test_claims_that_are_too_small_are_told_with_what_is_needed() -> None:
    large = QdrantLoad(chunks=5_000_000, dimension=768)
    plan = plan_qdrant(an_owner(), SHAPE, large, QdrantSets(serving=0))
    assert plan.short.startswith("Each server's claim has 10.00Gi; this index needs about ")
    assert planned(SHAPE).short == ""
    assert planned(SHAPE).sizing.disk_bytes < 10 * GIBIBYTE


@given(st.integers(1, 2**50))
def test_steps_are_few_and_never_less(count: int) -> None:
    step = stepped(count)
    assert count <= step <= 1.25 * count + MEBIBYTE
    assert stepped(step) == step


def test_a_shrinking_index_restarts_no_server() -> None:
    # Given servers of a larger index, then most documents are gone
    before = live_set(1, replicas=1, memory="64Gi")
    # Then they keep what they have; a growing one rolls to more
    kept = container(planned(SHAPE, before, serving=1))["resources"]["limits"]["memory"]
    assert bytes_of(kept) == 64 * 2**30
    small = live_set(1, replicas=1, memory="300Mi")
    assert bytes_of(container(planned(SHAPE, small, serving=1))["resources"]["limits"]["memory"]) > 300 * MEBIBYTE


# how one set gives way to another


def test_more_servers_join_the_set_that_is_there() -> None:
    plan = planned(CLUSTER, live_set(1, replicas=1), serving=1)
    assert sets(plan) == {"docs-qdrant": 3}
    assert (plan.target, plan.former, plan.deletions) == ("http://docs-qdrant.team.svc:6333", (), ())


@pytest.mark.parametrize(
    "change",
    [
        {"replicas": 1},
        {"size": "20Gi", "replicas": 3},
        {"storage_class": "fast", "replicas": 3},
        {"memory": "OnDisk", "replicas": 3},
    ],
)
def test_what_cannot_be_changed_makes_a_set_beside(change: dict[str, Any]) -> None:
    # Given three servers that answer, when fewer or other claims are asked for
    shape = replace(SHAPE, **change)
    plan = planned(shape, live_set(1, replicas=3), serving=1)
    # Then builds go to a new set, the old answers as it is, and nothing is deleted
    assert sets(plan) == {"docs-qdrant": 3, "docs-qdrant-s2": shape.replicas}
    assert plan.target == "http://docs-qdrant-s2.team.svc:6333"
    assert plan.former == ("http://docs-qdrant.team.svc:6333",)
    assert plan.deletions == ()
    assert "docs-qdrant-s2" in plan.moving
    old = of_kind(plan, "StatefulSet")["docs-qdrant"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert old["resources"]["requests"]["storage"] == "10Gi"
    assert "storageClassName" not in old


def test_the_old_set_goes_when_the_new_one_serves() -> None:
    old, new = live_set(1, replicas=3), live_set(2, replicas=1)
    plan = planned(SHAPE, old, new, serving=2)
    assert sets(plan) == {"docs-qdrant-s2": 1}
    assert plan.deletions == tuple(old.children)
    assert (plan.former, plan.moving) == ((), "")


def test_an_edit_taken_back_keeps_the_set_that_answers() -> None:
    answers, begun = live_set(1, replicas=3), live_set(2, replicas=1)
    plan = planned(replace(SHAPE, replicas=3), answers, begun, serving=1)
    assert plan.target == "http://docs-qdrant.team.svc:6333"
    assert plan.deletions == tuple(begun.children)


def test_a_begun_set_that_fits_no_more_is_replaced_under_a_new_name() -> None:
    # its claims may still be there under the old names
    answers, begun = live_set(1, replicas=3), live_set(2, replicas=2)
    plan = planned(SHAPE, answers, begun, serving=1)
    assert sets(plan) == {"docs-qdrant": 3, "docs-qdrant-s3": 1}
    assert plan.deletions == tuple(begun.children)


def test_claims_of_a_retained_set_that_leaves_go_with_it() -> None:
    old, new = replace(live_set(1, replicas=3), retained=True), live_set(2, replicas=1)
    # first it is told to take its claims along, then it goes
    plan = planned(SHAPE, old, new, serving=2)
    assert set(sets(plan)) == {"docs-qdrant-s2"}
    (retiring,) = (item for item in map(as_any, plan.retiring) if item["kind"] == "StatefulSet")
    policy = retiring["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert (policy["whenDeleted"], plan.deletions) == ("Delete", ())
    assert planned(SHAPE, replace(old, retained=False), new, serving=2).deletions == tuple(old.children)


def test_retained_claims_outlive_the_index() -> None:
    plan = planned(replace(SHAPE, retained=True))
    policy = of_kind(plan, "StatefulSet")["docs-qdrant"]["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy["whenDeleted"] == "Retain"
    marks = {item["metadata"]["annotations"]["nimblet.dev/retained-for"] for item in claims_of(plan)}
    assert marks == {"RetrievalIndex.docs"}


def test_while_nobody_knows_what_serves_nothing_is_deleted_and_the_old_set_answers() -> None:
    live = (live_set(1, replicas=3), live_set(2, replicas=1))
    plan = planned(SHAPE, *live, serving=None)
    assert plan.deletions == ()
    assert plan.former == ("http://docs-qdrant.team.svc:6333",)
    assert plan.target == "http://docs-qdrant-s2.team.svc:6333"


SHAPES = st.builds(
    QdrantShape,
    replicas=st.integers(1, 4),
    size=st.sampled_from(["10Gi", "20Gi"]),
    storage_class=st.sampled_from([None, "fast"]),
)


@given(st.lists(SHAPES, min_size=1, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_answering_set_is_never_deleted_and_it_ends_with_one(
    shapes: list[QdrantShape], swaps: list[bool]
) -> None:
    # Given edits, some followed by a swap to the new servers and some by the next edit
    live: tuple[Any, ...] = ()
    serving = 0
    for shape, swapped in zip(shapes, swaps, strict=False):
        plan = planned(shape, *live, serving=serving)
        assert serving == 0 or all(str(serving) != child.uid.rpartition("-")[2] for child in plan.deletions)
        live = after(plan, shape, live)
        assert len(live) <= 2
        target = number_of(plan.target)
        serving = target if swapped or serving not in {item.number for item in live} else serving
    # When the last shape's generation serves, and the plan is applied
    serving = number_of(planned(shapes[-1], *live, serving=serving).target)
    live = after(planned(shapes[-1], *live, serving=serving), shapes[-1], live)
    live = after(planned(shapes[-1], *live, serving=serving), shapes[-1], live)
    # Then one set is left, as asked
    assert [item.number for item in live] == [serving]
    assert live[0].replicas >= shapes[-1].replicas


def number_of(url: str) -> int:
    name = url.removeprefix("http://").partition(".")[0]
    return int(name.removeprefix("docs-qdrant").removeprefix("-s") or 1)


def after(plan: QdrantPlan, shape: QdrantShape, live: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the sets that are there once a plan was applied."""
    known = {item.number: item for item in live}
    gone = {child.uid.rpartition("-")[2] for child in plan.deletions}
    made = {}
    for name, replicas in sets(plan).items():
        number = number_of(f"http://{name}.")
        old = known.get(number)
        size, storage = (old.size, old.storage_class) if old else (shape.size, shape.storage_class)
        made[number] = live_set(number, replicas=replicas, size=size, storage_class=storage)
    left = {number: item for number, item in {**known, **made}.items() if str(number) not in gone}
    return tuple(left[number] for number in sorted(left))
