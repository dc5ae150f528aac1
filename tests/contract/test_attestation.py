# SPDX-License-Identifier: Apache-2.0
"""Gate and operator together, over real sockets: what the operator renders the gate obeys, and its answer proves.

Agent and broker are stand-ins with sample evidence: all of this is simulated. Signatures, keys and TLS are real.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loader_testing.guest import Guest, Places, listening
from nimblet.cluster.attestation import Challenger, GatedPod
from nimblet.cluster.key import Key
from nimblet.manifests.gate import ENVIRONMENT, GATE, GATE_PORT, gate_container
from nimblet.plan.attest import GATE_REASONS, GatePlan, judge_pods
from nimblet.plan.tee import Bindable, plan_guard
from nimblet.plan.teefacts import AttestationTexts, LivePod, TEEFacts
from nimblet_attestation import demands
from nimblet_attestation.flaws import Flaw
from nimblet_egress.errors import Reason as LoaderReason
from nimblet_loader.attestation import AGENT, obtain
from nimblet_loader.cli import _parser
from nimblet_loader.gate import Holder, answering, gate_of
from tests.teepools import a_policy, nodes_of, runtime_classes

REF = {"name": "trust", "key": "k"}
POD = LivePod(name="model-1", runtime_class="kata-qemu-tdx", uid="uid-1", opened=True)
Told = Callable[[GatePlan, TEEFacts], None]


def tee_of(places: Places, guest: Guest, *, mode: str) -> TEEFacts:
    attestation = {
        "mode": mode,
        "verifier": {"configMapRef": REF},
        "kbs": {"url": places.kbs, "caRef": REF},
        "referenceValues": [{"claim": "/quote/body/mr_td", "values": ["ab" * 48]}],
    }
    spec = {"technologies": ["TDX"], "enforcement": "Required", "attestation": attestation}
    policy = a_policy("p", {**spec, "namespaceSelector": {"matchLabels": {"a": "b"}}})
    texts = {"p": AttestationTexts(keys=guest.verifier.key.model_dump_json(exclude_none=True), ca=places.ca)}
    return TEEFacts(
        policies=(policy,),
        namespace_labels={"a": "b"},
        runtime_classes=runtime_classes(),
        texts=texts,
        pods=(POD,),
    )


@pytest.mark.asyncio
async def test_what_the_operator_renders_the_gate_obeys_and_its_answer_proves(tmp_path: Path) -> None:
    guest = Guest()
    with listening(guest, tmp_path) as places:
        tee = tee_of(places, guest, mode="Simulated")
        guard = plan_guard(Bindable(ref=None, gate_image="loader:1"), tee, nodes_of("TDX"))
        assert guard.gate is not None
        assert guard.confinement is not None
        assert guard.confinement.gate is not None
        container: Any = gate_container(guard.confinement.gate, is_server=True)
        arguments = _parser().parse_args(container["args"])
        assert (arguments.command, arguments.port, arguments.agent) == ("attest", GATE_PORT, AGENT)
        environment = {item["name"]: item.get("value", POD.uid) for item in container["env"]}
        holder = Holder(
            gate=gate_of(environment),
            pod_uid=environment["POD_UID"],
            obtain=lambda: obtain(holder.gate, agent=places.agent),
            now=lambda: datetime.now(UTC),
        )
        holder.renew()
        with answering(holder, 0) as port:
            async with aiohttp.ClientSession() as session:
                challenger = Challenger(
                    session=session,
                    now=lambda: datetime.now(UTC),
                    random=lambda size: b"n" * size,
                    url_of=lambda *_: f"http://127.0.0.1:{port}",
                    timeout=20.0,
                )
                reports = await challenger.reports(Key("CompactModel", "t", "m"), [GatedPod(uid=POD.uid, ip="x")])
    told = TEEFacts(pods=(POD,), reports=reports)
    now = datetime.now(UTC)
    proof = judge_pods(guard.gate, told, now=now)
    assert (proof.flaw, proof.pending, proof.hardware) == (None, None, False)
    assert proof.status is not None
    assert (proof.status.mode, proof.status.proved_pods) == ("Simulated", 1)
    # the same tokens prove nothing to a policy that wants hardware
    strict = plan_guard(Bindable(ref=None), tee_of(places, guest, mode="Hardware"), nodes_of("TDX")).gate
    flaw = judge_pods(strict, told, now=now).flaw
    assert flaw is not None
    assert flaw.reason == "TechnologyMismatch"


def test_exit_codes_mean_the_same_in_pod_and_operator() -> None:
    codes = {reason.exit_code: reason.name for reason in LoaderReason if reason.exit_code >= 90}
    assert codes == {code: reason.value for code, reason in GATE_REASONS.items()}
    assert {flaw.value for flaw in Flaw} < set(codes.values())


def test_both_call_the_gates_configuration_alike() -> None:
    assert (GATE, ENVIRONMENT) == ("attest", demands.ENVIRONMENT)
