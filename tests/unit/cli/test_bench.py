# SPDX-License-Identifier: Apache-2.0
"""An open-loop load: when requests are due, what counts as an answer, and what the figures say."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from nimblet.cli import bench
from nimblet.cli.ask import direct_endpoint
from nimblet.cli.errors import CommandError
from nimblet.cli.load import report
from nimblet.cli.load.arrivals import Arrival, Load, arrivals
from nimblet.cli.load.figures import Sample, figures, percentiles
from nimblet.cli.load.plot import draw
from nimblet.cli.load.stream import Target, send
from nimblet.cli.main import main
from tests.unit.cli.test_ask import serving

LOAD = Load(rate=20, seconds=200, prompt_words=5, max_tokens=4)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def streamed(*chunks: object, end: bool = True) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if end:
            await response.write(b"data: [DONE]\n\n")
        return response

    return answer


def text(content: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": content}}]}


async def sent(answer: Answer, *, count: int = 1, in_flight: int = 8, seconds: float = 60.0) -> list[Sample]:
    async with serving(answer) as url:
        target = Target(
            endpoint=direct_endpoint(url, api_key="nk-1"),
            model="small",
            max_tokens=4,
            timeout_seconds=seconds,
            in_flight=in_flight,
        )
        return await send(target, [Arrival(due=0.0, prompt="p")] * count, told=lambda _: None)


def test_arrivals_are_a_poisson_process_that_a_seed_repeats() -> None:
    due, again, other = (arrivals(LOAD, Random(seed)) for seed in (1, 1, 2))  # noqa: S311 - no secret
    times = [arrival.due for arrival in due]
    gaps = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    assert due == again != other
    assert times == sorted(times)
    assert times[-1] < LOAD.seconds
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / LOAD.rate, rel=0.05)
    # of an exponential distribution: the deviation is the mean
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.1)
    assert len({arrival.prompt for arrival in due}) == len(due)


@pytest.mark.asyncio
async def test_a_stream_is_followed_to_its_end_with_the_servers_own_count() -> None:
    bodies: list[dict[str, object]] = []
    inner = streamed(
        {"choices": [{"delta": {"role": "assistant"}}]},
        text("a"),
        text("b c"),
        {"choices": [], "usage": {"completion_tokens": 3}},
    )

    async def answer(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return await inner(request)

    [sample] = await sent(answer)
    assert (sample.error, sample.tokens, len(sample.texts)) == ("", 3, 2)
    assert 0 < sample.texts[0] <= sample.texts[1]
    assert (bodies[0]["model"], bodies[0]["max_tokens"], bodies[0]["stream"]) == ("small", 4, True)


async def _refuse(_: web.Request) -> web.Response:
    return web.Response(status=503, text="loading")


async def _hang(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
    await asyncio.Event().wait()
    return response


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_refuse, "HTTP 503"),
        (streamed(text("a"), end=False), "a stream without its end"),
        (streamed({"choices": [{"delta": {}}]}), "an answer without text"),
        (streamed(text("a"), {"error": {"message": "secret"}}), "an error in the stream"),
        (streamed({"choices": 7}), "a chunk that is none of the API's"),
        (_hang, "no end within 0.2 s"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_whole_answer_is_an_error_of_its_kind(answer: Answer, error: str) -> None:
    [sample] = await sent(answer, seconds=0.2 if answer is _hang else 60.0)
    assert (sample.error, sample.texts, sample.tokens) == (error, (), 0)


@pytest.mark.asyncio
async def test_what_is_due_beyond_the_clients_own_limit_is_told_and_not_sent() -> None:
    # (the first must last until the others are looked at, on a busy machine, too)
    samples = await sent(_hang, count=3, in_flight=1, seconds=5.0)
    assert sorted(sample.error for sample in samples) == [
        "no end within 5 s",
        *["not sent: too many in flight"] * 2,
    ]


def a_sample(first: float, last: float, *, tokens: int = 11, due: float = 0.0) -> Sample:
    return Sample(due=due, texts=(first, last), tokens=tokens)


def test_figures_count_from_when_a_request_was_due() -> None:
    good = [a_sample(number / 100, number / 100 + 1.0) for number in range(1, 101)]
    found = figures([[*good, Sample(due=1.0, late=0.25, error="HTTP 503")]], seconds=10)
    assert (found.requests, found.answered, found.errors) == (101, 100, (("HTTP 503", 1),))
    assert found.first == pytest.approx((0.5, 0.9, 0.99))
    assert found.between == pytest.approx((0.1, 0.1, 0.1))
    assert (found.latest, found.span, found.tokens_per_second) == (0.25, 10, 110.0)
    # a run that ends after its time counts the whole of it, and runs add up
    late = figures([[a_sample(1, 15)], [a_sample(1, 2)]], seconds=10)
    assert (late.span, late.answers_per_second) == (25, 2 / 25)
    assert (percentiles([]), figures([[]], seconds=10).first) == ((), ())


def test_a_comparison_shows_how_many_times_better_the_first_is() -> None:
    ours, other = figures([[a_sample(1, 2)]], seconds=4), figures([[a_sample(2, 4)]], seconds=4)
    shown = report.text({"ours": ours, "other": replace(other, tokens=5)})
    rows = {line[:26].strip(): line[26:].split() for line in shown.splitlines()}
    assert rows["first token p50, ms"] == ["1000.0", "2000.0", "2.00"]
    assert rows["tokens a second"] == ["2.8", "1.2", "2.20"]
    assert rows["requests"] == ["1", "1"]
    assert json.loads(report.as_json({"ours": ours}))["ours"]["first"] == {"p50": 1.0, "p90": 1.0, "p99": 1.0}


def test_a_picture_is_drawn_and_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    samples = {"ours": [a_sample(1, 2), Sample(due=0, error="HTTP 503")], "other": []}
    draw(samples, tmp_path / "load.svg")
    assert b"ours (1 of 2)" in (tmp_path / "load.svg").read_bytes()
    with pytest.raises(CommandError, match="expected to write a picture"):
        draw(samples, tmp_path / "none" / "load.svg")


def command(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_bench(parser)
    return parser.parse_args(argv)


@pytest.mark.asyncio
async def test_two_endpoints_take_turns_with_the_same_requests(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    (tmp_path / "key").write_text("nk-2\n", encoding="ascii")
    inner = streamed(text("a"), text("b"))

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append((request.headers["Authorization"], body["messages"][0]["content"]))
        return await inner(request)

    async with serving(answer) as url:
        given = ("small", "--rate", "40", "--seconds", "0.2", "--rounds", "2", "--against", url)
        arguments = command(*given, "--against-key-file", str(tmp_path / "key"), "-o", "json")
        shown = json.loads(await bench.run(arguments, direct_endpoint(url, api_key="nk-1"), model="small"))
    ours, other = ([prompt for key, prompt in seen if key == f"Bearer nk-{number}"] for number in (1, 2))
    assert sorted(ours) == sorted(other) != []
    assert [found["answered"] for found in shown.values()] == [len(ours)] * 2
    assert list(shown) == ["small", "against"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--rate", "0"), "expected a number above 0 for --rate, found 0"),
        (("--rate", "inf"), "expected a number above 0 for --rate, found inf"),
        (("--seconds", "nan"), "for --seconds, found nan"),
        (("--max-tokens", "-1"), "for --max-tokens, found -1"),
        (("--plot", "load.bmp"), "expected --plot to end in .svg, .png, .pdf, found load.bmp"),
        (("--plot", "/none/at/all/load.svg"), "expected a folder /none/at/all for --plot, found none"),
        (("--against", "http://127.0.0.1:9"), "expected --against-key-file with --against"),
        (("--seconds", "0.00001"), "expected answers from http://127.0.0.1:1, found none: no request was due"),
    ],
)
@pytest.mark.asyncio
async def test_a_command_that_can_not_measure_says_why(given: tuple[str, ...], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        await bench.run(
            command("small", *given), direct_endpoint("http://127.0.0.1:1", api_key="k"), model="small"
        )


def test_an_endpoint_without_a_cluster_needs_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("nk-1", encoding="ascii")
    assert main(["bench", "small", "--key-file", str(tmp_path / "key")]) == 1
    assert "expected --url with --key-file" in capsys.readouterr().err
