# SPDX-License-Identifier: Apache-2.0
"""The mirror: what it keeps, what it refuses, whom it names."""

import copy

from nimblet.cluster.key import Key
from nimblet.cluster.mirror import UNCHANGED, Mirror
from nimblet.cluster.trim import trim_child, trim_node, trim_pod
from tests.unit.cluster_facts.builders import Json, child, condition, model, pod, running
from tests.unit.cluster_facts.builders import container as container_status

SMALL = Key("CompactModel", "team", "small")


def service(version: int = 1, port: int = 80) -> Json:
    return child(
        "Service", "small-model", version=version, spec={"ports": [{"port": port}]}, status={"loadBalancer": {}}
    )


def node(version: int = 1, heartbeat: str = "1", memory: str = "32Gi", labels: Json | None = None) -> Json:
    return {
        "kind": "Node",
        "metadata": {"name": "n1", "uid": "u", "resourceVersion": str(version), "labels": labels or {}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "8", "memory": memory, "pods": "110"},
            "conditions": [condition("Ready", "True", heartbeat)],
        },
    }


def test_a_child_is_found_by_its_owner() -> None:
    mirror = Mirror()
    change = mirror.put("Service", service())
    assert (change.changed, change.owner) == (True, SMALL)
    assert [body["kind"] for body in mirror.owned(SMALL, "Service")] == ["Service"]
    assert mirror.owned(Key("CompactModel", "other", "small"), "Service") == ()


def test_an_ownerless_pod_is_found_by_its_label() -> None:
    assert Mirror().put("Pod", pod()).owner == SMALL


def test_an_older_version_never_replaces_a_newer_one() -> None:
    mirror = Mirror()
    mirror.put("Service", service(version=10, port=81))
    assert mirror.put("Service", service(version=9, port=80)) == UNCHANGED
    assert mirror.owned(SMALL, "Service")[0]["spec"] == {"ports": [{"port": 81}]}


def test_our_own_write_coming_back_as_an_event_changes_nothing() -> None:
    mirror = Mirror()
    mirror.put("Service", service(version=10))
    assert mirror.put("Service", service(version=10)) == UNCHANGED


def test_a_late_deletion_of_a_former_object_leaves_the_new_one() -> None:
    mirror = Mirror()
    former = copy.deepcopy(service(version=5))
    former["metadata"]["uid"] = "former"  # type: ignore[index]
    mirror.put("Service", service(version=10))
    assert mirror.remove("Service", former) == UNCHANGED
    assert mirror.sizes()["Service"] == 1


def test_a_deletion_names_the_owner_and_leaves_nothing() -> None:
    mirror = Mirror()
    mirror.put("Service", service())
    assert mirror.remove("Service", service(version=2)).owner == SMALL
    assert mirror.owned(SMALL, "Service") == ()


def test_a_status_only_event_of_our_own_resource_is_no_change() -> None:
    mirror = Mirror()
    assert mirror.put("CompactModel", model(version=1)).changed
    assert not mirror.put("CompactModel", model(version=2, placed="True")).changed
    assert mirror.put("CompactModel", model(version=3, annotations={"a": "b"})).changed
    assert mirror.put("CompactModel", model(version=4, deletionTimestamp="2026-01-01T00:00:00Z")).changed


def test_a_nodes_heartbeat_is_no_change_and_its_totals_are() -> None:
    mirror = Mirror()
    assert mirror.put("Node", node(version=1)).changed
    assert not mirror.put("Node", node(version=2, heartbeat="2")).changed
    assert mirror.put("Node", node(version=3, memory="16Gi")).changed
    assert mirror.put("Node", node(version=4, memory="16Gi", labels={"gpu": "no"})).changed


def test_a_child_that_changes_hands_leaves_its_former_owner() -> None:
    mirror = Mirror()
    mirror.put("Service", service())
    moved = child("Service", "small-model", version=2, owner_name="other")
    assert mirror.put("Service", moved).owner == Key("CompactModel", "team", "other")
    assert mirror.owned(SMALL, "Service") == ()


def test_prune_drops_what_the_list_lacks_and_keeps_what_is_newer_than_it() -> None:
    mirror = Mirror()
    mirror.put("Service", child("Service", "kept", version=3))
    mirror.put("Service", child("Service", "gone", version=4, owner_name="lost"))
    mirror.put("Service", child("Service", "young", version=12))
    touched = mirror.prune("Service", seen={("team", "kept")}, version="10")
    assert touched == {Key("CompactModel", "team", "lost")}
    assert mirror.sizes()["Service"] == 2


