# SPDX-License-Identifier: Apache-2.0
"""Asks the gates of pods for their report, each with a nonce of its own; judges nothing.

It talks to pod addresses that the cluster reports, follows no redirect, and reads a bounded answer. What was
answered is remembered in memory only: a restarted operator asks again, with other nonces.
"""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import aiohttp

from nimblet.cluster.key import Key
from nimblet.manifests.gate import GATE_PORT
from nimblet.plan.teefacts import PodReport
from nimblet_attestation.report import MAX_REPORT, told_expiry

TIMEOUT_SECONDS: Final = 2.0
"""A gate only signs, and a pass waits for it."""
RETRY: Final = timedelta(seconds=5)
SHARE: Final = 0.75
"""Part of a token's life after which its pod is asked again: the gate has got another by then."""
LONGEST: Final = timedelta(hours=1)
NONCE_BYTES: Final = 32
OK: Final = 200


@dataclass(frozen=True, kw_only=True)
class GatedPod:
    """A pod whose gate answers."""

    uid: str
    ip: str


GateUrl = Callable[[GatedPod, int], str]


def gate_url(pod: GatedPod, port: int) -> str:
    """Return the URL of a pod's gate by its own address."""
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    return f"http://{host}:{port}"


@dataclass(kw_only=True)
class Challenger:
    """Remembers what the gates of each resource answered."""

    session: aiohttp.ClientSession
    now: Callable[[], datetime]
    random: Callable[[int], bytes]
    """Bytes that nobody can foretell."""
    url_of: GateUrl = gate_url
    timeout: float = TIMEOUT_SECONDS
    _reports: dict[Key, dict[str, PodReport]] = field(default_factory=dict)

    async def reports(self, key: Key, pods: Sequence[GatedPod]) -> Mapping[str, PodReport]:
        """Return what each pod answered, asked anew where it is time; a pod that is silent keeps its last word."""
        before = self._reports.get(key, {})
        found = await asyncio.gather(*(self._report(pod, before.get(pod.uid)) for pod in pods))
        reports = {pod.uid: report for pod, report in zip(pods, found, strict=True)}
        if reports:
            self._reports[key] = reports
        else:
            self._reports.pop(key, None)
        return reports

    def forget(self, key: Key) -> None:
        """Drop all that is known of a resource that is gone."""
        self._reports.pop(key, None)

    async def _report(self, pod: GatedPod, before: PodReport | None) -> PodReport:
        now = self.now()
        if before is not None and now < before.again_at:
            return before
        nonce = base64.urlsafe_b64encode(self.random(NONCE_BYTES)).rstrip(b"=").decode()
        text = await self._ask(pod, nonce)
        if text:
            return PodReport(nonce=nonce, text=text, asked_at=now, again_at=_again(text, now))
        if before is not None:
            return replace(before, again_at=now + RETRY)
        return PodReport(nonce=nonce, text="", asked_at=now, again_at=now + RETRY)

    async def _ask(self, pod: GatedPod, nonce: str) -> str:
        """Return the answer, "" where there is none that can be read."""
        url = f"{self.url_of(pod, GATE_PORT)}/attestation"
        limit = aiohttp.ClientTimeout(total=self.timeout)
        try:
            async with self.session.get(
                url, params={"nonce": nonce}, timeout=limit, allow_redirects=False
            ) as response:
                body = b"".join([part async for part in _bounded(response)])
                return body.decode() if response.status == OK else ""
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
            return ""


def challenger_of(session: aiohttp.ClientSession) -> Challenger:
    """Return who asks by the system's clock and randomness."""
    return Challenger(session=session, now=partial(datetime.now, UTC), random=secrets.token_bytes)


async def _bounded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield what is read of an answer, ending the connection where it is more than a report can be."""
    size = 0
    async for part in response.content.iter_chunked(16_384):
        size += len(part)
        if size > MAX_REPORT:
            response.close()
            raise aiohttp.ClientPayloadError
        yield part


def _again(text: str, now: datetime) -> datetime:
    """Return when to ask anew, by the time that the token itself tells: a lie costs only questions."""
    expiry = told_expiry(text)
    left = min(timedelta(seconds=expiry - now.timestamp()), LONGEST) if expiry is not None else RETRY
    return now + max(left * SHARE, RETRY)
