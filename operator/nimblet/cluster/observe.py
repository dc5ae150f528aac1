# SPDX-License-Identifier: Apache-2.0
"""Asks our pods themselves: for a proof once per run of a container, and for a download's progress.

A proof is a token, a vector or a score, by task. What is asked again and again is poll.py's.

It talks to pod addresses that the cluster reports, never to a URL that a user gave, follows no redirect, and
keeps no body. What was answered is remembered in memory only: a restarted operator asks again.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from nimblet.cluster.adapterquestion import AdapterQuestion
from nimblet.cluster.key import Key
from nimblet.cluster.question import Inquiry, Questions
from nimblet.manifests.network import HTTP_PORT, PROGRESS_PORT
from nimblet.plan.facts import Answer, Observation, PodFacts

PodUrl = Callable[[PodFacts, int], str]
"""Base URL of a pod's port, without a trailing slash."""

TrustOf = Callable[[str], ssl.SSLContext | None]
"""By what the pods behind the Service of a name are verified; None leaves it to the session."""

KeyOf = Callable[[PodFacts], str]
"""The API key that a pod accepts."""

AdaptersOf = Callable[[PodFacts], AdapterQuestion | None]
"""What a pod that answers is asked besides; None for nothing."""

PATIENCE_SECONDS: Final = 3.0
"""How long a reconcile waits for an answer; a slower one wakes it again, so that slow pods hold no worker."""
PROGRESS_SECONDS: Final = 5.0
"""Between two looks at a running download; a status shows steps of ten percent."""
PROGRESS_TIMEOUT_SECONDS: Final = 2.0
PROGRESS_STEP: Final = 10
MAX_BODY_BYTES: Final = 65536
"""Most that is read of an answer: a token's has less than two thousand, a vector of 4096 numbers 22 thousand."""
BUSY_CODES: Final = frozenset({429, 503})
OK: Final = 200
CHAT: Final = Questions()


def _no_adapters(_: PodFacts) -> None:
    return None


Run = tuple[str, str]
"""One run of a container: pod uid and container id."""


def pod_url(pod: PodFacts, port: int) -> str:
    """Return the URL of a pod's port by its own address. Progress of a download is told in plain HTTP."""
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    scheme = "https" if pod.tls_host and port == HTTP_PORT else "http"
    return f"{scheme}://{host}:{port}"


def by_the_session(_: str) -> None:
    """Leave it to the session by what pods are verified."""


class Progress(BaseModel):
    percent: int = Field(ge=0, le=100)


@dataclass(kw_only=True)
class _Record:
    """What is known of one run of a container."""

    observation: Observation | None = None
    asked_at: float = 0.0
    task: "asyncio.Task[None] | None" = None
    percent: int | None = None


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds: of one question, between two to a silent pod, and of a reconcile that waits."""

    timeout: float
    retry: float
    wait: float = PATIENCE_SECONDS


@dataclass(kw_only=True)
class Observer:
    """Remembers what the pods of each resource said. Close it to end the questions under way."""

    session: aiohttp.ClientSession
    patience: Patience
    wake: Callable[[Key], None]
    clock: Callable[[], float]
    url_of: PodUrl = pod_url
    trust_of: TrustOf = by_the_session
    _records: dict[Key, dict[Run, _Record]] = field(default_factory=dict)

    async def observe(
        self,
        key: Key,
        pods: Sequence[PodFacts],
        *,
        key_of: KeyOf,
        questions: Inquiry = CHAT,
        adapters_of: AdaptersOf = _no_adapters,
    ) -> tuple[PodFacts, ...]:
        """Return the pods with what they said and how far their download is."""
        before = self._records.get(key, {})
        runs = {pod.uid: (pod.uid, pod.container_id) for pod in pods}
        records = {run: before.get(run, _Record()) for run in runs.values()}
        for run, gone in before.items():
            if run not in records and gone.task is not None:
                gone.task.cancel()
        self._records[key] = records
        asked = [pod for pod in pods if pod.ready and not pod.terminating and pod.ip]
        loading = [pod for pod in pods if pod.loading and not pod.terminating and pod.ip]
        await asyncio.gather(
            self._ask_all(
                key, asked, asking_of=lambda pod: self._asking(pod, key_of(pod), questions, adapters_of(pod))
            ),
            *(self._look(pod, records[runs[pod.uid]]) for pod in loading),
        )
        return tuple(self._told(pod, records[runs[pod.uid]], asked=pod in asked) for pod in pods)

    def next_look(self, pods: Sequence[PodFacts]) -> float | None:
        """Return seconds until observed pods should be looked at again, or None if events suffice."""
        silent = any(pod.observation is not None and pod.observation.answer is not Answer.ANSWERED for pod in pods)
        waits = [self.patience.retry] if silent else []
        if any(pod.loading for pod in pods):
            waits.append(PROGRESS_SECONDS)
        return min(waits, default=None)

    def forget(self, key: Key) -> None:
        """Drop all that is known of a resource that is gone."""
        for record in self._records.pop(key, {}).values():
            if record.task is not None:
                record.task.cancel()

    async def close(self) -> None:
        """End the questions under way."""
        tasks = [r.task for records in self._records.values() for r in records.values() if r.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _told(self, pod: PodFacts, record: _Record, *, asked: bool) -> PodFacts:
        drains = pod.terminating and pod.ready  # not asked any more, but what it said still holds
        observation = record.observation if asked or drains else None
        if observation is None and asked:
            observation = Observation(answer=Answer.BUSY, detail="has not answered yet")
        percent = record.percent if pod.loading else None
        return replace(pod, observation=observation, download_percent=percent)

    async def _ask_all(
        self, key: Key, pods: Sequence[PodFacts], *, asking_of: Callable[[PodFacts], "Asking"]
    ) -> None:
        tasks = []
        for pod in pods:
            record = self._records[key][pod.uid, pod.container_id]
            if record.task is None and self._due(record):
                record.task = asyncio.create_task(self._ask(record, asking_of(pod)))
            if record.task is not None:
                tasks.append(record.task)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self.patience.wait)
        for task in late:
            task.add_done_callback(lambda done: None if done.cancelled() else self.wake(key))

    def _due(self, record: _Record) -> bool:
        if record.observation is None:
            return True
        answered = record.observation.answer is Answer.ANSWERED
        return not answered and self.clock() - record.asked_at >= self.patience.retry

    def _asking(
        self, pod: PodFacts, api_key: str, questions: Inquiry, adapters: AdapterQuestion | None
    ) -> "Asking":
        return Asking(
            url=self.url_of(pod, HTTP_PORT),
            api_key=api_key,
            timeout=self.patience.timeout,
            questions=questions,
            source_hash=pod.source_hash,
            tls_host=pod.tls_host,
            adapters=adapters,
            trust=self.trust_of(pod.tls_host),
        )

    async def _ask(self, record: _Record, asking: "Asking") -> None:
        try:
            record.observation = standing(record.observation, await ask(self.session, asking))
        finally:
            record.asked_at = self.clock()
            record.task = None

    async def _look(self, pod: PodFacts, record: _Record) -> None:
        percent = await download_percent(self.session, self.url_of(pod, PROGRESS_PORT))
        if percent is not None:
            record.percent = percent


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One question to one pod."""

    url: str
    api_key: str = field(repr=False)
    timeout: float
    questions: Inquiry = CHAT
    source_hash: str = ""
    tls_host: str = ""
    """Name that the pod's certificate must be good for; empty for plain HTTP."""
    adapters: AdapterQuestion | None = None
    """What is asked besides, once the server gave its proof."""
    trust: ssl.SSLContext | None = None


