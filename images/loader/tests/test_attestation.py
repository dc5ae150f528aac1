# SPDX-License-Identifier: Apache-2.0
"""The gate against an agent and a broker on real sockets: what it sends, what it refuses, and how it says so.

Both are stand-ins without hardware; signatures, keys and TLS are real.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from attestation_testing.verifier import Verifier
from loader_testing.guest import NONCE, SESSION, Guest, Places, listening
from loader_testing.pod import START_SECONDS
from loader_testing.server import Reply
from nimblet_attestation.demands import Gate
from nimblet_attestation.flaws import Flaw, Refused
from nimblet_attestation.report import Challenge, verify_report
from nimblet_egress.errors import TERMINATED_EXIT_CODE, Reason, SourceError, Terminated
from nimblet_loader.attestation import obtain
from nimblet_loader.contract import FailureReport
from nimblet_loader.gate import Holder, answering, keep, parse_gate

POD = "uid-1"
CHALLENGE = Challenge(nonce="n" * 43, pod_uid=POD)


def now() -> datetime:
    return datetime.now(UTC)


def holder(places: Places, gate: str) -> Holder:
    parsed = parse_gate(gate)
    return Holder(gate=parsed, pod_uid=POD, obtain=lambda: obtain(parsed, agent=places.agent), now=now)


def reason(guest: Guest, folder: Path, *, kbs: bool = True, **demands: Any) -> Reason | None:
    """Return why the gate stays shut; None where it opens."""
    with listening(guest, folder) as places:
        try:
            holder(places, places.gate(guest, kbs=kbs, **demands)).renew()
        except SourceError as error:
            return error.reason
    return None


@pytest.mark.parametrize("algorithm", [None, "sha256", "SHA384", "sha512"])
@pytest.mark.parametrize("devices", [None, "", '{"nvidia":["gpu","{\\"a\\":\\"\\u00e9\\"}"]}'])
def test_the_handshake_binds_challenge_key_and_devices(
    tmp_path: Path, algorithm: str | None, devices: str | None
) -> None:
    guest = Guest(algorithm=algorithm.lower() if algorithm else None, devices=devices)
    with listening(guest, tmp_path) as places:
        proven = holder(places, places.gate(guest)).renew()
        assert (proven.nonce, proven.tee) == (NONCE, "sample")
        assert guest.sessions == [f"kbs-session-id={SESSION}"]
        assert places.broker.paths() == ["/kbs/v0/auth", "/kbs/v0/attest"]
        assert places.asked.paths() == ["/info", "/aa/additional-evidence", "/aa/evidence"]


def test_each_handshake_has_a_key_of_its_own(tmp_path: Path) -> None:
    guest = Guest()
    with listening(guest, tmp_path) as places:
        held = holder(places, places.gate(guest))
        assert held.renew().key != held.renew().key


def test_the_agents_own_token_is_judged_alike(tmp_path: Path) -> None:
    guest = Guest()
    with listening(guest, tmp_path) as places:
        assert holder(places, places.gate(guest, kbs=False)).renew().tee == "sample"
        assert (places.asked.paths(), places.broker.paths()) == (["/aa/token"], [])
    assert reason(Guest(key="another"), tmp_path, kbs=False) is Reason.KeyMismatch


def test_each_flaw_of_a_token_shuts_the_gate(tmp_path: Path) -> None:
    sample = Verifier(tee="sample")
    assert reason(Guest(), tmp_path) is None
    assert reason(Guest(replays=True), tmp_path) is Reason.NonceMismatch
    assert reason(Guest(lifetime=-600), tmp_path) is Reason.TokenExpired
    assert reason(Guest(verifier=replace(sample, status="warning")), tmp_path) is Reason.NotAffirming
    assert reason(Guest(), tmp_path, tees=["tdx"]) is Reason.TechnologyMismatch
    assert reason(Guest(), tmp_path, initdata="ab" * 32) is Reason.InitdataMismatch
    wanted = [{"pointer": "/quote/body/mr_td", "values": ["00"]}]
    assert reason(Guest(), tmp_path, references=wanted) is Reason.ReferenceMismatch
    other = json.loads(Verifier(name="other").key.model_dump_json(exclude_none=True))
    assert reason(Guest(), tmp_path, keys=[other]) is Reason.TokenSignatureInvalid


BROKEN = Reply(status=500)
REFUSED = Reply(status=401)
NONSENSE = Reply(body=[b"<html>"])
HUGE = Reply(body=[b"x" * 2**20] * 8)


@pytest.mark.parametrize(
    ("path", "reply", "wanted"),
    [
        ("/info", BROKEN, Reason.EvidenceUnavailable),
        ("/info", NONSENSE, Reason.EvidenceUnavailable),
        ("/aa/evidence", Reply(status=403), Reason.EvidenceUnavailable),
        ("/aa/evidence", NONSENSE, Reason.EvidenceUnavailable),
        ("/aa/evidence", HUGE, Reason.EvidenceUnavailable),
        ("/aa/additional-evidence", BROKEN, Reason.EvidenceUnavailable),
        ("/aa/additional-evidence", Reply(body=[b"\xff"]), Reason.EvidenceUnavailable),
        ("/kbs/v0/auth", BROKEN, Reason.VerifierUnavailable),
        ("/kbs/v0/auth", REFUSED, Reason.AttestationRefused),
        ("/kbs/v0/auth", NONSENSE, Reason.VerifierUnavailable),
        (
            "/kbs/v0/auth",
            Reply(status=302, headers={"Location": "http://127.0.0.1:1/"}),
            Reason.VerifierUnavailable,
        ),
        ("/kbs/v0/auth", Reply(body=[b'{"nonce":"a"}']), Reason.AttestationRefused),  # no session
        ("/kbs/v0/attest", REFUSED, Reason.AttestationRefused),
        ("/kbs/v0/attest", HUGE, Reason.VerifierUnavailable),
        ("/kbs/v0/attest", Reply(body=[b'{"token":"a.b.c"}']), Reason.TokenMalformed),
    ],
)
def test_what_agent_or_broker_do_wrong_shuts_the_gate(
    tmp_path: Path, path: str, reply: Reply, wanted: Reason
) -> None:
    assert reason(Guest(faults={path: reply}), tmp_path) is wanted


def test_a_hash_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    auth = Reply(body=[b'{"nonce":"a","extra-params":{"selected-hash-algorithm":"sm3"}}'])
    assert reason(Guest(faults={"/kbs/v0/auth": auth}), tmp_path) is Reason.VerifierUnavailable


@pytest.mark.parametrize("body", ['{"token":"a.b.c","tee_keypair":"x"}', '{"token":"a.b.c"}', "[]"])
def test_an_agents_token_without_a_usable_key_is_refused(tmp_path: Path, body: str) -> None:
    guest = Guest(faults={"/aa/token": Reply(body=[body.encode()])})
    assert reason(guest, tmp_path, kbs=False) is Reason.EvidenceUnavailable


def test_a_broker_of_another_authority_learns_nothing(tmp_path: Path) -> None:
    guest = Guest()
    (tmp_path / "other").mkdir()
    with listening(guest, tmp_path) as places, listening(guest, tmp_path / "other") as stranger:
        gate = Gate.model_validate_json(replace(places, ca=stranger.ca).gate(guest))
        with pytest.raises(SourceError) as told:
            obtain(gate, agent=places.agent)
        assert told.value.reason is Reason.VerifierUnavailable
        assert places.broker.requests == []


def test_nobody_listening_is_told_by_who_it_is(tmp_path: Path) -> None:
    guest = Guest()
    with listening(guest, tmp_path) as places, socket.socket() as held:
        gate = Gate.model_validate_json(places.gate(guest))
        held.bind(("127.0.0.1", 0))  # and never listens: a port that was left may be somebody else's by now
        with pytest.raises(SourceError) as told:
            obtain(gate, agent=f"http://127.0.0.1:{held.getsockname()[1]}")
    assert told.value.reason is Reason.EvidenceUnavailable


def test_what_is_no_gate_names_the_field() -> None:
    with pytest.raises(SourceError, match="see demands"):
        parse_gate('{"version": 1, "mode": "Hardware"}')


def test_a_broker_that_is_away_costs_nothing_until_the_tokens_end(tmp_path: Path) -> None:
    guest = Guest()
    waits: list[float] = []
    with listening(guest, tmp_path) as places:
        held = holder(places, places.gate(guest))
        proven = held.renew()
        before = held.report(CHALLENGE.nonce)

        def wait(seconds: float) -> None:
            waits.append(seconds)
            guest.faults = {"/kbs/v0/auth": BROKEN} if len(waits) == 1 else {}
            if len(waits) == 3:
                raise Terminated

        with pytest.raises(Terminated):
            keep(held, proven, wait=wait)
        after = held.report(CHALLENGE.nonce)
    assert 190 < waits[0] <= 200
    assert 190 < waits[2] <= 200
    assert json.loads(before)["token"] != json.loads(after)["token"]


@contextmanager
def process(places: Places, gate: str, result: Path) -> "Iterator[subprocess.Popen[bytes]]":
    argv = [sys.executable, "-m", "nimblet_loader", "attest", "--port=0", f"--agent={places.agent}"]
    path = os.pathsep.join(sys.path)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "NIMBLET_ATTESTATION": gate, "POD_UID": POD}
    with subprocess.Popen([*argv, f"--result={result}"], env=environment, stderr=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


def test_the_program_ends_with_a_code_for_each_reason(tmp_path: Path) -> None:
    guest = Guest(replays=True)
    with listening(guest, tmp_path) as places, process(places, places.gate(guest), tmp_path / "r") as running:
        log = running.communicate(timeout=START_SECONDS)[1].decode()
    assert running.returncode == Reason.NonceMismatch.exit_code
    told = FailureReport.model_validate_json((tmp_path / "r").read_bytes()).error
    assert told.reason == "NonceMismatch"
    assert "eyJ" not in log + told.message  # no token is shown


def test_the_program_opens_answers_and_ends_when_asked(tmp_path: Path) -> None:
    guest = Guest()
    with listening(guest, tmp_path) as places, process(places, places.gate(guest), tmp_path / "r") as running:
        assert running.stderr is not None
        lines = iter(running.stderr.readline, b"")
        assert any(b"simulated: a token of" in line for line in lines)
        assert any(b"answering at port" in line for line in lines)
        running.send_signal(signal.SIGTERM)
        log = running.communicate(timeout=START_SECONDS)[1].decode()
    assert running.returncode == TERMINATED_EXIT_CODE, log


def test_the_operator_is_answered_by_the_guests_key(tmp_path: Path) -> None:
    guest = Guest()
    with listening(guest, tmp_path) as places:
        held = holder(places, places.gate(guest))
        held.renew()
        base = "http://127.0.0.1:{}"
        with answering(held, 0) as port, httpx.Client(base_url=base.format(port), timeout=60) as client:
            assert client.get("/healthz").status_code == 200
            answer = client.get("/attestation", params={"nonce": CHALLENGE.nonce})
            codes = [client.get(path).status_code for path in ("/attestation", "/attestation?nonce=short", "/x")]
        demands = held.gate.demands
    assert codes == [400, 400, 404]
    assert verify_report(answer.text, demands, CHALLENGE, now=now()).tee == "sample"
    with pytest.raises(Refused) as refused:
        verify_report(answer.text, demands, replace(CHALLENGE, pod_uid="uid-2"), now=now())
    assert refused.value.flaw is Flaw.NONCE_MISMATCH


@pytest.mark.parametrize("flaw", list(Flaw))
def test_every_flaw_has_an_exit_code(flaw: Flaw) -> None:
    assert 90 <= Reason[flaw.value].exit_code < 126
