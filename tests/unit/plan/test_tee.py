# SPDX-License-Identifier: Apache-2.0
"""TEEPolicies: how several combine, what a cluster must offer, and that no plan of any kind escapes them."""

import base64
import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nimblet.api.common import PolicyRef
from nimblet.api.teepolicy import TEEPolicy
from nimblet.conditions import Reason
from nimblet.manifests.confine import HANDLER, INITDATA, WORKLOADS
from nimblet.plan.facts import ChildRef, NodeFacts
from nimblet.plan.guarded import hold
from nimblet.plan.initdata import MAX_DOCUMENT
from nimblet.plan.result import Manifest
from nimblet.plan.tee import Bindable, Guard, plan_guard
from nimblet.plan.teefacts import LivePod, LiveWorkload, TEEFacts
from tests.builders import a_deployment, a_model, base_facts, plan_of, revision_of, serving_facts
from tests.conditions import message, shown
from tests.golden.assistants import plan_assistant_case
from tests.golden.cases import Case, inputs, plan_case
from tests.golden.indexcases import plan_index_case
from tests.teepools import SIMULATED, TDX, a_policy, nodes_of, runtime_classes

LABELS = {"security": "confidential"}
SELECTED = {"namespaceSelector": {"matchLabels": LABELS}}
SPEC: Mapping[str, object] = {
    "technologies": ["TDX"],
    "enforcement": "Required",
    "attestation": SIMULATED,
    **SELECTED,
}
REF = Bindable(ref=PolicyRef(name="a"), signed=False)


def policy(name: str = "a", **spec: object) -> TEEPolicy:
    return a_policy(name, {**SPEC, **spec})


def facts(*policies: TEEPolicy, **more: Any) -> TEEFacts:
    """Return facts of a namespace that the policies select, with all RuntimeClasses."""
    known = TEEFacts(policies=policies, namespace_labels=LABELS, runtime_classes=runtime_classes())
    return replace(known, **more)


def guard_of(*policies: TEEPolicy, pool: str = "all", subject: Bindable = REF, **more: Any) -> Guard:
    return plan_guard(subject, facts(*policies, **more), nodes_of(pool))


def reason(guard: Guard) -> str:
    return guard.blocked.reason if guard.blocked is not None else ""


def runtime_class(guard: Guard) -> str:
    return guard.confinement.runtime_class if guard.confinement is not None else ""


def test_required_policies_leave_what_all_allow() -> None:
    guard = guard_of(policy("a", technologies=["TDX", "SNP"]), policy("b", technologies=["SNP", "NVIDIA-CC"]))
    assert (runtime_class(guard), guard.policies) == ("kata-qemu-snp", ("a", "b"))


def test_policies_that_contradict_each_other_make_no_pod() -> None:
    guard = guard_of(policy("a"), policy("b", technologies=["SNP"]))
    assert reason(guard) == Reason.POLICIES_CONFLICT
    guard = guard_of(
        policy("a", overrides=[{"technology": "TDX", "runtimeClassName": "one"}]),
        policy("b", overrides=[{"technology": "TDX", "runtimeClassName": "two"}]),
    )
    assert guard.blocked is not None
    assert "name different RuntimeClasses (one, two)" in guard.blocked.message


def test_a_preferred_policy_takes_nothing_from_a_required_one() -> None:
    wish = policy("b", technologies=["SNP"], enforcement="Preferred")
    assert runtime_class(guard_of(policy("a", technologies=["TDX", "SNP"]), wish)) == "kata-qemu-snp"
    assert runtime_class(guard_of(policy("a"), wish)) == "kata-qemu-tdx"


def test_eviction_by_one_required_policy_is_eviction() -> None:
    assert guard_of(policy("a"), policy("b", onViolation="Evict")).evicts
    assert not guard_of(policy("a"), policy("b", onViolation="Evict", enforcement="Preferred")).evicts