def test_a_list_that_was_read_before_a_deletion_brings_nothing_back() -> None:
    # Given a list that the server wrote at version 10, and a deletion that the watch brings before it is read
    mirror = Mirror()
    mirror.put("Service", service(version=9))
    mirror.remove("Service", service(version=11))
    # When the list is read, then what is gone stays gone, for a later list too
    assert mirror.put("Service", service(version=9)) == UNCHANGED
    assert mirror.prune("Service", seen={("team", "small-model")}, version="10") == frozenset()
    assert mirror.put("Service", service(version=9)) == UNCHANGED
    assert mirror.sizes()["Service"] == 0
    # And what is made anew under its name is there
    assert mirror.put("Service", service(version=12)).changed


def test_what_lost_our_label_alone_is_there_when_it_is_read_by_its_name() -> None:
    # Given an object that left what is watched: the watch tells of it as deleted, at the version that it has
    mirror = Mirror()
    mirror.put("Service", service(version=9))
    mirror.remove("Service", service(version=10))
    # When it is read all the same, then it is known, though the server has nothing newer of it
    assert mirror.put("Service", service(version=10)).changed
    assert mirror.sizes()["Service"] == 1


def test_what_we_deleted_ourselves_is_there_until_the_server_says_that_it_went() -> None:
    mirror = Mirror()
    mirror.put("Service", service(version=9))
    mirror.remove("Service", {"metadata": {"name": "small-model", "namespace": "team"}})
    assert mirror.sizes()["Service"] == 0
    assert mirror.put("Service", service(version=10)).changed


def test_prune_of_one_namespace_leaves_the_others() -> None:
    mirror = Mirror()
    mirror.put("Service", service())
    assert mirror.prune("Service", seen=set(), version="10", namespaces=("elsewhere",)) == frozenset()
    assert mirror.sizes()["Service"] == 1


def test_trimming_drops_bookkeeping_and_never_touches_its_input() -> None:
    body = service()
    body["metadata"]["annotations"] = {  # type: ignore[index]
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "kept": "yes",
    }
    before = copy.deepcopy(body)
    trimmed = trim_child(body)
    assert body == before
    assert "status" not in trimmed
    assert "managedFields" not in trimmed["metadata"]  # type: ignore[operator]
    assert trimmed["metadata"]["annotations"] == {"kept": "yes"}  # type: ignore[index]


def test_a_trimmed_pod_keeps_no_spec_and_a_trimmed_node_no_conditions() -> None:
    trimmed = trim_pod(pod(status={"containerStatuses": [container_status("server", running())]}))
    assert trimmed["spec"] == {"nodeName": "node-1"}
    statuses = trimmed["status"]["containerStatuses"]  # type: ignore[index]
    assert "imageID" not in statuses[0]
    assert trim_node(node())["status"] == {"allocatable": {"cpu": "8", "memory": "32Gi"}}


def test_a_trimmed_node_keeps_its_devices_and_huge_pages() -> None:
    totals = {"cpu": "8", "pods": "110", "ephemeral-storage": "9Gi"}
    devices = {"nvidia.com/gpu": "2", "nvidia.com/mig-1g.10gb": "0", "hugepages-2Mi": "4Gi"}
    found = trim_node({**node(), "status": {"allocatable": {**totals, **devices}}})
    assert found["status"] == {"allocatable": {"cpu": "8", **devices}}


def test_a_step_that_no_fact_reads_is_no_change() -> None:
    def job(version: int, **status: object) -> dict[str, object]:
        return {**child("Job", "small-resolve-1", version=version), "status": status}

    mirror = Mirror()
    mirror.put("Job", job(1, active=1))

    assert not mirror.put("Job", job(2, active=1, ready=1, uncountedTerminatedPods={})).changed
    assert mirror.put("Job", job(3, active=0, conditions=[{"type": "Complete", "status": "True"}])).changed


def test_the_revision_of_a_kind_grows_with_its_changes_only() -> None:
    mirror = Mirror()
    node = {"metadata": {"name": "n", "uid": "n", "resourceVersion": "1"}, "status": {"allocatable": {"cpu": "1"}}}
    mirror.put("Node", node)
    first = mirror.revision("Node")

    mirror.put("Node", {**node, "metadata": {"name": "n", "uid": "n", "resourceVersion": "2"}})
    assert mirror.revision("Node") == first
    mirror.remove("Node", node)
    assert mirror.revision("Node") > first
