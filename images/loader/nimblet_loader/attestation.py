# SPDX-License-Identifier: Apache-2.0
"""Gets an attestation token for the guest that this pod runs in: evidence from its agent, judgement from a broker.

The handshake is the KBS attestation protocol 0.4.0 (Request, Challenge, Attestation, Response); evidence and the
agent's own token come from the REST API of the Confidential Containers guest components. Nothing is believed here:
the token is judged by nimblet_attestation before anybody sees it.
"""

import hashlib
import json
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar
from urllib.parse import urlencode

import httpcore
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from nimblet_attestation.demands import Gate, Kbs
from nimblet_attestation.keys import Jwk, jwk_of
from nimblet_attestation.report import PrivateKey
from nimblet_attestation.token import MAX_TOKEN, Bound
from nimblet_egress.errors import Reason, SourceError

AGENT: Final = "http://127.0.0.1:8006"
"""The REST API of the guest (api-server-rest); `rest_api=attestation` or `all` opens it."""
PROTOCOL: Final = "0.4.0"
HASHES: Final[Mapping[str, str]] = {"sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
DEFAULT_HASH: Final = "sha384"
"""What the guest components take where the broker selects none."""
KEY_AGREEMENT: Final = "ECDH-ES+A256KW"
"""How a broker may wrap a secret for the key; none is asked for here, but the protocol wants the word."""
SESSION: Final = "kbs-session-id"
MAX_BODY: Final = 4 * 2**20
"""Evidence with logs and certificates has some hundred kB."""
STEP_SECONDS: Final = 15.0
TOTAL_SECONDS: Final = 60.0
OK: Final = 200
UNAUTHORIZED: Final = frozenset({401, 403})
NOT_FOUND: Final = 404
_M = TypeVar("_M", bound=BaseModel)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Info(_Message):
    tee: Annotated[str, Field(min_length=1, max_length=64)]


class _Challenge(_Message):
    nonce: Annotated[str, Field(min_length=1, max_length=8192)]
    extra_params: Annotated[JsonValue, Field(alias="extra-params")] = None


class _Token(_Message):
    token: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN)]


class _AgentToken(_Token):
    tee_keypair: Annotated[str, Field(min_length=1, max_length=16_384)]


@dataclass(frozen=True, kw_only=True)
class Obtained:
    """A token that nobody has judged, the key it should be bound to, and what the guest knows of its report."""

    token: str
    key: PrivateKey = field(repr=False)
    bound: Bound


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    body: bytes
    cookie: str


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One of the two that are asked, and the reason that tells of its silence."""

    name: str
    url: str
    silence: Reason
    tls: ssl.SSLContext | None = None

    def ask(self, method: str, path: str, *, body: bytes = b"", cookie: str = "") -> _Answer:
        """Return the answer; SourceError where there is none in time, or more than is wanted."""
        headers = [("Content-Type", "application/json")] if body else []
        if cookie:
            headers.append(("Cookie", f"{SESSION}={cookie}"))
        limits = dict.fromkeys(("connect", "read", "write", "pool"), STEP_SECONDS)
        end = time.monotonic() + TOTAL_SECONDS
        try:
            with (
                closing(httpcore.ConnectionPool(ssl_context=self.tls)) as pool,
                pool.stream(
                    method, self.url + path, headers=headers, content=body, extensions={"timeout": limits}
                ) as response,
            ):
                found = bytearray()
                for part in response.iter_stream():
                    found += part
                    if len(found) > MAX_BODY or time.monotonic() > end:
                        raise self.silent("gave more than is wanted, or too slowly")
                return _Answer(status=response.status, body=bytes(found), cookie=_session(response))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise self.silent(f"did not answer ({type(error).__name__})") from error

    def silent(self, what: str) -> SourceError:
        """Return the error of a place that gives no usable answer."""
        return SourceError(self.silence, f"{self.name} {what}.")

    def parse(self, model: type[_M], answer: _Answer) -> _M:
        """Return a message of the protocol."""
        try:
            return model.model_validate_json(answer.body)
        except (ValidationError, RecursionError) as error:
            raise self.silent(f"answered with something else than {model.__name__.strip('_')}") from error


def obtain(gate: Gate, *, agent: str = AGENT) -> Obtained:
    """Return a fresh token: by our own handshake where the gate names a broker, else the agent's."""
    guest = _Place(name="The guest's Attestation Agent", url=agent, silence=Reason.EvidenceUnavailable)
    return _from_agent(guest) if gate.kbs is None else _handshake(guest, gate.kbs)


