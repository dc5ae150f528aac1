# SPDX-License-Identifier: Apache-2.0
"""The gate of a pod in a confidential place: proves the guest before anything else in the pod runs, and goes on.

It ends with a reason's exit code where the guest can't be proved. Afterwards it holds a fresh token and answers
the operator's challenges; it hands out no key, and signs nothing but its own proofs.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Final, NoReturn
from urllib.parse import parse_qs, urlsplit

from pydantic import TypeAdapter, ValidationError

from nimblet_attestation.demands import ENVIRONMENT, Gate
from nimblet_attestation.flaws import Refused
from nimblet_attestation.report import Challenge, Nonce, make_report
from nimblet_attestation.token import Proven, verify_token
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.attestation import Obtained
from nimblet_loader.contract import encode
from nimblet_loader.listening import Listener, listening

HEALTH_PATH: Final = "/healthz"
REPORT_PATH: Final = "/attestation"
SHARE: Final = 2 / 3
"""Part of a token's life after which another is got."""
RETRY_SECONDS: Final = 10.0
_CLIENT_SECONDS: Final = 2.0
_NONCE: Final = TypeAdapter(Nonce)
_log = logging.getLogger(__name__)

Obtain = Callable[[], Obtained]


def gate_of(environment: Mapping[str, str]) -> Gate:
    """Return what the environment asks of the gate."""
    return parse_gate(environment.get(ENVIRONMENT, ""))


def parse_gate(text: str) -> Gate:
    """Return what the operator asks of the gate; SourceError ConfigInvalid names the fields that are wrong."""
    try:
        return Gate.model_validate_json(text)
    except ValidationError as error:
        where = sorted({".".join(str(part) for part in flaw["loc"]) or "JSON" for flaw in error.errors()})
        message = f"{ENVIRONMENT} is not what this loader knows: see {', '.join(where[:5])}."
        raise SourceError(Reason.ConfigInvalid, message) from error


@dataclass(kw_only=True)
class Holder:
    """The token that was proved last, safe to read from another thread."""

    gate: Gate
    pod_uid: str
    obtain: Obtain
    now: Callable[[], datetime]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: Obtained | None = field(default=None, repr=False)

    def renew(self) -> Proven:
        """Get a token and judge it; the one before stays where that fails."""
        obtained = self.obtain()
        try:
            proven = verify_token(obtained.token, self.gate.demands, now=self.now(), bound=obtained.bound)
        except Refused as refused:
            raise SourceError(Reason[refused.flaw.value], refused.message) from refused
        with self._lock:
            self._held = obtained
        _log.info("%s", told(self.gate, proven))
        return proven

    def report(self, nonce: str) -> bytes:
        """Return the answer to a challenge."""
        with self._lock:
            held = self._held
        if held is None:
            raise ValueError("a report was asked for before there was a token")
        return encode(make_report(held.token, held.key, Challenge(nonce=nonce, pod_uid=self.pod_uid)))


def told(gate: Gate, proven: Proven) -> str:
    """Return the words for a proved token: simulated ones never say more than that."""
    if gate.mode == "Simulated":
        return (
            f"simulated: a token of {proven.verifier} for {proven.tee} passed all checks, and proves no hardware"
        )
    return f"a token of {proven.verifier} for {proven.tee} passed all checks"


def keep(holder: Holder, proven: Proven, *, wait: Callable[[float], object]) -> NoReturn:
    """Renew the token for as long as the pod lives: a broker that is away costs nothing until the token's end."""
    while True:
        left = proven.expires - holder.now().timestamp()
        wait(max(left * SHARE, RETRY_SECONDS))
        try:
            proven = holder.renew()
        except SourceError as error:
            _log.warning("%s: %s; the token before stands until its end", error.reason.name, error.message)


@contextmanager
def answering(holder: Holder, port: int) -> Iterator[int]:
    """Answer challenges on all addresses at `port` inside the block; yield the port."""
    with listening(_Server(holder, port), name="gate") as found:
        yield found


class _Server(Listener):
    def __init__(self, holder: Holder, port: int) -> None:
        self.holder = holder
        super().__init__(port, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    server: _Server

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        if target.path == HEALTH_PATH:
            self._send(b"ok\n")
        elif target.path == REPORT_PATH:
            self._report(parse_qs(target.query).get("nonce", [""])[0])
        else:
            self.send_error(404)

    def _report(self, nonce: str) -> None:
        try:
            wanted = _NONCE.validate_python(nonce)
        except ValidationError:
            self.send_error(400)
            return
        self._send(self.server.holder.report(wanted))

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        _log.debug("gate asked: " + format, *args)
