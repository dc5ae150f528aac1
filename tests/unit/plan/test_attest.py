# SPDX-License-Identifier: Apache-2.0
"""The attestation gate: which pods get one, what their tokens come to, and what alone is called attested."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from attestation_testing.verifier import LIFETIME, Verifier, new_key, public, tee_pubkey
from nimblet import labels
from nimblet.api.common import PolicyRef
from nimblet.api.compactmodel import CompactModelStatus
from nimblet.api.teepolicy import TEEPolicy
from nimblet.conditions import Reason
from nimblet.manifests.gate import GATE, GATE_PORT
from nimblet.plan.attest import GATE_REASONS, PENDING_SECONDS, judge_pods
from nimblet.plan.facts import ModelFacts
from nimblet.plan.initdata import measured
from nimblet.plan.result import Plan
from nimblet.plan.tee import Bindable, Guard, plan_guard
from nimblet.plan.teefacts import AttestationTexts, LivePod, PodReport, TEEFacts
from nimblet_attestation.demands import Gate
from nimblet_attestation.report import Challenge, make_report
from tests.builders import NOW, a_deployment, a_model, a_pod, base_facts, plan_of, serving_facts
from tests.conditions import message, shown
from tests.teepools import TDX as TDX_LABELS
from tests.teepools import a_policy, nodes_of, runtime_classes
from tests.unit.plan.test_tee import plans, pod_of

TDX, SAMPLE = Verifier(), Verifier(tee="sample")
REFERENCE = {"claim": "/quote/body/mr_td", "values": ["ab" * 48]}
KEYS = TDX.key.model_dump_json(exclude_none=True)
KBS: Mapping[str, Any] = {"url": "https://kbs.example:8443"}
HARDWARE: Mapping[str, Any] = {
    "mode": "Hardware",
    "verifier": {"keys": KEYS},
    "kbs": KBS,
    "referenceValues": [REFERENCE],
}
SIMULATED: Mapping[str, Any] = {**HARDWARE, "mode": "Simulated"}
REF = Bindable(ref=PolicyRef(name="a"), signed=False, gate_image="loader:1")
POD = LivePod(name="smollm2-1", runtime_class="kata-qemu-tdx", node_selector=TDX_LABELS, uid="uid-1", opened=True)
NONCE = "n" * 43
MODEL = a_model()


def policy(name: str = "a", attestation: Any = HARDWARE, **more: Any) -> TEEPolicy:
    spec = {"technologies": ["TDX"], "enforcement": "Required", "attestation": attestation, **more}
    return a_policy(name, {**spec, "namespaceSelector": {"matchLabels": {"a": "b"}}})


def facts(*policies: TEEPolicy, **more: Any) -> TEEFacts:
    known = TEEFacts(policies=policies or (policy(),), namespace_labels={"a": "b"}, operator_namespace="ops")
    return replace(known, runtime_classes=runtime_classes(), **more)


def guard_of(*policies: TEEPolicy, pool: str = "TDX", **more: Any) -> Guard:
    return plan_guard(REF, facts(*policies, **more), nodes_of(pool))


def report(verifier: Verifier = TDX, *, nonce: str = NONCE, pod: str = "uid-1", key: str = "guest") -> PodReport:
    """Return what a pod with the key `guest` would answer."""
    runtime = {"nonce": "of-the-broker", "tee-pubkey": tee_pubkey(public("guest"))}
    made = make_report(verifier.token(runtime, now=NOW), new_key(key), Challenge(nonce=nonce, pod_uid=pod))
    text = made.model_dump_json(by_alias=True)
    return PodReport(nonce=NONCE, text=text, asked_at=NOW, again_at=NOW + timedelta(seconds=200))


def planned(
    attestation: Any = HARDWARE, *, pods: tuple[LivePod, ...] = (POD,), now: datetime = NOW, **reports: PodReport
) -> Plan[CompactModelStatus]:
    """Return the plan of a model that serves, whose pods reported this; names of uids have no dash."""
    said = {uid.replace("_", "-"): told for uid, told in reports.items()}
    tee = facts(policy(attestation=attestation), pods=pods, reports=said)
    return plan_of(MODEL, answering(tee), now=now)


def answering(tee: TEEFacts) -> ModelFacts:
    """Return facts where the one pod of the template that the policies ask for answers."""
    first = plan_of(MODEL, base_facts(MODEL, tee=replace(tee, pods=(), reports={}), nodes=nodes_of("TDX")))
    [deployment] = [item for item in first.children if item["kind"] == "Deployment"]
    template: Any = deployment["spec"]
    revision = str(template["template"]["metadata"]["labels"][labels.REVISION])
    found = serving_facts(MODEL, tee=tee, nodes=nodes_of("TDX"), deployment=a_deployment(revision))
    return replace(found, pods=(a_pod(revision, "pod-1"),))


@pytest.mark.parametrize(
    ("attestation", "words"),
    [
        ({"mode": "Hardware"}, "Hardware without verifier"),
        ({**HARDWARE, "referenceValues": []}, "Hardware without initdata or referenceValues of cpu0"),
        ({**HARDWARE, "verifier": {"keys": "{}"}}, "is no set of public EC"),
        ({**HARDWARE, "verifier": {"configMapRef": {"name": "k", "key": "k"}}}, "that is not there"),
        ({**HARDWARE, "kbs": {**KBS, "caRef": {"name": "k", "key": "k"}}}, "caRef, or its key, is not there"),
        ({**SIMULATED, "verifier": {"keys": "nothing"}}, "is no set of public EC"),
    ],
)
def test_what_can_never_be_proved_makes_no_pod(attestation: Any, words: str) -> None:
    blocked = guard_of(policy(attestation=attestation)).blocked
    assert blocked is not None
    assert blocked.reason == Reason.ATTESTATION_UNAVAILABLE
    assert words in blocked.message


def test_keys_and_roots_come_from_the_operators_config_maps_too() -> None:
    ref = {"name": "trust", "key": "k"}
    wanted = {**HARDWARE, "verifier": {"configMapRef": ref}, "kbs": {**KBS, "caRef": ref}}
    texts = {"a": AttestationTexts(keys=KEYS, ca="the roots")}
    gate = guard_of(policy(attestation=wanted), texts=texts).gate
    assert gate is not None
    assert gate.kbs is not None
    assert (gate.demands.keys, gate.kbs.ca) == ((TDX.key,), "the roots")


def test_a_wish_gets_no_gate() -> None:
    wish = policy(attestation=HARDWARE, enforcement="Preferred")
    guard = guard_of(wish)
    assert (guard.gate, guard.blocked) == (None, None)
    assert guard.unmet is not None
    assert guard.unmet.reason == Reason.ATTESTATION_UNAVAILABLE


def test_policies_with_different_verifiers_contradict_each_other() -> None:
    other = {**HARDWARE, "verifier": {"keys": Verifier(name="other").key.model_dump_json(exclude_none=True)}}
    assert guard_of(policy(), policy("b", attestation=other)).blocked is not None
    broker = {**HARDWARE, "kbs": {"url": "https://other.example"}}
    blocked = guard_of(policy(), policy("b", attestation=broker)).blocked
    assert blocked is not None
    assert blocked.reason == Reason.POLICIES_CONFLICT


def test_the_strictest_of_several_counts() -> None:
    more = {**SIMULATED, "referenceValues": [{"claim": "/svn", "values": ["1"]}]}
    gate = guard_of(policy(), policy("b", attestation=more)).gate
    assert gate is not None
    assert gate.hardware
    assert "sample" not in gate.demands.tees
    assert [item.pointer for item in gate.demands.references] == ["/quote/body/mr_td", "/svn"]


def test_every_pod_of_every_plan_has_the_gate_before_all_else() -> None:
    seen = set()
    for name, found in plans(facts(), "TDX"):
        for item in found:
            seen.add(item["metadata"]["labels"]["app.kubernetes.io/component"])
            gate, *others = pod_of(item)["initContainers"]
            assert (gate["name"], gate["restartPolicy"]) == (GATE, "Always"), name
            assert gate["startupProbe"]["httpGet"] == {"path": "/healthz", "port": GATE_PORT}
            assert GATE not in [other["name"] for other in others]
            environment = {variable["name"]: variable for variable in gate["env"]}
            told = Gate.model_validate_json(environment["NIMBLET_ATTESTATION"]["value"])
            assert (told.mode, told.demands.tees) == ("Hardware", ("tdx", "az-tdx-vtpm"))
            assert environment["POD_UID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert seen == {"model", "resolver", "filler", "retriever", "indexer", "qdrant", "gateway"}


def test_a_confidential_gpu_is_asked_of_the_model_server_alone() -> None:
    tee = facts(policy(technologies=["NVIDIA-CC"]))
    devices: dict[str, set[tuple[str, ...]]] = {}
    for _, found in plans(tee, "GPU-CC on SNP"):
        for item in found:
            [text] = [v["value"] for v in pod_of(item)["initContainers"][0]["env"] if v["name"] != "POD_UID"]
            part = item["metadata"]["labels"]["app.kubernetes.io/component"]
            devices.setdefault(part, set()).add(Gate.model_validate_json(text).demands.devices)
    assert devices.pop("model") == {("nvidia",)}
    assert set().union(*devices.values()) == {()}


GPU: Mapping[str, Any] = {"device": "gpu0", "claim": "/driver", "values": ["570.1"]}


def test_a_guest_without_a_gpu_is_held_against_nothing_of_one() -> None:
    # given what a GPU must tell, beside what a guest must
    both = {**HARDWARE, "referenceValues": [REFERENCE, GPU]}
    bound = policy(technologies=["NVIDIA-CC"], attestation=both)
    # when the pods of an index, or of a model beside its server, have only a guest to show
    index = Bindable(ref=PolicyRef(name="a"), gate_image="loader:1")
    gate = plan_guard(index, facts(bound), nodes_of("GPU-CC on SNP")).gate
    assert gate is not None
    assert [item.device for item in gate.demands.references] == ["cpu0"]
    assert [item.device for item in gate.server.references] == ["cpu0", "gpu0"]
    pod = replace(POD, runtime_class="kata-qemu-snp", component="retriever")
    tee = facts(bound, pods=(pod,), reports={"uid-1": report(replace(TDX, tee="snp"))})
    # then the operator asks of them what their gates do, and of the server its device too
    proved = judge_pods(gate, tee, now=NOW)
    assert proved.flaw is None
    assert proved.status is not None
    assert proved.status.proved_pods == 1
    server = judge_pods(gate, replace(tee, pods=(replace(pod, component="model"),)), now=NOW).flaw
    assert server is not None
    assert server.reason == Reason.TECHNOLOGY_MISMATCH
    # and a policy that names nothing of the guest itself proves none
    alone = policy(technologies=["NVIDIA-CC"], attestation={**HARDWARE, "referenceValues": [GPU]})
    blocked = plan_guard(index, facts(alone), nodes_of("GPU-CC on SNP")).blocked
    assert blocked is not None
    assert blocked.reason == Reason.ATTESTATION_UNAVAILABLE


def test_the_network_lets_operator_and_broker_through() -> None:
    plan = plan_of(MODEL, base_facts(MODEL, tee=facts(), nodes=nodes_of("TDX")))
    policies: list[Any] = [item for item in plan.children if item["kind"] == "NetworkPolicy"]
    assert policies
    for item in policies:
        inward, outward = item["spec"]["ingress"][-1], item["spec"]["egress"][-1]
        assert inward["ports"] == [{"protocol": "TCP", "port": GATE_PORT}]
        assert "ops" in str(inward["from"])
        assert outward == {"ports": [{"protocol": "TCP", "port": 8443}]}


def test_a_policy_without_verifier_changes_no_pod() -> None:
    plain = list(plans(facts(policy(attestation={"mode": "Simulated"})), "TDX"))
    assert [name for name, found in plain for item in found if GATE in json.dumps(pod_of(item))] == []


def test_attested_is_said_of_checked_tokens_alone() -> None:
    plan = planned(uid_1=report())
    assert shown(plan, "PolicyEnforced") == ("True", "Attested")
    assert shown(plan, "Ready") == ("True", "Ready")
    told = plan.status.policy
    assert told is not None
    assert told.attestation is not None
    assert told.proof == "Attested"
    assert (told.attestation.mode, told.attestation.proved_pods) == ("Hardware", 1)
    assert told.attestation.verifier == TDX.key.thumbprint
    assert told.attestation.nonce_time == NOW
    assert told.attestation.expiry_time == NOW + timedelta(seconds=LIFETIME)
    assert len(told.attestation.evidence_sha256) == 64
    assert plan.requeue_after is not None
    assert plan.requeue_after <= 200


SILENT = PodReport(nonce=NONCE, text="", asked_at=NOW, again_at=NOW + timedelta(seconds=5))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (report(SAMPLE), "TechnologyMismatch"),
        (report(Verifier(name="stranger")), "TokenSignatureInvalid"),
        (report(replace(TDX, status="warning")), "NotAffirming"),
        (report(replace(TDX, claims={"quote": {"body": {"mr_td": "00"}}})), "ReferenceMismatch"),
        (report(nonce="m" * 43), "NonceMismatch"),
        (report(pod="uid-2"), "NonceMismatch"),
        (report(key="thief"), "KeyMismatch"),
        (replace(report(), text="{}"), "TokenMalformed"),
        (replace(report(), text='{"version":1,"token":"attested","proof":"yes"}'), "TokenMalformed"),
    ],
)
def test_a_report_that_proves_nothing_is_told_and_believed_by_nobody(told: PodReport, reason: str) -> None:
    plan = planned(uid_1=told)
    assert shown(plan, "PolicyEnforced") == ("False", reason)
    assert shown(plan, "Ready") == ("False", reason)
    assert shown(plan, "Serving") == ("True", "Answering")
    assert plan.status.policy is not None
    assert plan.status.policy.proof == "Pending"
    assert "attested" not in plan.status.model_dump_json().lower()
    # what puts it right can still be rolled out
    assert [item for item in plan.children if item["kind"] == "Deployment"]


def test_an_old_token_stops_counting() -> None:
    late = NOW + timedelta(seconds=LIFETIME + 61)
    assert shown(planned(uid_1=report(), now=late), "PolicyEnforced") == ("False", "TokenExpired")


@pytest.mark.parametrize("pods", [(), (POD,), (replace(POD, opened=False),)])
def test_pods_that_have_not_answered_are_waited_for(pods: tuple[LivePod, ...]) -> None:
    plan = planned(pods=pods, uid_1=SILENT)
    assert shown(plan, "PolicyEnforced") == ("Unknown", "AttestationPending")
    assert shown(plan, "Ready") == ("Unknown", "AttestationPending")
    assert "attested" not in plan.status.model_dump_json().lower()
    assert plan.requeue_after is not None
    assert plan.requeue_after <= PENDING_SECONDS


def test_one_silent_pod_is_enough_to_wait() -> None:
    other = replace(POD, name="smollm2-2", uid="uid-2")
    waiting = planned(pods=(POD, other), uid_1=report())
    assert shown(waiting, "PolicyEnforced") == ("Unknown", "AttestationPending")
    starting = replace(other, opened=False)  # nothing runs in it yet
    assert shown(planned(pods=(POD, starting), uid_1=report()), "PolicyEnforced") == ("True", "Attested")


@pytest.mark.parametrize(("code", "reason"), sorted(GATE_REASONS.items()))
def test_of_a_guest_without_words_the_exit_code_tells_the_reason(code: int, reason: Reason) -> None:
    pod = replace(POD, opened=False, gate_exit=code)
    plan = planned(pods=(pod,))
    assert shown(plan, "PolicyEnforced") == ("False", reason)
    assert f"exit code {code}" in message(plan, "PolicyEnforced")


@pytest.mark.parametrize("code", [0, 137, 143])
def test_a_gate_that_was_stopped_tells_nothing_of_its_guest(code: int) -> None:
    stopped = replace(POD, name="smollm2-2", uid="uid-2", opened=False, gate_exit=code)
    assert shown(planned(pods=(POD, stopped), uid_1=report()), "PolicyEnforced") == ("True", "Attested")
    # but what it had let through before is proved by nobody while it is away
    going_on = replace(stopped, opened=True)
    waiting = planned(pods=(POD, going_on), uid_1=report())
    assert shown(waiting, "PolicyEnforced") == ("Unknown", "AttestationPending")


def test_a_pod_from_before_the_gate_is_told() -> None:
    plan = planned(pods=(replace(POD, gated=False, opened=False),))
    assert shown(plan, "PolicyEnforced") == ("False", "PolicyViolated")


@pytest.mark.parametrize("verifier", [SAMPLE, TDX])
def test_simulated_stays_simulated_whatever_token_comes(verifier: Verifier) -> None:
    plan = planned({**SIMULATED, "referenceValues": []}, uid_1=report(verifier))
    assert shown(plan, "PolicyEnforced") == ("True", "Simulated")
    assert plan.status.policy is not None
    assert plan.status.policy.attestation is not None
    assert (plan.status.policy.proof, plan.status.policy.attestation.mode) == ("Simulated", "Simulated")
    assert "simulated" in message(plan, "PolicyEnforced")
    assert "attested" not in plan.status.model_dump_json().lower()


def test_the_same_facts_write_nothing_new() -> None:
    found = answering(facts(pods=(POD,), reports={"uid-1": report()}))
    first = plan_of(MODEL, found)
    again = plan_of(MODEL.model_copy(update={"status": first.status}), found, now=NOW + timedelta(seconds=30))
    assert again.status == first.status
    assert again.children == first.children


def initdata(algorithm: str) -> tuple[str, bytes]:
    document = f'version = "0.1.0"\nalgorithm = "{algorithm}"\n'.encode()
    return base64.b64encode(gzip.compress(document, mtime=0)).decode(), document


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_token_must_name_the_initdata_by_its_own_hash(algorithm: str) -> None:
    text, document = initdata(algorithm)
    digest = hashlib.new(algorithm, document).hexdigest()
    assert measured(text) == digest
    wanted = {"configMapRef": {"name": "i", "key": "i"}, "sha256": hashlib.sha256(document).hexdigest()}
    bound = policy(attestation={**HARDWARE, "initdata": wanted, "referenceValues": []})
    gate = guard_of(bound, initdata={"a": text}).gate
    assert gate is not None
    assert gate.demands.initdata == digest


@pytest.mark.parametrize("algorithm", ["md5", "", "sha256' # "])
def test_initdata_without_a_hash_that_hardware_holds_is_refused(algorithm: str) -> None:
    text, document = initdata(algorithm)
    wanted = {"configMapRef": {"name": "i", "key": "i"}, "sha256": hashlib.sha256(document).hexdigest()}
    blocked = guard_of(policy(attestation={**HARDWARE, "initdata": wanted}), initdata={"a": text}).blocked
    assert blocked is not None
    assert blocked.reason == Reason.INITDATA_REFUSED


def test_initdata_of_another_policy_is_not_passed_over_for_want_of_a_hash() -> None:
    # given a policy with a gate, and one without that names initdata which no token could be compared with
    text, document = initdata("md5")
    wanted = {"configMapRef": {"name": "i", "key": "i"}, "sha256": hashlib.sha256(document).hexdigest()}
    other = policy("b", attestation={"mode": "Simulated", "initdata": wanted})
    # when both bind a pod
    guard = guard_of(policy(), other, initdata={"b": text})
    # then none is made whose gate would not look at its initdata
    assert guard.blocked is not None
    assert guard.blocked.reason == Reason.INITDATA_REFUSED
    # while without any gate it is put on the pods as it is
    alone = policy(attestation={"mode": "Simulated", "initdata": wanted})
    assert guard_of(alone, initdata={"a": text}).blocked is None