def test_what_is_missing_is_told_with_its_nodes() -> None:
    blocked = guard_of(policy(), pool="plain").blocked
    assert blocked is not None
    assert blocked.reason == Reason.NO_CONFIDENTIAL_PLACE
    wanted = "TDX: no node has feature.node.kubernetes.io/cpu-security.tdx.enabled=true (looked at plain-1)"
    assert wanted in blocked.message
    blocked = guard_of(policy(), runtime_classes=()).blocked
    assert blocked is not None
    assert "TDX: RuntimeClass kata-qemu-tdx is missing" in blocked.message


def test_cordoned_nodes_are_no_place() -> None:
    nodes = tuple(replace(node, schedulable=False) for node in nodes_of("TDX"))
    blocked = plan_guard(REF, facts(policy()), nodes).blocked
    assert blocked is not None
    assert "cordoned (tdx-1)" in blocked.message


def test_a_tenant_escapes_neither_by_dropping_the_reference_nor_by_naming_another() -> None:
    bound, loose = policy("a"), policy("b", enforcement="Preferred", namespaceSelector=None)
    for ref in (None, PolicyRef(name="a"), PolicyRef(name="b")):
        guard = guard_of(bound, loose, pool="plain", subject=Bindable(ref=ref, signed=False))
        assert reason(guard) == Reason.NO_CONFIDENTIAL_PLACE


def test_other_namespaces_are_not_bound() -> None:
    assert guard_of(policy(), subject=Bindable(ref=None), namespace_labels={"security": "none"}) == Guard()


def test_what_can_not_be_read_makes_no_pod() -> None:
    assert reason(guard_of(subject=Bindable(ref=None), unreadable="forbidden.")) == Reason.POLICY_UNREADABLE
    assert reason(guard_of()) == Reason.POLICY_MISSING


def test_hardware_proof_is_refused_where_nothing_can_check_it() -> None:
    hardware = {"mode": "Hardware"}
    blocked = guard_of(policy(attestation=hardware)).blocked
    assert blocked is not None
    assert blocked.reason == Reason.ATTESTATION_UNAVAILABLE
    assert "Hardware without verifier" in blocked.message
    guard = guard_of(policy(attestation=hardware, enforcement="Preferred"))
    assert (runtime_class(guard), guard.blocked) == ("kata-qemu-tdx", None)
    assert guard.unmet is not None
    assert guard.unmet.reason == Reason.ATTESTATION_UNAVAILABLE


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("requireSignature", Reason.WEIGHTS_NOT_SIGNED), ("requireEncryption", Reason.WEIGHTS_NOT_ENCRYPTED)],
)
def test_weights_that_are_not_as_wanted_are_refused(weights: str, expected: Reason) -> None:
    wanted = policy(weights={weights: True})
    assert reason(guard_of(wanted)) == expected
    assert reason(guard_of(wanted, subject=Bindable(ref=None))) == ""  # a gateway loads none


def sealed(*places: str, plain: tuple[str, ...] = ()) -> Bindable:
    """Return a model whose keys are in these places, and what of it is plaintext."""
    own = PolicyRef(name="a")
    return Bindable(ref=own, signed=False, key_places=frozenset(places), plain=plain, beside=("adapter legal",))


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (sealed("KBS"), ""),
        (sealed("Secret"), ""),
        (sealed("KBS", "Secret"), ""),
        (sealed(), Reason.WEIGHTS_NOT_ENCRYPTED),
        (sealed("KBS", plain=("adapter legal",)), Reason.WEIGHTS_NOT_ENCRYPTED),
        (sealed("KBS", plain=("the model",)), Reason.WEIGHTS_NOT_ENCRYPTED),
    ],
)
def test_encrypted_weights_are_what_the_policy_wants(subject: Bindable, expected: str) -> None:
    wanted = policy(weights={"requireEncryption": True}, attestation={"mode": "Simulated"})
    assert reason(guard_of(wanted, subject=subject)) == expected


def test_a_policy_names_what_of_the_weights_is_plaintext() -> None:
    wanted = policy(weights={"requireEncryption": True}, attestation={"mode": "Simulated"})
    blocked = guard_of(wanted, subject=sealed("KBS", plain=("adapter legal", "the drafting model"))).blocked
    assert blocked is not None
    assert "refuses plaintext weights (adapter legal, the drafting model)." in blocked.message


