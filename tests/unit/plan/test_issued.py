# SPDX-License-Identifier: Apache-2.0
"""Certificates by cert-manager: what is asked, what is told until it is there, and what is left alone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nimblet import labels
from nimblet.conditions import ConditionType
from nimblet.manifests.certificate import ISSUER_NAME, go_duration
from nimblet.merging import find
from nimblet.plan.facts import ChildRef, ModelFacts
from nimblet.plan.result import Plan
from nimblet.plan.teefacts import TEEFacts
from nimblet.plan.transport import Wanted
from nimblet.plan.transportfacts import CertificateFacts, RequestFacts, SecretFacts, TransportFacts
from nimblet.settings import TLS, IssuerRef, Settings
from tests.builders import NOW, a_model, a_pod, base_facts, child, hash_of, plan_of
from tests.teepools import POLICIES, a_policy, nodes_of, runtime_classes

ISSUED = Settings(tls=TLS(mode="CertManager", issuer=IssuerRef(name="company")))
OWN = Settings(tls=TLS(mode="OwnCA", issuer=IssuerRef(name="company")))
OFF = Settings(tls=TLS(issuer=IssuerRef(name="company")))
SECRET = "smollm2-model-tls"
LIVE = CertificateFacts(
    fingerprint="aa" * 32,
    dns_names=Wanted(service="smollm2-model", namespace="team").dns_names,
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=89),
    issuer="",
    bundle="ca",
)
FILLED = SecretFacts(marked=True, filled=True)
CURRENT = RequestFacts(uid="uid-c", current=True)
GOOD = TransportFacts(live=LIVE, request=CURRENT, secret=FILLED)
MATERIAL = {"tls.crt": "Yw==", "tls.key": "aw==", "ca.crt": "YQ=="}


def planned(transport: TransportFacts, settings: Settings = ISSUED, **more: object) -> Plan[Any]:
    return plan_of(a_model(), base_facts(a_model(), transport=transport, **more), settings=settings)


def kinds(plan: Plan[Any]) -> set[str]:
    return {f"{item['kind']}/{item['metadata']['name']}" for item in plan.children}  # type: ignore[index]


def told(plan: Plan[Any], type_: ConditionType = ConditionType.READY) -> tuple[str, str, str]:
    found = find(plan.status.conditions, type_)
    assert found is not None
    return str(found.status), str(found.reason), found.message


def test_a_certificate_is_asked_for_and_no_pod_starts_before_it_is_there() -> None:
    first = planned(TransportFacts(request=RequestFacts()))
    asked = child(first.children, "Certificate", SECRET)
    assert asked["apiVersion"] == "cert-manager.io/v1"
    assert asked["metadata"]["labels"][labels.MODEL] == "smollm2"
    assert asked["spec"] == {
        "secretName": SECRET,
        "dnsNames": list(LIVE.dns_names),
        "duration": "2160h0m0s",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "server auth"],
        "issuerRef": {"name": "company", "kind": "Issuer", "group": "cert-manager.io"},
        "secretTemplate": {"annotations": {labels.ISSUED_FOR: "CompactModel.smollm2"}},
    }
    assert f"Secret/{SECRET}" not in kinds(first)
    assert "Deployment/smollm2-model" not in kinds(first)
    assert told(first)[:2] == ("Unknown", "Issuing")
    there = planned(GOOD)
    assert "Deployment/smollm2-model" in kinds(there)
    assert "data" not in child(there.children, "Secret", SECRET)


def test_the_pods_are_those_of_our_own_authority() -> None:
    own = planned(TransportFacts(live=LIVE, material=MATERIAL), OWN)
    issued = planned(GOOD)
    assert child(own.children, "Deployment") == child(issued.children, "Deployment")


WAITING = RequestFacts(uid="uid-c", message="Issuing certificate as Secret does not exist")
SINCE = NOW - timedelta(seconds=20)


@pytest.mark.parametrize(
    ("transport", "status", "reason", "words"),
    [
        (
            TransportFacts(request=RequestFacts(served=False)),
            "False",
            "CertManagerMissing",
            "Install cert-manager",
        ),
        (TransportFacts(request=replace(WAITING, since=SINCE)), "Unknown", "Issuing", "Secret does not exist."),
        (
            TransportFacts(request=replace(WAITING, since=NOW - timedelta(seconds=60))),
            "False",
            "CertificateNotReady",
            "Secret does not exist. See `kubectl describe`",
        ),
        (
            TransportFacts(request=replace(WAITING, since=SINCE, failed=True, message="Vault is sealed")),
            "False",
            "CertificateNotReady",
            f"Certificate {SECRET} is not ready: Vault is sealed.",
        ),
        (
            TransportFacts(request=CURRENT, secret=replace(FILLED, authorities=False)),
            "False",
            "AuthorityMissing",
            "has no ca.crt",
        ),
        (
            TransportFacts(request=RequestFacts(), secret=SecretFacts(ours=False, owned=False)),
            "False",
            "Conflict",
            f"Secret {SECRET} is there already",
        ),
        (TransportFacts(request=CURRENT, secret=FILLED), "Unknown", "Issuing", "has not looked"),
    ],
)
def test_what_is_in_the_way_is_told(transport: TransportFacts, status: str, reason: str, words: str) -> None:
    plan = planned(transport)
    ready = told(plan)
    assert ready[:2] == (status, reason)
    assert words in ready[2]
    assert "Deployment/smollm2-model" not in kinds(plan)
    if reason == "Issuing" and transport.request is not None and transport.request.since is not None:
        assert plan.requeue_after is not None
        assert plan.requeue_after <= 40


def serving(transport: TransportFacts) -> ModelFacts:
    """Return the facts of a model whose pods of the current spec answer."""
    model = a_model()
    facts = base_facts(model, transport=replace(GOOD))
    revision = str(
        child(plan_of(model, facts, settings=ISSUED).children, "Deployment")["metadata"]["labels"][labels.REVISION]
    )
    pod = replace(a_pod(revision), source_hash=hash_of(model, ISSUED))
    return base_facts(model, transport=transport, pods=(pod,))


@pytest.mark.parametrize(
    "request_",
    [
        RequestFacts(served=False),
        RequestFacts(),
        replace(CURRENT, current=False, failed=True, message="no such issuer"),
    ],
)
@pytest.mark.parametrize("secret", [FILLED, SecretFacts()])
def test_pods_go_on_with_the_secret_that_they_have(request_: RequestFacts, secret: SecretFacts) -> None:
    """A broken issuer, or a mode just switched on: the Secret is not touched, and pods may start with it."""
    transport = TransportFacts(live=LIVE, request=request_, secret=secret)
    plan = plan_of(a_model(), serving(transport), settings=ISSUED)
    assert told(plan, ConditionType.SERVING)[:2] == ("True", "Answering")
    assert told(plan)[0] != "True"
    assert "Deployment/smollm2-model" in kinds(plan)
    assert plan.deletions == ()
    if not secret.filled:
        assert f"Secret/{SECRET}" not in kinds(plan)


def test_a_secret_of_somebody_else_is_never_asked_for() -> None:
    transport = TransportFacts(request=RequestFacts(), secret=SecretFacts(ours=False, owned=False))
    assert not {name for name in kinds(planned(transport)) if name.endswith(SECRET)}


def test_a_secret_that_its_certificate_owns_gets_no_other_owner() -> None:
    plan = planned(replace(GOOD, secret=replace(FILLED, owned=False)))
    assert f"Secret/{SECRET}" not in kinds(plan)
    assert told(plan)[1] != "Conflict"


@pytest.mark.parametrize("settings", [OWN, OFF])
def test_another_mode_takes_the_certificate_away_before_all_else(settings: Settings) -> None:
    transport = TransportFacts(material=MATERIAL, request=CURRENT, secret=FILLED)
    plan = planned(transport, settings)
    assert plan.deletions == (ChildRef(kind="Certificate", name=SECRET, uid="uid-c"),)
    assert not {name for name in kinds(plan) if name.endswith(SECRET)}  # it would be fought over
    gone = planned(replace(transport, request=RequestFacts()), settings)
    assert gone.deletions == ()
    if settings is OWN:
        made = child(gone.children, "Secret", SECRET)
        assert made["data"] == MATERIAL
        # so that cert-manager fills it anew where it is asked again
        assert made["metadata"]["annotations"][ISSUER_NAME] == "(tls.mode OwnCA)"


def test_a_required_policy_marks_what_the_secret_is_made_for() -> None:
    model = a_model(teePolicyRef={"name": "p"})
    tee = TEEFacts(policies=(a_policy("p", POLICIES["Required TDX"]),), runtime_classes=runtime_classes())
    facts = base_facts(model, transport=GOOD, tee=tee, nodes=nodes_of("TDX"))
    plan = plan_of(model, facts, settings=ISSUED)
    template = child(plan.children, "Certificate", SECRET)["spec"]["secretTemplate"]["annotations"]
    assert template == {labels.ISSUED_FOR: "CompactModel.smollm2", labels.RUNTIME_CLASSES: "kata-qemu-tdx"}
    secret = child(plan.children, "Secret", SECRET)["metadata"]["annotations"]
    assert secret == {labels.RUNTIME_CLASSES: "kata-qemu-tdx"}


def test_offline_nothing_is_asked_for_and_nothing_is_waited_for() -> None:
    plan = planned(TransportFacts(assumed="aa" * 6))
    assert not {name for name in kinds(plan) if name.endswith(SECRET)}
    assert "Deployment/smollm2-model" in kinds(plan)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7776000, "2160h0m0s"), (3661, "1h1m1s"), (300, "5m0s"), (59, "59s")],
)
def test_durations_are_written_as_go_does(seconds: int, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"mode": "CertManager"}, "needs tls.issuer.name"),
        ({"mode": "CertManager", "issuer": {"name": "a"}, "certificateSeconds": 3599}, "at least 3600"),
        ({"mode": "CertManager", "issuer": {"name": "a"}, "renewBeforeSeconds": 7776000}, "less than"),
    ],
)
def test_settings_that_cert_manager_would_refuse_are_refused(tls: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TLS.model_validate(tls)
