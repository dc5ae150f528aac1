# SPDX-License-Identifier: Apache-2.0
"""An index whose Qdrant servers speak TLS: when they start, how they are asked, and what switching it does."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from nimblet import labels
from nimblet.api.retrievalindex import RetrievalIndex
from nimblet.conditions import ConditionType
from nimblet.merging import find
from nimblet.plan.facts import ChildRef
from nimblet.plan.guarded import QDRANT
from nimblet.plan.indexfacts import IndexFacts, ServersFacts
from nimblet.plan.retrievalindex import IndexPlan
from nimblet.plan.teefacts import TEEFacts
from nimblet.plan.transportfacts import CertificateFacts, RequestFacts, SecretFacts, TransportFacts
from nimblet.settings import TLS, IssuerRef, Settings
from tests.builders import NOW, child
from tests.indexes import an_index, config_of, first_facts, index_plan
from tests.teepools import POLICIES, a_policy, nodes_of, runtime_classes
from tests.unit.plan.test_index_servers import KNOWN, a_store, servers, serving

OWN: Final = Settings(tls=TLS(mode="OwnCA"))
MATERIAL: Final = {"tls.crt": "Yw==", "tls.key": "aw==", "ca.crt": "YQ=="}
LIVE: Final = CertificateFacts(
    fingerprint="aa" * 32,
    dns_names=(),
    not_before=NOW - timedelta(days=1),
    not_after=NOW + timedelta(days=89),
    issuer="ca",
    bundle="both",
)
THERE: Final = TransportFacts(live=LIVE, material=MATERIAL)
FRESH: Final = TransportFacts(material=MATERIAL)
ISSUED: Final = Settings(tls=TLS(mode="CertManager", issuer=IssuerRef(name="company")))
HELD: Final = TransportFacts(
    live=LIVE, request=RequestFacts(uid="uid-c", current=True), secret=SecretFacts(marked=True, filled=True)
)
ASKED: Final = ChildRef(kind="Certificate", name="handbook-qdrant-tls", uid="uid-c")


def starting(transport: TransportFacts, **fields: Any) -> IndexFacts:
    """Return facts of an index without servers, whose retriever has its certificate."""
    found = ServersFacts(key="nk-write", reader="nk-read", transports={1: transport})
    return first_facts(embedding=KNOWN, servers=found, transport=THERE, **fields)


def secured(count: int, fingerprint: str = LIVE.fingerprint) -> ServersFacts:
    """Return servers that speak TLS and are ready."""
    plain = servers(count)
    live = replace(plain.sets[0], tls=True, certificate=fingerprint[:12] if count > 1 else "")
    transport = replace(THERE, live=replace(LIVE, fingerprint=fingerprint))
    return replace(plain, sets=(live,), transports={1: transport})


def running(count: int) -> tuple[RetrievalIndex, IndexFacts]:
    """Return an index that serves from servers that speak TLS."""
    index, facts = serving(servers(count), replicas=count)
    return index, replace(facts, servers=secured(count), transport=THERE)


def store_of(plan: IndexPlan) -> dict[str, Any]:
    found: dict[str, Any] = config_of(plan, "handbook-retriever")["store"]
    return found


def template(plan: IndexPlan, name: str = "handbook-qdrant") -> dict[str, Any]:
    found: dict[str, Any] = child(plan.children, "StatefulSet", name)["spec"]["template"]
    return found


def shape_of(plan: IndexPlan) -> dict[str, Any]:
    """Return the pods of the first set, but for their size: a set that is left keeps what it has."""
    found = template(plan)
    (server,) = found["spec"]["containers"]
    return {**found, "spec": {**found["spec"], "containers": [{**server, "resources": None}]}}


def of_kind(plan: IndexPlan, kind: str) -> set[str]:
    found: list[Mapping[str, Any]] = [dict(item) for item in plan.children if item["kind"] == kind]
    return {str(item["metadata"]["name"]) for item in found}


def test_no_server_starts_before_its_certificate_is_in_the_cluster() -> None:
    index = an_index(store=a_store(replicas=3))
    made = index_plan(index, starting(FRESH), settings=OWN)
    assert child(made.children, "Secret", "handbook-qdrant-tls")["data"] == MATERIAL
    assert of_kind(made, "StatefulSet") == set()
    there = index_plan(index, starting(THERE), settings=OWN)
    assert of_kind(there, "StatefulSet") == {"handbook-qdrant"}
    # what stands there and is bad rolls no server of those that run
    index, facts = running(3)
    spoilt = replace(facts, servers=replace(secured(3), transports={1: FRESH}))
    assert of_kind(index_plan(index, spoilt, settings=OWN), "StatefulSet") == set()


def test_servers_are_asked_by_https_and_verified_by_our_authority_alone() -> None:
    index = an_index(store=a_store(replicas=2, snapshots={"retain": 1, "every": "6h"}))
    plan = index_plan(index, starting(THERE), settings=OWN)
    store = store_of(plan)
    assert (store["url"], store["tlsFolder"]) == (
        "https://handbook-qdrant.team.svc:6333",
        "/etc/nimblet/secrets/store-tls",
    )
    host = "handbook-qdrant-{}.handbook-qdrant-headless.team.svc"
    assert store["snapshots"]["servers"] == [f"https://{host.format(at)}:6333" for at in range(2)]
    pod = child(plan.children, "Deployment", "handbook-retriever")["spec"]["template"]["spec"]
    mounted = next(item["secret"] for item in pod["volumes"] if item["name"] == "store-tls")
    assert mounted["secretName"] == "handbook-qdrant-tls"
    assert mounted["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    (server,) = template(plan)["spec"]["containers"]
    assert {server[probe]["httpGet"]["scheme"] for probe in server if probe.endswith("Probe")} == {"HTTPS"}
    environment = {item["name"]: item.get("value") for item in server["env"]}
    assert environment["QDRANT_URI"] == "https://$(POD_NAME).handbook-qdrant-headless.team.svc:6335"
    assert environment["QDRANT__CLUSTER__P2P__ENABLE_TLS"] == "true"


def test_another_certificate_rolls_servers_that_have_peers_and_no_other() -> None:
    for count, rolls in ((1, False), (3, True)):
        index, facts = running(count)
        plans = [
            index_plan(index, replace(facts, transport=THERE, servers=secured(count, found * 32)), settings=OWN)
            for found in ("aa", "bb")
        ]
        assert (template(plans[0]) != template(plans[1])) == rolls
    marks = template(plans[1])["metadata"]["annotations"]
    assert marks[labels.CERTIFICATE] == "bb" * 6


def test_switching_it_on_moves_to_servers_beside_those_that_answer() -> None:
    index, facts = serving(servers())
    before = shape_of(index_plan(index, facts))
    found = replace(servers(), transports={2: THERE})
    plan = index_plan(index, replace(facts, servers=found, transport=THERE), settings=OWN)
    assert of_kind(plan, "StatefulSet") == {"handbook-qdrant", "handbook-qdrant-s2"}
    assert shape_of(plan) == before, "no server that answers is restarted"
    store = store_of(plan)
    assert store["url"] == "https://handbook-qdrant-s2.team.svc:6333"
    assert store["former"] == ["http://handbook-qdrant.team.svc:6333"]
    assert plan.deletions == ()


def test_switching_it_off_moves_too_and_the_former_servers_are_still_verified() -> None:
    index, facts = running(1)
    before = shape_of(index_plan(index, facts, settings=OWN))
    # nobody makes certificates any more
    left = replace(facts, servers=replace(secured(1), transports={1: TransportFacts(), 2: TransportFacts()}))
    plan = index_plan(index, left)
    assert shape_of(plan) == before
    store = store_of(plan)
    assert (store["url"], store["former"]) == (
        "http://handbook-qdrant-s2.team.svc:6333",
        ["https://handbook-qdrant.team.svc:6333"],
    )
    assert store["tlsFolder"] == "/etc/nimblet/secrets/store-tls"
    assert not {name for name in of_kind(plan, "Secret") if name.endswith("-tls")}


def test_policy_names_traffic_to_servers_only_while_it_is_in_plaintext() -> None:
    index = an_index(store=a_store(), teePolicyRef={"name": "p"})
    tee = TEEFacts(policies=(a_policy("p", POLICIES["Required TDX"]),), runtime_classes=runtime_classes())
    covered = index_plan(index, starting(THERE, tee=tee, nodes=nodes_of("TDX")), settings=OWN)
    assert covered.status.policy is not None
    assert QDRANT not in covered.status.policy.not_covered
    moving = replace(
        starting(THERE, tee=tee, nodes=nodes_of("TDX")), servers=replace(servers(), transports={2: THERE})
    )
    told = index_plan(index, moving, settings=OWN)
    assert told.status.policy is not None
    assert QDRANT in told.status.policy.not_covered


def test_planning_without_the_cluster_shows_no_change_of_servers() -> None:
    """`nimblet plan` reads no certificate."""
    index, facts = running(3)
    known = index_plan(index, replace(facts, transport=THERE), settings=OWN)
    blind = replace(facts, transport=THERE, servers=replace(secured(3), transports={}))
    assert template(index_plan(index, blind, settings=OWN)) == template(known)


def test_cert_manager_is_asked_for_certificates_that_peers_can_show_each_other() -> None:
    first = index_plan(
        an_index(store=a_store(replicas=2)), starting(TransportFacts(request=RequestFacts())), settings=ISSUED
    )
    asked = child(first.children, "Certificate", "handbook-qdrant-tls")["spec"]
    assert asked["usages"] == ["digital signature", "server auth", "client auth"]
    assert "*.handbook-qdrant-headless.team.svc" in asked["dnsNames"]
    assert of_kind(first, "StatefulSet") == set()
    there = index_plan(an_index(store=a_store(replicas=2)), starting(HELD), settings=ISSUED)
    assert of_kind(there, "StatefulSet") == {"handbook-qdrant"}


def test_trouble_with_the_certificate_of_the_servers_alone_is_told() -> None:
    failing = TransportFacts(request=RequestFacts(uid="uid-c", failed=True, message="no such issuer", since=NOW))
    facts = replace(starting(failing), transport=HELD)
    plan = index_plan(an_index(store=a_store()), facts, settings=ISSUED)
    ready = find(plan.status.conditions, ConditionType.READY)
    assert ready is not None
    assert (str(ready.status), str(ready.reason)) == ("False", "CertificateNotReady")
    assert "no such issuer" in ready.message


def test_what_asks_cert_manager_goes_with_the_mode_and_the_set_it_was_for() -> None:
    index, facts = running(1)
    left = replace(facts, servers=replace(secured(1), transports={1: HELD, 2: FRESH}))
    assert ASKED in index_plan(index, left, settings=OWN).deletions
    assert ASKED in index_plan(index, left).deletions
    kept = replace(facts, transport=HELD, servers=replace(secured(1), transports={1: HELD}))
    assert ASKED not in index_plan(index, kept, settings=ISSUED).deletions