def packed(document: bytes) -> str:
    return base64.b64encode(gzip.compress(document, mtime=0)).decode()


DOCUMENT = b'version = "0.1.0"\nalgorithm = "sha256"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is not there"),
        ("!", "is not base64 of gzip"),
        ("x" * 300_000, "is longer than"),
        (packed(b"another"), "has the SHA-256"),
        (packed(b"0" * (MAX_DOCUMENT + 1)), "unfolds to more than"),
        (base64.b64encode(gzip.compress(DOCUMENT, mtime=0) + b"more").decode(), "more than one document"),
        (packed(DOCUMENT)[:24], "is cut"),
        (packed(DOCUMENT), ""),
    ],
)
def test_initdata_is_the_one_that_the_policy_names(text: str | None, words: str) -> None:
    digest = hashlib.sha256(DOCUMENT).hexdigest()
    initdata = {"configMapRef": {"name": "guest", "key": "initdata"}, "sha256": digest}
    known = {"a": text} if text is not None else {}
    guard = guard_of(policy(attestation={**SIMULATED, "initdata": initdata}), initdata=known)
    if words:
        assert guard.blocked is not None
        assert (guard.blocked.reason, words in guard.blocked.message) == (Reason.INITDATA_REFUSED, True)
        return
    assert guard.confinement is not None
    assert (guard.confinement.annotations, guard.initdata_sha256) == ({INITDATA: text}, digest)


def test_a_label_that_vanishes_moves_no_pods() -> None:
    live = (LiveWorkload(kind="Deployment", name="m", uid="u", runtime_class="kata-qemu-tdx"),)
    stays = replace(REF, before="TDX")
    assert runtime_class(guard_of(policy(), pool="plain", subject=stays, workloads=live)) == "kata-qemu-tdx"
    assert reason(guard_of(policy(), pool="plain", subject=REF, workloads=live)) == Reason.NO_CONFIDENTIAL_PLACE


def test_a_confidential_gpu_goes_to_the_server_alone_and_keys_are_asked_for_by_nobody() -> None:
    model = a_model(teePolicyRef={"name": "a"})
    tee = facts(policy(technologies=["NVIDIA-CC"]))
    nodes = nodes_of("GPU-CC on SNP")
    plan = plan_of(model, base_facts(model, tee=tee, nodes=nodes))
    (deployment,) = [item for item in plan.children if item["kind"] == "Deployment"]
    pod = pod_of(deployment)
    assert pod["runtimeClassName"] == "kata-qemu-nvidia-gpu-snp"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/pgpu"] == "1"
    assert "nvidia.com/pgpu" not in pod["initContainers"][0]["resources"]["limits"]
    first = plan_of(model, base_facts(model, tee=tee, nodes=nodes, artifacts=()))
    (job,) = [item for item in first.children if item["kind"] == "Job"]
    assert pod_of(job)["runtimeClassName"] == "kata-qemu-snp"
    assert "tdx.intel.com" not in str(plan.children)
    assert "sev-snp.amd.com" not in str(plan.children)


def test_an_enclave_gets_as_much_epc_as_memory() -> None:
    model = a_model(teePolicyRef={"name": "a"})
    override = {"technology": "SGX", "runtimeClassName": "gramine"}
    tee = facts(policy(technologies=["SGX"], overrides=[override]))
    plan = plan_of(model, base_facts(model, tee=tee, nodes=nodes_of("SGX")))
    (deployment,) = [item for item in plan.children if item["kind"] == "Deployment"]
    limits = pod_of(deployment)["containers"][0]["resources"]["limits"]
    assert limits["sgx.intel.com/epc"] == limits["memory"]


