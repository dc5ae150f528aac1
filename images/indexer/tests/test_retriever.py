# SPDX-License-Identifier: Apache-2.0
"""The conversation with the retriever: waits where waiting helps, stops where it doesn't, tells no text."""

from pathlib import Path

import httpx
import pytest

from nimblet_indexer.config import RetrieverTarget
from nimblet_indexer.retriever import Clock, RetrieverClient, RetrieverError


class Answers(httpx.BaseTransport):
    """Gives prepared answers one after another, the last for ever."""

    def __init__(self, *answers: httpx.Response | httpx.HTTPError) -> None:
        self.answers = list(answers)
        self.keys: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.keys.append(request.headers["Authorization"])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Return the time."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds


def client(folder: Path, answers: Answers, time: Time) -> RetrieverClient:
    """Return a client with a patience of a minute."""
    (folder / "key").write_text("secret-key\n")
    target = RetrieverTarget(url="http://retriever", key_file=folder / "key", patience_seconds=60)
    return RetrieverClient(target, clock=Clock(now=time.now, sleep=time.sleep), transport=answers)


BEGUN = httpx.Response(200, json={"name": "g000001", "dimension": 8, "embedding": "x", "newer": 1})
AWAY = httpx.Response(
    503, json={"reason": "EmbeddingUnavailable", "message": "starting"}, headers={"Retry-After": "7"}
)


def test_away_is_waited_for_as_long_as_it_asks(tmp_path: Path) -> None:
    time, answers = Time(), Answers(AWAY, httpx.ConnectError("refused"), BEGUN)
    with client(tmp_path, answers, time) as retriever:
        assert retriever.begin("g000001", "a").dimension == 8
    assert time.seconds == 7 + 5
    assert set(answers.keys) == {"Bearer secret-key"}


def test_patience_ends_with_the_retrievers_own_reason(tmp_path: Path) -> None:
    time = Time()
    starting = pytest.raises(RetrieverError, match="starting")
    with client(tmp_path, Answers(AWAY), time) as retriever, starting as told:
        retriever.begin("g000001", "a")
    assert told.value.reason == "EmbeddingUnavailable"
    assert time.seconds <= 60


@pytest.mark.parametrize(("status", "reason"), [(401, "KeyRefused"), (409, "BuildFenced"), (507, "StoreFull")])
def test_refusal_is_told_at_once(tmp_path: Path, status: int, reason: str) -> None:
    time = Time()
    refusal = httpx.Response(status, json={"reason": reason, "message": "no"})
    with client(tmp_path, Answers(refusal), time) as retriever, pytest.raises(RetrieverError) as told:
        retriever.begin("g000001", "a")
    assert (told.value.reason, time.seconds) == (reason, 0.0)


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(404, text="<html>")])
def test_other_servers_are_recognised(tmp_path: Path, answer: httpx.Response) -> None:
    with client(tmp_path, Answers(answer), Time()) as retriever, pytest.raises(RetrieverError) as told:
        retriever.begin("g000001", "a")
    assert told.value.reason == "UnexpectedAnswer"
    assert "html" not in str(told.value)
