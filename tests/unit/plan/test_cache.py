# SPDX-License-Identifier: Apache-2.0
"""The cache's stage: filler, mount, egress; what stops it, and that a running model is never touched."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nimblet import labels
from nimblet.api.compactmodel import CompactModel
from nimblet.manifests.cache import CLAIM, FILLER
from nimblet.plan.cache import cache_folder
from nimblet.plan.facts import (
    ChildRef,
)
from nimblet.plan.source import spec_hash
from tests.builders import (
    NOW,
    SMOLLM2_FILE,
    SMOLLM2_URI,
    a_model,
    a_pod,
    a_secret,
    a_spec,
    an_artifact,
    child,
    edited,
    kinds,
    plan_of,
    revision_of,
    served,
    serving_facts,
)
from tests.cached import (
    CLASSES,
    FOLDER,
    RWO,
    RWX,
    a_claim,
    a_fill,
    cached_facts,
    corrupted,
    facts_of,
    failed,
    filled,
    revision_of_cached,
    running_facts,
)
from tests.conditions import message, shown


def pod_of(model: CompactModel) -> dict[str, Any]:
    deployment = child(plan_of(model, cached_facts(model)).children, "Deployment")
    return dict(deployment["spec"]["template"]["spec"])


def test_first_the_claim_then_the_filler_then_the_server() -> None:
    model = a_model(**RWX)
    first = plan_of(model, facts_of(model))
    claim = child(first.children, "PersistentVolumeClaim")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "shared",
    }
    assert {"Job", "Deployment"} & set(kinds(first)) == set()

    second = plan_of(model, facts_of(model, claim=a_claim()))
    job = child(second.children, "Job", f"smollm2-fill-{FOLDER[:10]}-1")
    assert job["metadata"]["annotations"][labels.CLAIM_UID] == "uid-claim"
    assert shown(second, "Ready") == ("Unknown", "Downloading")

    third = plan_of(model, cached_facts(model))
    assert "Job" not in kinds(third)
    assert "Deployment" in kinds(third)
    assert third.status.cache is not None
    assert (third.status.cache.claim, third.status.cache.folder) == ("smollm2-cache", FOLDER)
    assert third.status.cache.bytes == 98362432


def test_the_server_reads_the_whole_claim_and_checks_it_without_network_or_credentials() -> None:
    pod = pod_of(a_model(**RWX))
    volume = next(item for item in pod["volumes"] if item["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "smollm2-cache", "readOnly": True}
    assert {item["name"] for item in pod["volumes"]} == {"artifact", "models", "key", "tmp"}
    [loader], [server] = pod["initContainers"], pod["containers"]
    assert loader["args"][0] == "verify"
    assert loader["args"][-2:] == ["--folder", FOLDER]
    for container in (loader, server):
        mount = next(item for item in container["volumeMounts"] if item["name"] == "models")
        assert mount == {"name": "models", "mountPath": "/models", "readOnly": True}
    assert server["args"][server["args"].index("--model") + 1] == f"/models/{FOLDER}/{SMOLLM2_FILE}"
    assert "ephemeral-storage" not in server["resources"]["requests"]


def test_the_server_has_no_egress_once_no_pod_fetches_for_itself() -> None:
    model = a_model(**RWX)
    policy = child(plan_of(model, running_facts(model)).children, "NetworkPolicy", "smollm2-model")
    assert policy["spec"]["egress"] == []
    assert "Egress" in policy["spec"]["policyTypes"]
    older = running_facts(model, pods=(a_pod("older"),))
    policy = child(plan_of(model, older).children, "NetworkPolicy", "smollm2-model")
    assert policy["spec"]["egress"] != []
    filler = child(plan_of(model, running_facts(model)).children, "NetworkPolicy", "smollm2-fill")
    assert filler["spec"]["egress"] != []


def test_filling_is_told_with_its_progress() -> None:
    model = a_model(**RWX)
    plan = plan_of(model, facts_of(model, claim=a_claim(), fills=(a_fill(download_percent=40),)))
    assert message(plan, "Ready") == "Filling the cache smollm2-cache: 40 %."
    assert plan.status.download_percent == 40
    assert "Job" not in kinds(plan)


def test_a_running_model_is_ready_and_nothing_more_is_wanted() -> None:
    model = a_model(**RWX)
    plan = plan_of(model, running_facts(model))
    assert shown(plan, "Ready") == ("True", "Ready")
    assert plan.deletions == ()


def test_a_job_that_vanished_is_made_again_and_the_model_stays_ready() -> None:
    model = a_model(**RWX)
    plan = plan_of(model, running_facts(model, fills=()))
    assert shown(plan, "Ready") == ("True", "Ready")
    assert {"Job", "Deployment"} <= set(kinds(plan))


def test_a_claim_made_anew_is_filled_anew() -> None:
    model = a_model(**RWX)
    facts = facts_of(model, claim=a_claim(uid="uid-new"), fills=(filled(),))
    # when the Job of the claim before is there, which has the name of the one that is to come
    plan = plan_of(model, facts)
    # then it goes first, so that it is never written over and taken for one that filled the new claim
    assert "Job" not in kinds(plan)
    assert [item.uid for item in plan.deletions] == ["uid-fill-1"]
    assert plan.requeue_after is not None
    # and the other one comes
    job = child(plan_of(model, replace(facts, fills=())).children, "Job")
    assert job["metadata"]["annotations"][labels.CLAIM_UID] == "uid-new"


def test_a_corrupted_folder_is_told_and_filled_anew_at_once() -> None:
    model = a_model(**RWX)
    facts = running_facts(model, pods=(corrupted(model),))
    plan = plan_of(model, facts)
    assert shown(plan, "Ready") == ("False", "CacheCorrupted")
    assert "Expected sha256 a; found b." in message(plan, "Ready")
    assert shown(plan, "Verified") == ("False", "CacheCorrupted")
    assert child(plan.children, "Job")["metadata"]["name"].endswith("-2")

    healing = replace(facts, fills=(a_fill(2),))
    told = model.model_copy(update={"status": plan.status})
    assert shown(plan_of(told, healing), "Ready") == ("False", "CacheCorrupted")
    healed = replace(facts, fills=(filled(2, finished_at=NOW - timedelta(seconds=0.5)),))
    assert "Job" not in kinds(plan_of(told, healed))


def test_a_folder_corrupted_again_and_again_waits_longer_each_time() -> None:
    model = a_model(**RWX)
    job = filled(3, finished_at=NOW - timedelta(seconds=1))
    plan = plan_of(model, running_facts(model, pods=(corrupted(model),), fills=(job,)))
    assert "Job" not in kinds(plan)
    assert plan.requeue_after == pytest.approx(29.0)


def test_a_full_volume_names_the_claim_and_more_room_is_tried_at_once() -> None:
    model = a_model(**RWX)
    facts = facts_of(model, claim=a_claim(), fills=(failed("DiskFull"),))
    plan = plan_of(model, facts)
    assert shown(plan, "Ready") == ("False", "DiskFull")
    assert "PersistentVolumeClaim smollm2-cache (1Gi): raise cache.size." in message(plan, "Ready")
    assert "Job" not in kinds(plan)
    grown = plan_of(model, replace(facts, claim=a_claim(requested="2Gi", capacity="2Gi")))
    assert child(grown.children, "Job")["metadata"]["name"].endswith("-2")


def test_adding_a_cache_leaves_the_old_model_serving_until_the_folder_is_filled() -> None:
    old = served(a_model())
    model = edited(old, **RWX)
    before = serving_facts(old, storage_classes=CLASSES)
    filling = plan_of(model, replace(before, claim=a_claim(), fills=(a_fill(),)))
    assert shown(filling, "Serving") == ("True", "Answering")
    assert shown(filling, "Ready") == ("Unknown", "Downloading")
    assert "Deployment" not in kinds(filling)
    ready = plan_of(model, replace(before, claim=a_claim(), fills=(filled(),)))
    assert child(ready.children, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_removing_a_cache_removes_its_parts_when_the_last_pod_of_it_is_gone() -> None:
    model = edited(a_model(**RWX))
    parts = tuple(
        ChildRef(kind=kind, name=f"smollm2-{role}", uid=f"uid-{kind}", labels={labels.COMPONENT: component})
        for kind, role, component in (
            ("PersistentVolumeClaim", "cache", CLAIM),
            ("Job", "fill-x-1", FILLER),
            ("NetworkPolicy", "fill", FILLER),
            ("ServiceAccount", "fill", FILLER),
        )
    )
    rolling = running_facts(a_model(**RWX), children=parts)
    plan = plan_of(model, rolling)
    assert plan.deletions == ()
    policy = child(plan.children, "NetworkPolicy", "smollm2-model")
    assert policy["spec"]["egress"] != []
    done = serving_facts(model, children=parts)
    assert plan_of(model, done).deletions == parts
    leaving = replace(done, pods=(*done.pods, replace(done.pods[0], name="old", terminating=True, ready=False)))
    assert plan_of(model, leaving).deletions == ()
    assert plan_of(model, done).status.cache is None


def test_the_filler_keeps_what_is_in_use_and_the_folder_before() -> None:
    model = a_model(**RWX)
    before = plan_of(model, cached_facts(model)).status
    assert before.cache is not None
    older = before.model_copy(
        update={"cache": before.cache.model_copy(update={"folder": "b" * 32, "previous_folder": "a" * 32})}
    )
    moved = model.model_copy(update={"status": older})
    pods = (a_pod("older", cache_folder="b" * 32), a_pod("oldest", "pod-2", cache_folder="c" * 32))
    plan = plan_of(moved, facts_of(model, claim=a_claim(), pods=pods))
    args = child(plan.children, "Job")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--folder") :] == ["--folder", FOLDER, "--keep", "b" * 32, "--keep", "c" * 32]
    after = plan_of(moved, cached_facts(model)).status.cache
    assert after is not None
    assert (after.folder, after.previous_folder) == (FOLDER, "b" * 32)
    unknown = plan_of(model, facts_of(model, claim=a_claim()))
    assert "--keep" not in child(unknown.children, "Job")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_a_readwriteonce_claim_is_filled_on_the_node_that_holds_it() -> None:
    model = a_model(**RWO)
    claim = a_claim(access_modes=("ReadWriteOnce",), storage_class="standard")
    pods = (a_pod("older", cache_folder="b" * 32, node="node-7"),)
    plan = plan_of(model, facts_of(model, claim=claim, pods=pods))
    affinity = child(plan.children, "Job")["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["node-7"]}]
    free = plan_of(model, facts_of(model, claim=claim))
    assert "affinity" not in child(free.children, "Job")["spec"]["template"]["spec"]


def test_a_secret_that_went_stops_the_filler_with_its_reason() -> None:
    spec = {"source": {"uri": SMOLLM2_URI, "credentialsSecretRef": {"name": "hub"}}, **RWX}
    model = a_model(**spec)
    plan = plan_of(model, facts_of(model, claim=a_claim()))
    assert shown(plan, "Ready") == ("False", "SecretMissing")
    there = plan_of(model, facts_of(model, claim=a_claim(), secret=a_secret()))
    volumes = child(there.children, "Job")["spec"]["template"]["spec"]["volumes"]
    assert {"credentials", "policy", "artifact", "models"} == {item["name"] for item in volumes}


def test_equal_files_share_a_folder_wherever_they_come_from() -> None:
    elsewhere = an_artifact(uri="https://mirror.example/m.gguf", commit="2" * 40)
    assert cache_folder(elsewhere) == FOLDER
    unpinned = [{"path": SMOLLM2_FILE, "size": 1}]
    assert cache_folder(an_artifact(files=unpinned)) != cache_folder(an_artifact(files=unpinned, commit="2" * 40))


def test_the_new_field_changes_no_models_hash_unless_it_is_set() -> None:
    """The upgrade that brought `cache` must not look like an edit, which would take newer images."""
    plain = spec_hash(a_spec(), restarted_at="")
    assert spec_hash(a_spec(cache=None), restarted_at="") == plain
    assert spec_hash(a_spec(cache={}), restarted_at="") != plain


def test_the_cached_revision_differs_from_the_plain_one() -> None:
    assert revision_of_cached(a_model(**RWX)) != revision_of(a_model())