def test_the_overhead_counts_against_the_node() -> None:
    model = a_model(teePolicyRef={"name": "a"})
    room = 2 * 2**30 + 100 * 2**20  # the model alone would fit
    node = NodeFacts(name="tdx-1", labels=TDX, memory_bytes=room, cpu_millicores=4000)
    plan = plan_of(model, base_facts(model, tee=facts(policy()), nodes=(node,)))
    assert "No node is large enough" in message(plan, "Placed")
    assert plan.status.sizing is not None
    assert plan.status.sizing.overhead_bytes == 2 * 2**30


def test_kept_pods_serve_on_and_nothing_is_made() -> None:
    model = a_model()
    live = LiveWorkload(kind="Deployment", name="smollm2-model", uid="uid-deployment")
    tee = facts(policy(), workloads=(live,), pods=(LivePod(name="pod-1"),))
    plan = plan_of(model, serving_facts(model, tee=tee))
    assert [item for item in plan.children if item["kind"] in WORKLOADS] == []
    assert plan.deletions == ()
    assert shown(plan, "Serving") == ("True", "Answering")
    assert shown(plan, "Ready") == ("False", "NoConfidentialPlace")
    assert shown(plan, "Stalled") == ("True", "NoConfidentialPlace")
    assert shown(plan, "PolicyEnforced") == ("False", "NoConfidentialPlace")
    assert "Pods that run all the same: pod-1" in message(plan, "PolicyEnforced")


def test_evicted_pods_end_and_come_back_in_the_place() -> None:
    model = a_model()
    live = LiveWorkload(kind="Deployment", name="smollm2-model", uid="uid-deployment", version="7")
    tee = facts(policy(onViolation="Evict"), workloads=(live,), pods=(LivePod(name="pod-1"),))
    plan = plan_of(model, serving_facts(model, tee=tee, nodes=nodes_of("TDX")))
    assert [(ref.uid, ref.version) for ref in plan.deletions] == [("uid-deployment", "7")], "as it was judged"
    assert [item for item in plan.children if item["kind"] == "Deployment"] == []
    after = replace(tee, workloads=(), pods=())
    again = plan_of(model, base_facts(model, tee=after, nodes=nodes_of("TDX")))
    (deployment,) = [item for item in again.children if item["kind"] == "Deployment"]
    assert pod_of(deployment)["runtimeClassName"] == "kata-qemu-tdx"


def test_servers_with_claims_are_scaled_and_not_deleted() -> None:
    child: Manifest = {
        "kind": "StatefulSet",
        "metadata": {"name": "q", "labels": {}},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {}}, "spec": {"containers": []}}},
    }
    live = LiveWorkload(kind="StatefulSet", name="q", uid="u", keeps_claims=True)
    for pool in ("plain", "TDX"):
        tee = facts(policy(onViolation="Evict"), workloads=(live,))
        held = hold(plan_guard(REF, tee, nodes_of(pool)), tee, children=[dict(child)], deletions=())
        assert held.deletions == ()
        assert dict(held.children[0]["spec"])["replicas"] == 0  # type: ignore[call-overload]
    gone = hold(plan_guard(REF, tee, ()), tee, children=(), deletions=(ChildRef(kind="Job", name="j", uid="j"),))
    assert [ref.uid for ref in gone.deletions] == ["j"]


def test_old_pods_are_told_until_they_are_replaced() -> None:
    model = a_model()
    live = LiveWorkload(kind="Deployment", name="smollm2-model", uid="u", runtime_class="kata-qemu-tdx")
    tee = facts(policy(), workloads=(live,), pods=(LivePod(name="old"),))
    old = revision_of(model)
    facts_ = serving_facts(model, tee=tee, nodes=nodes_of("TDX"), deployment=a_deployment("other"))
    plan = plan_of(model, facts_)
    assert shown(plan, "PolicyEnforced") == ("False", "PolicyViolated")
    (deployment,) = [item for item in plan.children if item["kind"] == "Deployment"]
    assert pod_of(deployment)["runtimeClassName"] == "kata-qemu-tdx"
    assert old != "other"


def test_a_fallback_is_seen_and_changes_no_pod() -> None:
    model = a_model()
    tee = facts(policy(enforcement="Preferred"))
    plan = plan_of(model, serving_facts(model, tee=tee))
    assert plan.children == plan_of(model, serving_facts(model)).children
    assert shown(plan, "PolicyEnforced") == ("False", "PolicyFallback")
    assert shown(plan, "Ready") == ("True", "Ready")


