# SPDX-License-Identifier: Apache-2.0
"""A guest's Attestation Agent and a key broker on loopback, made from the public description of their protocols.

The agent makes up evidence (report data and nothing else), as the `sample` attester does. The broker checks what
the KBS attestation protocol asks of a client, and that the report holds the hash of challenge and key; its tokens
are signed with a real key. Neither proves any hardware.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization

from attestation_testing.verifier import Verifier, new_key, public, tee_pubkey
from loader_testing.server import LoopbackServer, Reply, Request, serving
from loader_testing.tls import issue

NONCE = "a-challenge-of-the-broker"
SESSION = "session-1"


def _unbased(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _reply(value: object, *, status: int = 200, cookie: str = "") -> Reply:
    headers = {"Set-Cookie": cookie} if cookie else {}
    return Reply(status=status, body=[json.dumps(value).encode()], headers=headers)


@dataclass
class Guest:
    """Both, and what of them is broken. A `fault` names a path and the reply in its place."""

    verifier: Verifier = field(default_factory=lambda: Verifier(tee="sample"))
    faults: dict[str, Reply] = field(default_factory=dict)
    algorithm: str | None = None
    """Hash that the broker selects; it tells of none where this is None."""
    devices: str | None = None
    """What the agent tells of further devices; it knows no such path where this is None."""
    replays: bool = False
    """The broker answers with a token for another challenge."""
    key: str = "guest"
    """Name of the key of the agent's own tokens."""
    lifetime: int = 300
    sessions: list[str] = field(default_factory=list)

    def agent(self, request: Request) -> Reply:
        """Answer as the REST API of the guest components."""
        path, query = request.path, parse_qs(urlsplit(request.target).query)
        if path in self.faults:
            return self.faults[path]
        if path == "/info":
            return _reply({"version": "v1.0.0", "tee": self.verifier.tee, "additional_tees": [], "feature": "all"})
        if path == "/aa/token" and query["token_type"] == ["kbs"]:
            pem = new_key(self.key).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            return _reply(
                {"token": self._token("agents-own", tee_pubkey(public("guest"))), "tee_keypair": pem.decode()}
            )
        if path == "/aa/additional-evidence" and self.devices is not None:
            return Reply(body=[self.devices.encode()])
        if path == "/aa/evidence" and query["encoding"] == ["base64"]:
            report = _unbased(query["runtime_data"][0])
            return _reply({"svn": "1", "report_data": base64.b64encode(report).decode()})
        return _reply({}, status=404)

    def broker(self, request: Request) -> Reply:
        """Answer as a KBS."""
        if request.path in self.faults:
            return self.faults[request.path]
        if request.method != "POST" or request.headers["content-type"] != "application/json":
            return _reply({}, status=405)
        body = json.loads(request.body)
        if request.path == "/kbs/v0/auth":
            if body["version"] != "0.4.0" or body["tee"] != self.verifier.tee:
                return _reply({"type": "protocol"}, status=401)
            extra = {"selected-hash-algorithm": self.algorithm} if self.algorithm is not None else {}
            cookie = f"kbs-session-id={SESSION}; Path=/; HttpOnly"
            return _reply({"nonce": NONCE, "extra-params": extra}, cookie=cookie)
        if request.path == "/kbs/v0/attest":
            return self._attested(body, cookie=request.headers.get("cookie", ""))
        return _reply({}, status=404)

    def _attested(self, body: Mapping[str, Any], *, cookie: str) -> Reply:
        self.sessions.append(cookie)
        runtime, evidence = body["runtime-data"], body["tee-evidence"]
        whole = {**runtime, "additional-evidence": evidence["additional_evidence"]}
        canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        wanted = hashlib.new(self.algorithm or "sha384", canonical).digest()
        held = base64.b64decode(evidence["primary_evidence"]["report_data"])
        if cookie != f"kbs-session-id={SESSION}" or runtime["nonce"] != NONCE or held != wanted:
            return _reply({"type": "attestation"}, status=401)
        nonce = "an-older-challenge" if self.replays else NONCE
        return _reply({"token": self._token(nonce, runtime["tee-pubkey"])})

    def _token(self, nonce: str, key: Mapping[str, str]) -> str:
        payload = self.verifier.payload({"nonce": nonce, "tee-pubkey": dict(key)}, now=datetime.now(UTC))
        return self.verifier.sign({**payload, "exp": payload["iat"] + self.lifetime})


@dataclass(frozen=True)
class Places:
    """Where both listen; `ca` is the root of the broker's certificate."""

    agent: str
    kbs: str
    ca: str
    asked: LoopbackServer
    broker: LoopbackServer

    def gate(self, guest: Guest, *, kbs: bool = True, mode: str = "Simulated", **demands: Any) -> str:
        """Return what the operator would give the gate."""
        wanted = {"keys": [guest.verifier.key.model_dump(exclude_none=True)], "tees": ["sample"], **demands}
        broker = {"kbs": {"url": self.kbs, "ca": self.ca}} if kbs else {}
        return json.dumps({"version": 1, "mode": mode, "demands": wanted, **broker})


@contextmanager
def listening(guest: Guest, folder: Path) -> Iterator[Places]:
    """Serve both inside the block; the broker by TLS."""
    issued = issue("localhost", folder)
    with serving(guest.agent) as agent, serving(guest.broker, tls=issued.context) as broker:
        yield Places(
            agent=f"http://127.0.0.1:{agent.port}",
            kbs=f"https://localhost:{broker.port}",
            ca=issued.ca,
            asked=agent,
            broker=broker,
        )