async def ask(session: aiohttp.ClientSession, asking: Asking) -> Observation:
    """Ask the server for what proves that it serves; every outcome is an observation, none an exception."""
    questions, adapters = asking.questions, asking.adapters
    try:
        status, body = await _reply(session, asking, questions.method, questions.path, questions.body)
        answer = answer_of(status, body, asking=asking)
        if adapters is None or answer.answer is not Answer.ANSWERED:
            return answer
        status, body = await _reply(session, asking, "GET", adapters.path, None)
        return Observation(answer=Answer.BUSY) if status in BUSY_CODES else adapters.judge(status, body)
    except TimeoutError:
        detail = f"no {asking.questions.proof} within {asking.timeout:g} seconds"
        return Observation(answer=Answer.BUSY, detail=detail)
    except aiohttp.ClientError as error:
        return Observation(answer=Answer.FAILED, detail=f"the connection failed ({type(error).__name__})")


def standing(before: Observation | None, seen: Observation) -> Observation:
    """Return what stands now that a server said `seen`: one that is busy takes back nothing that it said."""
    if before is None or seen.answer is not Answer.BUSY:
        return seen
    if before.answer is Answer.PARTLY:
        return before
    return replace(seen, text=before.text, answered=before.answered or before.answer is Answer.ANSWERED)


async def _reply(
    session: aiohttp.ClientSession,
    asking: Asking,
    method: str,
    path: str,
    content: Mapping[str, object] | None,
) -> tuple[int, bytes]:
    async with session.request(
        method,
        f"{asking.url}{path}",
        json=content,
        headers={"Authorization": f"Bearer {asking.api_key}"},
        timeout=aiohttp.ClientTimeout(total=asking.timeout),
        allow_redirects=False,
        server_hostname=asking.tls_host or None,
        ssl=asking.trust or True,
    ) as response:
        return response.status, await _bounded(response)


def answer_of(status: int, body: bytes, *, asking: Asking) -> Observation:
    """Return what an HTTP answer means; the body is judged and not quoted."""
    if status in BUSY_CODES:
        return Observation(answer=Answer.BUSY, detail=f"HTTP {status}")
    if status != OK:
        return Observation(answer=Answer.FAILED, detail=f"HTTP {status}")
    return asking.questions.judge(body, source_hash=asking.source_hash)


async def download_percent(session: aiohttp.ClientSession, url: str) -> int | None:
    """Return a loader's progress in steps of ten percent; None while it does not tell."""
    timeout = aiohttp.ClientTimeout(total=PROGRESS_TIMEOUT_SECONDS)
    try:
        async with session.get(f"{url}/progress", timeout=timeout, allow_redirects=False) as response:
            if response.status != OK:
                return None
            progress = Progress.model_validate_json(await _bounded(response))
    except (TimeoutError, aiohttp.ClientError, ValidationError):
        return None
    return progress.percent // PROGRESS_STEP * PROGRESS_STEP


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(MAX_BODY_BYTES):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return b""
    return bytes(body)