def test_a_simulated_place_says_so_and_claims_no_more() -> None:
    model = a_model()
    plan = plan_of(model, base_facts(model, tee=facts(policy()), nodes=nodes_of("TDX")))
    assert shown(plan, "PolicyEnforced") == ("True", "Simulated")
    assert "simulated" in message(plan, "PolicyEnforced")
    assert "attested" not in plan.status.model_dump_json().lower()


def test_an_image_is_fetched_where_no_guest_can_mount_it() -> None:
    document = yaml.safe_load((Path(inputs()[0]).parent / "image-volume.yaml").read_text(encoding="utf-8"))
    plan = plan_case(Case.model_validate(with_tee(document, facts(policy()), "TDX")))
    (deployment,) = [item for item in plan.children if item["kind"] == "Deployment"]
    assert not [volume for volume in pod_of(deployment)["volumes"] if "image" in volume]


def pod_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod's spec of a manifest that makes pods."""
    return dict(manifest["spec"]["template"]["spec"])


def with_tee(document: dict[str, Any], tee: TEEFacts, pool: str) -> dict[str, Any]:
    """Return a golden case whose cluster has these policies and these nodes."""
    nodes = [vars(node) for node in nodes_of(pool)]
    known = {**vars(tee), "policies": [item.model_dump(mode="json", by_alias=True) for item in tee.policies]}
    known["runtime_classes"] = [vars(item) for item in tee.runtime_classes]
    return {**document, "facts": {**document.get("facts", {}), "tee": known, "nodes": nodes}}


def plans(tee: TEEFacts, pool: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Return every golden case's children that make pods, were its namespace bound."""
    for path in inputs():
        document = with_tee(yaml.safe_load(path.read_text(encoding="utf-8")), tee, pool)
        if "assistant" in document:
            children = plan_assistant_case(document).children
        elif "index" in document:
            children = plan_index_case(document).children
        else:
            children = plan_case(Case.model_validate(document)).children
        found: list[Any] = [item for item in children if "template" in dict(item.get("spec") or {})]  # type: ignore[call-overload]
        yield path.stem, found


@pytest.mark.parametrize(
    ("spec", "pool"),
    [({}, "plain"), ({"onViolation": "Evict"}, "plain"), ({"attestation": {"mode": "Hardware"}}, "TDX")],
)
def test_no_plan_makes_a_pod_that_is_not_allowed(spec: dict[str, Any], pool: str) -> None:
    made = dict(plans(facts(policy(**spec)), pool))
    assert len(made) > 30
    assert [name for name, found in made.items() for item in found if item["spec"].get("replicas") != 0] == []


@pytest.mark.parametrize(("technology", "pool"), [("TDX", "TDX"), ("NVIDIA-CC", "GPU-CC on SNP")])
def test_every_pod_of_every_plan_is_in_the_place(technology: str, pool: str) -> None:
    seen = set()
    for name, found in plans(facts(policy(technologies=[technology])), pool):
        for item in found:
            assert item["kind"] in WORKLOADS, name
            pod = pod_of(item)
            seen.add(item["metadata"]["labels"]["app.kubernetes.io/component"])
            assert pod["runtimeClassName"].startswith("kata-qemu-"), name
            assert item["spec"]["template"]["metadata"]["annotations"][HANDLER] == pod["runtimeClassName"]
            assert "feature.node.kubernetes.io" in str(pod["nodeSelector"]), name
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                assert {"cpu", "memory"} <= set(container["resources"]["limits"]), (name, container["name"])
                assert "exec" not in str([value for key, value in container.items() if key.endswith("Probe")])
                assert "subPath" not in str(container.get("volumeMounts"))
            assert not [volume for volume in pod["volumes"] if {"image", "hostPath"} & set(volume)], name
    assert seen == {"model", "resolver", "filler", "retriever", "indexer", "qdrant", "gateway"}
