# SPDX-License-Identifier: Apache-2.0
"""How good grounded answers are: the frozen corpus through real indexer, retriever and models, without a cluster.

It asks as the gateway does with grounding Required and prints shares with their intervals beside controls. Long
runs go in pieces: what was found and replied is kept in a folder and not asked again.
"""

import argparse
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import BaseModel

from e2e.data.controls import closed_book
from e2e.data.records import Split
from e2e.models import SMOLLM2, model
from nimblet_gateway.grounding.prompt import Role, Turn
from tests.bench.grounded.asked import Asked, Class, Plan, gather
from tests.bench.grounded.pipeline import ANSWER_TOKENS, Answer, Ask, asked, respond
from tests.bench.grounded.report import Results, report
from tests.bench.grounded.stack import headers, model_server
from tests.bench.grounded.work import OutOfTimeError, Work

_SECONDS = 600.0


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: tuple[_Choice, ...]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of one run; see `add_options`."""

    split: Split
    step: int
    swaps: bool
    ask: bool
    servers: int
    model: str
    folder: Path
    seconds: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what only this figure knows."""
    group = parser.add_argument_group("answers")
    group.add_argument("--split", default="test", choices=[str(split) for split in Split], help="default: test")
    group.add_argument("--step", type=int, default=1, help="ask each n-th question alone (default: all)")
    group.add_argument("--no-swaps", action="store_true", help="leave out changed facts, which need builds")
    group.add_argument("--no-model", action="store_true", help="retrieval, refusals and extraction alone")
    group.add_argument("--servers", type=int, default=1, help="model servers side by side, a thread each")
    group.add_argument(
        "--model", default=SMOLLM2.name, help="a chat model of e2e/models.py (default: %(default)s)"
    )
    group.add_argument(
        "--work",
        type=Path,
        default=Path("answers.work"),
        help="keeps what was found and replied; remove it after "
        "a change of indexer, retriever or runtime (default: ./%(default)s)",
    )
    group.add_argument("--minutes", type=float, default=600.0, help="end after these and go on with the next run")


def options_of(arguments: argparse.Namespace) -> Options:
    """Return what was asked for."""
    return Options(
        split=Split(arguments.split),
        step=arguments.step,
        swaps=not arguments.no_swaps,
        ask=not arguments.no_model,
        servers=arguments.servers,
        model=arguments.model,
        folder=arguments.work,
        seconds=60 * arguments.minutes,
    )


def measure(options: Options, *, binary: Path) -> str:
    """Return the tables, or how far this piece came."""
    until = time.monotonic() + options.seconds
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        plan = Plan(split=options.split, step=options.step, swaps=options.swaps)
        library = options.folder / f"library-{time.time_ns()}"
        library.mkdir()
        found = Work(options.folder / "found.jsonl", until)
        everything = gather(plan, binary=binary, folder=library, work=found)
        results = _answered(everything, options, binary=binary, until=until)
    except OutOfTimeError as error:
        return f"not done yet: {error}; run again to go on"
    return report(results)


def _answered(everything: Sequence[Asked], options: Options, *, binary: Path, until: float) -> Results:
    extracted = [respond(item.question, item.found, ask=None) for item in everything]
    if not options.ask:
        return Results(asked=tuple(everything), answers=tuple(extracted), extracted=tuple(extracted), closed={})
    replies = Work(options.folder / "replies.jsonl", until)
    with ExitStack() as stack:
        free: queue.Queue[str] = queue.Queue()
        for number in range(options.servers):
            folder = options.folder / f"chat-{number}"
            free.put(stack.enter_context(model_server(binary, options.model, folder=folder)).url)
        ask = _asker(free, replies, digest=model(options.model).sha256)

        def one(item: Asked) -> Answer:
            return respond(item.question, item.found, ask=ask)

        def closed(item: Asked) -> str:
            return ask(asked(item.question, closed_book_passages()).messages)

        with ThreadPoolExecutor(options.servers) as pool:
            answers = tuple(pool.map(one, everything))
            answerable = [item for item in everything if item.cls is Class.ANSWERABLE]
            told = dict(zip((item.id for item in answerable), pool.map(closed, answerable), strict=True))
    return Results(asked=tuple(everything), answers=answers, extracted=tuple(extracted), closed=told)


def closed_book_passages() -> tuple[()]:
    """Return what the model sees closed book: nothing."""
    closed_book(())
    return ()


def _asker(free: "queue.Queue[str]", replies: Work, *, digest: str) -> Ask:
    """Return a function that asks whichever server is free."""

    def ask(messages: Sequence[Turn]) -> str:
        body = {
            "messages": [{"role": str(Role(turn.role)), "content": turn.text} for turn in messages],
            "temperature": 0,
            "seed": 1,
            "max_tokens": ANSWER_TOKENS,
        }
        return str(replies.get([digest, body], _sent(free, body)))

    return ask


def _sent(free: "queue.Queue[str]", body: dict[str, object]) -> Callable[[], object]:
    def send() -> object:
        url = free.get()
        try:
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers(), timeout=_SECONDS)
        finally:
            free.put(url)
        return _Completion.model_validate_json(answer.raise_for_status().content).choices[0].message.content

    return send