def _from_agent(guest: _Place) -> Obtained:
    """Return the token that the agent got itself, of the broker that the guest's initdata names."""
    answer = guest.ask("GET", "/aa/token?" + urlencode({"token_type": "kbs"}))
    if answer.status != OK:
        raise guest.silent(f"gave no token (HTTP {answer.status})")
    found = guest.parse(_AgentToken, answer)
    try:
        key = load_pem_private_key(found.tee_keypair.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise guest.silent("gave a key that is neither EC nor RSA")
        return Obtained(token=found.token, key=key, bound=Bound(key=jwk_of(key.public_key())))
    except ValueError as error:
        raise guest.silent("gave a key that can't be used") from error


def _handshake(guest: _Place, kbs: Kbs) -> Obtained:
    """Return the token of one Request, Challenge, Attestation and Response."""
    tls = ssl.create_default_context(cadata=kbs.ca) if kbs.url.startswith("https://") else None
    broker = _Place(name="The key broker", url=kbs.url.rstrip("/"), silence=Reason.VerifierUnavailable, tls=tls)
    tee = guest.parse(_Info, _good(guest, guest.ask("GET", "/info"))).tee
    request = {
        "version": PROTOCOL,
        "tee": tee,
        "extra-params": {"supported-hash-algorithms": sorted(HASHES)},
    }
    first = _granted(broker, broker.ask("POST", "/kbs/v0/auth", body=_json(request)))
    challenge = broker.parse(_Challenge, first)
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = jwk_of(key.public_key())
    attestation = _attestation(guest, challenge, jwk)
    last = broker.ask("POST", "/kbs/v0/attest", body=_json(attestation), cookie=first.cookie)
    token = broker.parse(_Token, _granted(broker, last)).token
    return Obtained(token=token, key=key, bound=Bound(nonce=challenge.nonce, key=jwk))


def _attestation(guest: _Place, challenge: _Challenge, jwk: Jwk) -> Mapping[str, object]:
    """Return the protocol's Attestation: evidence whose report holds the hash of challenge and key."""
    runtime = {"nonce": challenge.nonce, "tee-pubkey": {**jwk.members, "alg": KEY_AGREEMENT}}
    algorithm = _hash_of(challenge)
    more = _additional(guest, _digest(runtime, algorithm))
    # the guest's own report covers what its devices say
    report = _digest({**runtime, "additional-evidence": more}, algorithm)
    answer = _good(guest, guest.ask("GET", "/aa/evidence?" + _query(report)))
    try:
        evidence = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise guest.silent("gave evidence that is no JSON") from error
    return {
        "runtime-data": runtime,
        "tee-evidence": {"primary_evidence": evidence, "additional_evidence": more},
    }


def _additional(guest: _Place, report: bytes) -> str:
    """Return what the guest's devices tell, "" of a guest without any or an agent that knows of none."""
    answer = guest.ask("GET", "/aa/additional-evidence?" + _query(report))
    if answer.status == NOT_FOUND:
        return ""
    try:
        return _good(guest, answer).body.decode()
    except UnicodeDecodeError as error:
        raise guest.silent("gave additional evidence that is no text") from error


def _query(report: bytes) -> str:
    text = urlsafe_b64encode(report).rstrip(b"=").decode()
    return urlencode({"runtime_data": text, "encoding": "base64"})


def _hash_of(challenge: _Challenge) -> str:
    params = challenge.extra_params
    selected = params.get("selected-hash-algorithm") if isinstance(params, dict) else None
    name = selected.lower() if isinstance(selected, str) else DEFAULT_HASH
    if name not in HASHES:
        message = f"The key broker selects a hash other than {', '.join(sorted(HASHES))}."
        raise SourceError(Reason.VerifierUnavailable, message)
    return name


def _digest(value: Mapping[str, object], algorithm: str) -> bytes:
    """Return the hash of the canonical JSON (RFC 8785: of texts and objects alone, it is this form)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.new(HASHES[algorithm], text.encode()).digest()


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _good(place: _Place, answer: _Answer) -> _Answer:
    if answer.status != OK:
        raise place.silent(f"refused (HTTP {answer.status})")
    return answer


def _granted(broker: _Place, answer: _Answer) -> _Answer:
    """Return the answer; what the broker says of its refusal may come from anywhere, and is not quoted."""
    if answer.status in UNAUTHORIZED:
        message = f"The key broker does not accept this guest's evidence (HTTP {answer.status})."
        raise SourceError(Reason.AttestationRefused, message)
    return _good(broker, answer)


def _session(response: httpcore.Response) -> str:
    """Return the session that the broker gives, whose cookie goes back to it alone."""
    for name, value in response.headers:
        if name.lower() == b"set-cookie":
            key, _, rest = value.decode("latin-1").partition("=")
            if key.strip() == SESSION:
                return rest.partition(";")[0].strip()
    return ""
