# SPDX-License-Identifier: Apache-2.0
"""Several questions and indexes become one list; an index that restarts is waited for, one that is ill is not."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nimblet_gateway.chat import Message
from nimblet_gateway.config import IndexConfig
from nimblet_gateway.conversation import MAX_QUERY, compared, questions
from nimblet_gateway.passage import Passage, fuse
from nimblet_gateway.retriever import Index, Query
from nimblet_gateway.think import ThinkFilter
from nimblet_gateway.web import Failed, opened
from retriever_testing.process import serving

FOUND = {"index": "docs", "generation": "g1", "passages": []}


def passages(*names: str) -> list[Passage]:
    """Return passages of one chunk each, named after their text."""
    return [Passage(id=f"docs/{name}/0@g1", document=name, chunk=0, text=name.rstrip("*")) for name in names]


def test_ranks_of_two_lists_add_up() -> None:
    fused = fuse([passages("a", "b", "c"), passages("b", "d")])
    assert [passage.document for passage in fused] == ["b", "a", "d", "c"]


def test_equal_texts_count_once() -> None:
    # "a" and "a*" are the same text out of two indexes
    assert [passage.document for passage in fuse([passages("a", "b"), passages("a*", "c")])] == ["a", "b", "c"]


def test_similarity_is_the_highest_seen() -> None:
    far, near = passages("a")[0], passages("a")[0].model_copy(update={"similarity": 0.9})
    assert fuse([[far], [near]])[0].similarity == 0.9


def test_conversation_is_asked_by_its_last_turn_and_its_last_two() -> None:
    turns = [("system", "x"), ("user", "Pump?"), ("assistant", "Yes."), ("user", " "), ("user", "And where?")]
    messages = [Message.model_validate({"role": role, "content": text}) for role, text in turns]
    assert questions(messages) == ("And where?", "Pump?\nAnd where?")
    assert questions(messages[:2]) == ("Pump?",)
    assert questions([Message(role="user", content="x" * 20_000)]) == ("x" * MAX_QUERY,)


def test_sentences_are_compared_with_the_last_turn_that_names_anything() -> None:
    assert compared(("And the valve?", "Who built the pump?\nAnd the valve?")) == "And the valve?"
    assert compared(("When?", "Who built the pump?\nWhen?")) == "Who built the pump?\nWhen?"
    assert compared(("Why?",)) == "Why?"
    assert compared(()) == ""


@pytest.mark.parametrize(
    ("failures", "statuses", "ends"),
    [(2, 503, "answered"), (2, 404, "Refused"), (2, 401, "KeyRefused"), (99, 503, "Unavailable")],
)
def test_index_is_asked_again_only_while_it_may_be_restarting(failures: int, statuses: int, ends: str) -> None:
    now, asked = [0.0], [0]

    def answer(_: Request) -> Response:
        asked[0] += 1
        now[0] += 3.0
        return Response(status_code=statuses) if asked[0] <= failures else JSONResponse(FOUND)

    assert _ended(answer, clock=lambda: now[0]) == ends
    assert asked[0] == {"answered": 3, "Unavailable": 4}.get(ends, 1)


def test_index_that_says_it_is_empty_is_not_waited_for() -> None:
    def answer(_: Request) -> Response:
        return JSONResponse({"reason": "IndexEmpty", "message": "no generation serves yet"}, status_code=503)

    assert _ended(answer, clock=lambda: 0.0) == "IndexEmpty"


def _ended(answer: Callable[[Request], Response], *, clock: Callable[[], float]) -> str:
    async def ask(url: str) -> str:
        async with opened() as client:
            index = Index(client=client, config=IndexConfig(name="docs", url=url), clock=clock)
            try:
                await index.ask(Query(text="x", top_k=1), wait_seconds=10.0, trace={})
            except Failed as failed:
                return failed.reason
            return "answered"

    with serving(Starlette(routes=[Route("/v1/retrieve", answer, methods=["POST"])])) as url:
        return asyncio.run(ask(url))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("<think>no</think>\n\nYes <b>", "Yes <b>"),
        ("  Yes <thinking>no</thinking>and yes", "Yes and yes"),
        ("Yes <think>never ended", "Yes "),
        ("a < b <thin", "a < b <thin"),
    ],
)
def test_thoughts_are_taken_out_however_they_are_cut(text: str, read: str, size: int) -> None:
    thoughts = ThinkFilter()
    parts = [thoughts.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join([*parts, thoughts.finish()]) == read
