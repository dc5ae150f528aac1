# SPDX-License-Identifier: Apache-2.0
"""What a token proves, and each way in which it proves nothing."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from attestation_testing.verifier import LIFETIME, Verifier, new_key, public, tee_pubkey
from nimblet_attestation.demands import Demands
from nimblet_attestation.flaws import Flaw, Refused
from nimblet_attestation.keys import parse_keys
from nimblet_attestation.report import MAX_REPORT, Challenge, Report, make_report, verify_report
from nimblet_attestation.token import LEEWAY_SECONDS, MAX_TOKEN, Bound, verify_token

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
VERIFIER = Verifier()
GUEST = public("guest")
RUNTIME = {"nonce": "kbs-nonce", "tee-pubkey": tee_pubkey(GUEST)}
BOUND = Bound(nonce="kbs-nonce", key=GUEST)
CHALLENGE = Challenge(nonce="n" * 43, pod_uid="uid-1")
TOKEN = VERIFIER.token(RUNTIME, now=NOW)


def flaw(token: str, demands: Demands | None = None, *, now: datetime = NOW, bound: Bound = BOUND) -> Flaw | None:
    try:
        verify_token(token, demands or VERIFIER.demands(), now=now, bound=bound)
    except Refused as refused:
        return None if token in refused.message else refused.flaw
    return None


def signed(verifier: Verifier = VERIFIER, **changes: Any) -> str:
    return verifier.sign({**verifier.payload(RUNTIME, now=NOW), **changes})


def raw(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"x") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("layout", ["annotated", "split"])
def test_a_good_token_of_either_layout_proves_the_guest(layout: Any) -> None:
    verifier = replace(VERIFIER, layout=layout, init_data="cd" * 48)
    reference = {"pointer": "/quote/body/mr_td", "values": ["00", "AB" * 48]}
    demands = verifier.demands(references=[reference], initdata="cd" * 48)
    proven = verify_token(verifier.token(RUNTIME, now=NOW), demands, now=NOW, bound=BOUND)
    assert (proven.verifier, proven.tee, proven.nonce) == (VERIFIER.key.thumbprint, "tdx", "kbs-nonce")
    assert proven.key == GUEST
    assert proven.expires - proven.issued == LIFETIME
    assert len(proven.evidence_sha256) == 64


def test_no_token_without_a_signature_or_with_a_public_key_as_secret_is_believed() -> None:
    payload = VERIFIER.payload(RUNTIME, now=NOW)
    assert flaw(jwt.encode(payload, "", algorithm="none")) is Flaw.ALGORITHM_REFUSED
    assert flaw(raw({"alg": "none"}, payload, b"")) is Flaw.ALGORITHM_REFUSED
    pem = (
        VERIFIER.key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    signer = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    head = raw({"alg": "HS256"}, payload).rpartition(".")[0]
    forged = base64.urlsafe_b64encode(signer.sign(head.encode(), pem.encode())).rstrip(b"=").decode()
    assert flaw(f"{head}.{forged}") is Flaw.ALGORITHM_REFUSED
    assert flaw(raw({"alg": ["ES256"]}, payload)) is Flaw.ALGORITHM_REFUSED
    assert flaw(raw({"alg": "RS256"}, payload)) is Flaw.ALGORITHM_REFUSED  # the pinned key is of a curve


def test_only_pinned_keys_sign_whatever_the_token_brings_along() -> None:
    stranger = Verifier(name="stranger")
    assert flaw(stranger.token(RUNTIME, now=NOW)) is Flaw.TOKEN_SIGNATURE_INVALID
    payload = stranger.payload(RUNTIME, now=NOW)
    assert flaw(stranger.sign(payload, jku="http://127.0.0.1:1/keys")) is Flaw.TOKEN_SIGNATURE_INVALID
    assert flaw(stranger.sign(payload, kid="nobody")) is Flaw.VERIFIER_UNKNOWN
    assert flaw(stranger.sign(payload, kid=VERIFIER.key.thumbprint)) is Flaw.TOKEN_SIGNATURE_INVALID
    assert flaw(VERIFIER.sign(payload, kid=VERIFIER.key.thumbprint)) is None
    assert flaw(VERIFIER.sign(payload, kid="nobody")) is Flaw.VERIFIER_UNKNOWN
    both = Demands(keys=(stranger.key, VERIFIER.key), tees=("tdx",))
    assert flaw(TOKEN, both) is None


def test_headers_that_ask_for_more_are_refused() -> None:
    payload = VERIFIER.payload(RUNTIME, now=NOW)
    assert flaw(raw({"alg": "ES256", "crit": ["exp"]}, payload)) is Flaw.TOKEN_MALFORMED
    assert flaw(raw({"alg": "ES256", "b64": False}, payload)) is Flaw.TOKEN_MALFORMED
    assert flaw(raw({"alg": "ES256", "kid": 5}, payload)) is Flaw.TOKEN_MALFORMED


@pytest.mark.parametrize(
    "token",
    ["", "a.b.c", "." * 5, "x" * (MAX_TOKEN + 1), TOKEN + "." + TOKEN, "\ud800.a.b", raw({}, {}), "é.é.é"],
)
def test_what_is_no_token_is_told_as_such(token: str) -> None:
    with pytest.raises(Refused) as refused:
        verify_token(token, VERIFIER.demands(), now=NOW)
    assert refused.value.flaw in (Flaw.TOKEN_MALFORMED, Flaw.ALGORITHM_REFUSED)


def test_a_deep_header_ends_in_the_same_refusal() -> None:
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 20_000 + b"]" * 20_000 + b"}").rstrip(b"=").decode()
    assert flaw(f"{deep}.e30.eA") in (Flaw.TOKEN_MALFORMED, Flaw.ALGORITHM_REFUSED)


def test_times_are_judged_by_the_callers_clock() -> None:
    end = NOW + timedelta(seconds=LIFETIME)
    assert flaw(TOKEN, now=end + timedelta(seconds=LEEWAY_SECONDS - 1)) is None
    assert flaw(TOKEN, now=end + timedelta(seconds=LEEWAY_SECONDS)) is Flaw.TOKEN_EXPIRED
    assert flaw(TOKEN, now=NOW - timedelta(seconds=LEEWAY_SECONDS)) is None
    assert flaw(TOKEN, now=NOW - timedelta(seconds=LEEWAY_SECONDS + 1)) is Flaw.TOKEN_NOT_YET_VALID
    later = int(NOW.timestamp()) + LEEWAY_SECONDS + 1
    assert flaw(signed(nbf=later)) is Flaw.TOKEN_NOT_YET_VALID
    assert flaw(signed(exp=int(NOW.timestamp()))) is Flaw.TOKEN_EXPIRED


@pytest.mark.parametrize("changes", [{"exp": None}, {"exp": "1"}, {"iat": 1.5}, {"exp": 2**80}, {"submods": {}}])
def test_claims_of_another_shape_are_refused(changes: dict[str, Any]) -> None:
    assert flaw(signed(**changes)) is Flaw.TOKEN_MALFORMED


@pytest.mark.parametrize("status", ["warning", "contraindicated", "none", "", "Affirming", "96"])
def test_every_device_must_be_affirmed(status: str) -> None:
    assert flaw(signed(replace(VERIFIER, status=status))) is Flaw.NOT_AFFIRMING
    device = {"ear.status": status, "ear.veraison.annotated-evidence": {"nvidia": {}}}
    assert flaw(signed(replace(VERIFIER, devices={"gpu0": device}))) is Flaw.NOT_AFFIRMING


def test_the_guest_itself_must_be_among_the_devices() -> None:
    submods = VERIFIER.payload(RUNTIME, now=NOW)["submods"]
    assert flaw(signed(submods={"gpu0": submods["cpu0"]})) is Flaw.NOT_AFFIRMING


def test_the_hardware_is_the_one_that_is_asked_for() -> None:
    assert flaw(signed(replace(VERIFIER, tee="sample"))) is Flaw.TECHNOLOGY_MISMATCH
    assert flaw(TOKEN, VERIFIER.demands(devices=["nvidia"])) is Flaw.TECHNOLOGY_MISMATCH
    gpu = {"gpu0": {"ear.status": "affirming", "ear.veraison.annotated-evidence": {"nvidia": {}}}}
    assert flaw(signed(replace(VERIFIER, devices=gpu)), VERIFIER.demands(devices=["nvidia"])) is None
    payload = VERIFIER.payload(RUNTIME, now=NOW)
    payload["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["sample"] = {}
    assert flaw(VERIFIER.sign(payload)) is Flaw.TECHNOLOGY_MISMATCH  # it claims to be two


@pytest.mark.parametrize(
    ("pointer", "value", "good"),
    [
        ("/quote/body/mr_td", "ab" * 48, True),
        ("/quote/body/mr_td", "ac" * 48, False),
        ("/quote/body/debug", "false", True),
        ("/quote/body/debug", "true", False),
        ("/svn/1", "5", True),
        ("/svn/2", "5", False),
        ("/svn/x", "5", False),
        ("/quote/body", "{}", False),
        ("/missing", "ab", False),
    ],
)
def test_reference_values_are_found_by_pointer(pointer: str, value: str, good: bool) -> None:
    demands = VERIFIER.demands(references=[{"pointer": pointer, "values": [value]}])
    assert flaw(TOKEN, demands) is (None if good else Flaw.REFERENCE_MISMATCH)
    other = VERIFIER.demands(references=[{"device": "gpu0", "pointer": pointer, "values": [value]}])
    assert flaw(TOKEN, other) is Flaw.REFERENCE_MISMATCH


@pytest.mark.parametrize(
    ("field", "digest", "good"),
    [
        ("cd" * 48, "cd" * 48, True),
        ("CD" * 48, "cd" * 48, True),
        ("cd" * 32 + "00" * 16, "cd" * 32, True),  # SHA-256 in TDX's 48 bytes
        ("cd" * 32, "cd" * 48, True),  # SHA-384 cut to SNP's 32 bytes
        ("cd" * 47 + "ce", "cd" * 48, False),
        ("00" * 48, "cd" * 48, False),
        ("cd" * 16, "cd" * 48, False),
        ("", "cd" * 48, False),
        (None, "cd" * 48, False),
    ],
)
def test_initdata_fits_the_hardwares_field(field: str | None, digest: str, good: bool) -> None:
    token = signed(replace(VERIFIER, init_data=field))
    assert flaw(token, VERIFIER.demands(initdata=digest)) is (None if good else Flaw.INITDATA_MISMATCH)


def test_another_challenge_or_another_key_is_refused() -> None:
    assert flaw(TOKEN, bound=replace(BOUND, nonce="other")) is Flaw.NONCE_MISMATCH
    assert flaw(TOKEN, bound=replace(BOUND, key=public("other"))) is Flaw.KEY_MISMATCH
    for runtime in ({}, {"nonce": "kbs-nonce"}, {"tee-pubkey": tee_pubkey(GUEST)}, {"nonce": "", **RUNTIME}):
        token = VERIFIER.token({**runtime}, now=NOW)
        assert (flaw(token) is None) is (runtime.keys() == RUNTIME.keys())


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_that_was_changed_anywhere_proves_nothing_else(at: int, put: str) -> None:
    changed = TOKEN[:at] + put + TOKEN[at + 1 :]
    try:
        proven = verify_token(changed, VERIFIER.demands(), now=NOW, bound=BOUND)
    except Refused:
        return
    # the last digit of a part has bits that mean nothing
    assert proven == verify_token(TOKEN, VERIFIER.demands(), now=NOW, bound=BOUND)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
SUBMODULE = st.dictionaries(
    st.sampled_from(
        ["ear.status", "ear.veraison.annotated-evidence", "ear_attester_claims", "ear_verifier_claims"]
    ),
    JSON,
)


@given(
    st.fixed_dictionaries(
        {"iat": JSON, "exp": JSON, "submods": st.dictionaries(st.sampled_from(["cpu0", "gpu0"]), SUBMODULE | JSON)}
    )
)
def test_whatever_a_verifier_signs_ends_in_a_refusal_of_ours(payload: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        verify_token(VERIFIER.sign(payload), VERIFIER.demands(), now=NOW, bound=BOUND)


def report(token: str = TOKEN, key: str = "guest", challenge: Challenge = CHALLENGE) -> str:
    return make_report(token, new_key(key), challenge).model_dump_json()


def report_flaw(text: str, challenge: Challenge = CHALLENGE, *, now: datetime = NOW) -> Flaw | None:
    try:
        verify_report(text, VERIFIER.demands(), challenge, now=now)
    except Refused as refused:
        return refused.flaw
    return None


def test_a_report_answers_one_challenge_to_one_pod_alone() -> None:
    assert report_flaw(report()) is None
    assert report_flaw(report(), replace(CHALLENGE, nonce="m" * 43)) is Flaw.NONCE_MISMATCH
    assert report_flaw(report(), replace(CHALLENGE, pod_uid="uid-2")) is Flaw.NONCE_MISMATCH
    assert report_flaw(report(), now=NOW + timedelta(hours=1)) is Flaw.TOKEN_EXPIRED


def test_who_has_only_the_token_can_make_no_report() -> None:
    assert report_flaw(report(key="thief")) is Flaw.KEY_MISMATCH
    stolen = Report.model_validate_json(report())
    newer = VERIFIER.token(RUNTIME, now=NOW + timedelta(seconds=1))
    assert report_flaw(Report(token=newer, proof=stolen.proof).model_dump_json()) is Flaw.KEY_MISMATCH
    other = VERIFIER.sign({"nonce": CHALLENGE.nonce})
    assert report_flaw(Report(token=TOKEN, proof=other).model_dump_json()) is Flaw.KEY_MISMATCH
    # what the guest's key signed for another purpose is no proof
    claims = {"nonce": CHALLENGE.nonce, "ath": "0" * 64, "pod": CHALLENGE.pod_uid}
    foreign = jwt.encode(claims, new_key("guest"), algorithm="ES256")
    assert report_flaw(Report(token=TOKEN, proof=foreign).model_dump_json()) is Flaw.KEY_MISMATCH
    unlike = jwt.encode({"a": 1}, new_key("guest"), algorithm="ES256", headers={"typ": "nimblet-proof+jwt"})
    assert report_flaw(Report(token=TOKEN, proof=unlike).model_dump_json()) is Flaw.TOKEN_MALFORMED


@pytest.mark.parametrize("text", ["", "{}", "[]", "x" * (MAX_REPORT + 1), '{"version":2,"token":"a","proof":"b"}'])
def test_what_is_no_report_is_told_as_such(text: str) -> None:
    assert report_flaw(text) is Flaw.TOKEN_MALFORMED


def test_a_guest_with_an_rsa_key_proves_itself_too() -> None:
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "alg": "RSA-OAEP-256"}
    for name, number in (("n", numbers.n), ("e", numbers.e)):
        size = (number.bit_length() + 7) // 8
        jwk[name] = base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
    token = VERIFIER.token({"nonce": "k", "tee-pubkey": jwk}, now=NOW)
    text = make_report(token, key, CHALLENGE).model_dump_json()
    assert report_flaw(text) is None


def pem(key: Any) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode())


def test_keys_are_read_as_a_set_as_one_or_as_pem() -> None:
    one = VERIFIER.key.model_dump_json(exclude_none=True)
    named = json.dumps({**json.loads(one), "kid": "mine", "use": "sig", "x5c": ["ignored"]})
    for text in (one, f'{{"keys": [{one}]}}', pem(new_key("verifier"))):
        assert parse_keys(text) == (VERIFIER.key,)
    found = parse_keys(named)
    assert [key.name for key in found if not isinstance(key, str)] == ["mine"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"keys": []}',
        '{"kty": "oct", "k": "AAAA"}',
        '{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}',
        "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----",
        "x" * 70_000,
        "[" * 60_000,
        pem(ec.generate_private_key(ec.SECP521R1())),
        pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - what is refused
    ],
)
def test_keys_that_can_not_be_used_are_refused(text: str) -> None:
    assert isinstance(parse_keys(text), str)
