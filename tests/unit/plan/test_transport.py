# SPDX-License-Identifier: Apache-2.0
"""When a certificate is made anew, and what a plan does until it is there."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from nimblet import labels
from nimblet.conditions import ConditionType, Reason
from nimblet.manifests.common import Part
from nimblet.merging import find
from nimblet.plan.facts import ModelFacts
from nimblet.plan.teefacts import TEEFacts
from nimblet.plan.transport import (
    SKEW,
    Step,
    Wanted,
    judge_certificate,
    plan_transport,
    renewal,
)
from nimblet.plan.transportfacts import AuthorityFacts, CertificateFacts, TransportFacts
from nimblet.settings import TLS, Settings
from tests.builders import NOW, a_model, base_facts, child, plan_of
from tests.teepools import POLICIES, a_policy, nodes_of, runtime_classes

OWN = Settings(tls=TLS(mode="OwnCA"))
WANTED = Wanted(service="smollm2-model", namespace="team")
AUTHORITY = AuthorityFacts(trusted=frozenset({"ca-1", "ca-2"}), bundle="both")
LIVE = CertificateFacts(
    fingerprint="aa" * 32,
    dns_names=WANTED.dns_names,
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=89),
    issuer="ca-1",
    bundle="both",
)


def made(days: int) -> datetime:
    """Return since when a certificate is good that was made so many days ago."""
    return NOW - timedelta(days=days) - SKEW


MATERIAL = {"tls.crt": "Yw==", "tls.key": "aw==", "ca.crt": "YQ=="}


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (LIVE, Step.KEEP),
        (None, Step.ISSUE),
        (replace(LIVE, issuer=""), Step.ISSUE),
        (replace(LIVE, issuer="ca-3"), Step.ISSUE),
        (replace(LIVE, dns_names=WANTED.dns_names[1:]), Step.ISSUE),
        (replace(LIVE, dns_names=(*WANTED.dns_names, "other.example")), Step.ISSUE),
        (replace(LIVE, not_before=NOW + timedelta(seconds=1)), Step.ISSUE),
        (replace(LIVE, not_before=made(60), not_after=NOW + timedelta(days=30)), Step.ISSUE),
        (replace(LIVE, not_before=made(59), not_after=NOW + timedelta(days=31)), Step.KEEP),
        (replace(LIVE, bundle="one"), Step.REFRESH),
        (replace(LIVE, issuer="ca-2"), Step.KEEP),
    ],
)
def test_a_certificate_is_judged(found: CertificateFacts | None, step: Step) -> None:
    assert judge_certificate(WANTED, found, AUTHORITY, NOW) is step


def test_names_are_those_of_the_service_alone() -> None:
    assert WANTED.dns_names == (
        "smollm2-model",
        "smollm2-model.team",
        "smollm2-model.team.svc",
        "smollm2-model.team.svc.cluster.local",
    )


def test_servers_that_ask_each_other_have_names_of_their_pods_too() -> None:
    peers = Wanted(service="docs-qdrant", namespace="team", peers=True)
    assert peers.dns_names[4:] == (
        "*.docs-qdrant-headless.team.svc",
        "*.docs-qdrant-headless.team.svc.cluster.local",
    )


def _facts(transport: TransportFacts) -> ModelFacts:
    return base_facts(a_model(), transport=transport)


def test_no_pod_starts_before_its_certificate_is_in_the_cluster() -> None:
    made = plan_of(a_model(), _facts(TransportFacts(material=MATERIAL)), settings=OWN)
    assert child(made.children, "Secret", "smollm2-model-tls")["data"] == MATERIAL
    assert not [item for item in made.children if item["kind"] == "Deployment"]
    there = plan_of(a_model(), _facts(TransportFacts(live=LIVE, material=MATERIAL)), settings=OWN)
    assert child(there.children, "Deployment")


def test_another_certificate_rolls_a_server_that_reads_it_once() -> None:
    def revision(fingerprint: str) -> str:
        transport = TransportFacts(live=replace(LIVE, fingerprint=fingerprint), material=MATERIAL)
        pods = child(plan_of(a_model(), _facts(transport), settings=OWN).children, "Deployment")["spec"][
            "template"
        ]
        assert pods["metadata"]["annotations"][labels.CERTIFICATE] == fingerprint[:12]
        assert pods["metadata"]["labels"][labels.TRANSPORT] == "tls"
        return str(pods["metadata"]["labels"][labels.REVISION])

    assert revision("aa" * 32) == revision("aa" * 32) != revision("bb" * 32)


def test_a_plan_without_the_certificate_assumes_that_of_the_pods() -> None:
    """`nimblet plan` reads no certificate, and shows no change where there is none."""

    def revision(transport: TransportFacts) -> object:
        made = plan_of(a_model(), _facts(transport), settings=OWN)
        return child(made.children, "Deployment")["metadata"]["labels"][labels.REVISION]

    assumed = TransportFacts(assumed=LIVE.fingerprint[:12])
    assert revision(assumed) == revision(TransportFacts(live=LIVE, material=MATERIAL))


def test_each_runtime_has_its_own_options_and_one_without_is_refused() -> None:
    transport = plan_transport(model_part(), WANTED, TransportFacts(live=LIVE, material=MATERIAL), OWN.tls, NOW)
    made = child(plan_of(a_model(), base_facts(a_model())).children, "Deployment")
    for runtime, option in (("LlamaCpp", "--ssl-cert-file"), ("VLLM", "--ssl-certfile")):
        pod = transport.pods(made, runtime=runtime)["spec"]["template"]["spec"]  # type: ignore[index]
        assert option in pod["containers"][0]["args"]
        assert transport.refuses(runtime) is None
    refused = transport.refuses("TGI")
    assert refused is not None
    assert refused.reason is Reason.RUNTIME_UNSUITABLE
    assert plan_transport(model_part(), WANTED, TransportFacts(), TLS(), NOW).refuses("TGI") is None


def model_part() -> Part:
    return Part(owner="smollm2", namespace="team", component="tls")


def test_a_pass_is_due_when_the_certificate_is() -> None:
    transport = TransportFacts(live=LIVE, material=MATERIAL)
    wait = plan_of(a_model(), _facts(transport), settings=OWN).requeue_after
    assert wait is not None
    assert wait <= (renewal(LIVE) - NOW).total_seconds()


def test_without_tls_nothing_of_it_is_rendered() -> None:
    plan = plan_of(a_model(), _facts(TransportFacts()))
    assert "tls" not in str(plan.children).replace("nimblet.dev", "")
    assert plan.status.endpoint == "http://smollm2-model.team.svc/v1"


def test_a_required_policy_without_tls_says_that_transport_is_plaintext() -> None:
    model = a_model(teePolicyRef={"name": "p"})
    tee = TEEFacts(policies=(a_policy("p", POLICIES["Required TDX"]),), runtime_classes=runtime_classes())
    told = {}
    for settings, transport in (
        (Settings(), TransportFacts()),
        (OWN, TransportFacts(live=LIVE, material=MATERIAL)),
    ):
        facts = base_facts(model, transport=transport, tee=tee, nodes=nodes_of("TDX"))
        plan = plan_of(model, facts, settings=settings)
        policy, enforced = plan.status.policy, find(plan.status.conditions, ConditionType.POLICY_ENFORCED)
        assert policy is not None
        assert enforced is not None
        told[settings.tls.mode] = (policy.not_covered[0], enforced.message)
    assert "passes the nodes in plaintext" in told["Off"][0]
    assert "Transport is plaintext on the node" in told["Off"][1]
    assert "plaintext" not in "".join(told["OwnCA"])
