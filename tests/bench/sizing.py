# SPDX-License-Identifier: Apache-2.0
"""Sizing predicted ÷ measured: the computed memory of a server beside the peak of a real one under load.

Measured is the peak of anonymous memory plus the weights that stay mapped from the file (those the server
repacked are anonymous already). The load fills the context of every slot, then the prompt cache.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from nimblet.api.compactmodel import SizingStatus
from nimblet.plan.artifact import Header
from nimblet.plan.runtime.interface import Serve
from nimblet.plan.runtime.llamacpp import llamacpp_args
from nimblet.plan.sizing import Demand, size_model
from nimblet.plan.workload import pooled
from nimblet.quantity import MEBIBYTE
from nimblet_loader.facts import header_facts
from nimblet_loader.gguf import parse_header
from tests.bench.localserver import API_KEY, LocalServer, run_server

LOWEST, HIGHEST = 0.97, 1.10
"""Predicted ÷ measured may lie between these; below 1 minus measuring noise a pod could be killed."""
GENERATED_TOKENS = 16
CACHE_PROMPT_TOKENS = 160
SHORT_TEXT_TOKENS = 24
SPECIAL_TOKENS = 2
"""That a server may put around a text: it must fit the context with them."""
SHORT_TEXTS = 64
REQUEST_SECONDS = 900.0
_CHUNK_BYTES = 1 << 20
_TEXT = "The harbour master counts ships, barrels and gulls while the tide turns over the quiet stones. "


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model under one demand; `pooling` makes an embedding model of one that is none."""

    name: str
    model: Path
    demand: Demand
    pooling: int | None = None

    def header(self) -> Header:
        """Return the facts of the model's file."""
        found = read_model_header(self.model)
        return found if self.pooling is None else found.model_copy(update={"pooling_type": self.pooling})


@dataclass(frozen=True, kw_only=True)
class Result:
    """The prediction and what was measured; bytes."""

    case: Case
    sizing: SizingStatus
    measured_bytes: int

    @property
    def ratio(self) -> float:
        """Predicted ÷ measured."""
        return self.sizing.total_bytes / self.measured_bytes


def read_model_header(model: Path) -> Header:
    """Return the facts of a model's file as the operator gets them from the resolver."""
    with model.open("rb") as source:
        parsed = parse_header(iter(lambda: source.read(_CHUNK_BYTES), b""))
    facts = header_facts(model.name, [(parsed, model.stat().st_size)])
    return Header.model_validate_json(facts.model_dump_json(by_alias=True))


def server_args(case: Case, sizing: SizingStatus) -> list[str]:
    """Return the argv of the pod that the operator would make for a case."""
    demand = case.demand
    return llamacpp_args(
        Serve(
            image="",
            alias=case.name,
            model_file=case.model.name,
            context_length=demand.context_length,
            parallel=demand.parallel,
            kv_cache_type=demand.kv_cache_type,
            kv_cache_bytes=sizing.kv_cache_bytes,
            prompt_cache_mebibytes=demand.prompt_cache_mebibytes,
            threads=sizing.threads,
            startup_seconds=60,
            key_secret=("", ""),
            pooled=pooled(demand.task, case.header(), demand.context_length),
        )
    )


def measure(case: Case, *, binary: Path) -> Result:
    """Run the real server under load and return both figures."""
    header = case.header()
    sizing = size_model(header, case.demand)
    with TemporaryDirectory(prefix="nimblet-bench-") as folder:
        args = server_args(case, sizing)
        with run_server(binary, args, model=case.model, folder=Path(folder)) as server:
            drive(server, case.demand, sizing)
            mapped = header.tensor_bytes - server.repacked_bytes()
            return Result(case=case, sizing=sizing, measured_bytes=server.peak.peak_bytes + mapped)


def drive(server: LocalServer, demand: Demand, sizing: SizingStatus) -> None:
    """Do what takes the most memory: for Chat fill every slot's context with different prompts, then the prompt
    cache with short ones, then chat; else send whole contexts to all slots, and many short texts at once.
    """
    with client_of(server) as client:
        tokens = tokens_of(client)
        lengths = _lengths(demand, sizing)
        send = complete if demand.task == "Chat" else embed
        with ThreadPoolExecutor(max_workers=demand.parallel) as pool:
            jobs = [pool.submit(send, client, prompt) for prompt in prompts(tokens, lengths)]
            for job in jobs:
                job.result()
        if demand.task == "Chat":
            _chat(client)
        else:
            embed(client, list(prompts(tokens, [SHORT_TEXT_TOKENS] * SHORT_TEXTS)))


def _lengths(demand: Demand, sizing: SizingStatus) -> list[int]:
    """Return the tokens of each prompt."""
    if demand.task != "Chat":
        return [demand.context_length - SPECIAL_TOKENS] * (2 * demand.parallel)
    per_token = sizing.kv_cache_bytes / (demand.context_length * demand.parallel)
    entries = int(1.25 * demand.prompt_cache_mebibytes * MEBIBYTE / (per_token * CACHE_PROMPT_TOKENS)) + 1
    return [demand.context_length - GENERATED_TOKENS] * demand.parallel + [CACHE_PROMPT_TOKENS] * entries


def client_of(server: LocalServer) -> httpx.Client:
    """Return a client with the server's key."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    return httpx.Client(base_url=server.url, timeout=REQUEST_SECONDS, headers=headers)


def prompts(tokens: Sequence[int], lengths: Sequence[int], *, first: int = 0) -> Iterator[list[int]]:
    """Give prompts of the wanted numbers of tokens, each beginning differently, so that none reuses another."""
    digits = list(dict.fromkeys(tokens))
    for number, length in enumerate(lengths, start=first):
        head = [digits[number // len(digits) ** place % len(digits)] for place in range(3)]
        yield (head + list(tokens) * (length // len(tokens) + 1))[:length]


def tokens_of(client: httpx.Client) -> list[int]:
    """Return the tokens of a text, to build prompts of."""
    answer = client.post("/tokenize", json={"content": _TEXT * 4}).raise_for_status()
    return [int(token) for token in json.loads(answer.text)["tokens"]]


def embed(client: httpx.Client, tokens: list[int] | list[list[int]]) -> None:
    """Send one text, or several, as tokens."""
    client.post("/v1/embeddings", json={"input": tokens}).raise_for_status()


def complete(client: httpx.Client, prompt: list[int]) -> None:
    """Have a prompt continued."""
    body = {"prompt": prompt, "n_predict": GENERATED_TOKENS, "ignore_eos": True}
    client.post("/completion", json=body).raise_for_status()


def _chat(client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": GENERATED_TOKENS}
    client.post("/v1/chat/completions", json=body).raise_for_status()


def sizing_table(results: Sequence[Result]) -> str:
    """Return the figures for people; sizes in MiB."""
    head = f"{'model':<18}{'task':<11}{'context':>8}{'slots':>6}{'kv':>6}{'weights':>9}{'kv MiB':>8}{'compute':>9}"
    head += f"{'cache':>7}{'runtime':>9}{'predicted':>11}{'measured':>10}{'ratio':>8}"
    ratios = [result.ratio for result in results]
    return "\n".join([head, *(_row(item) for item in results), f"ratio {min(ratios):.3f} to {max(ratios):.3f}"])


def _row(result: Result) -> str:
    sizing, demand = result.sizing, result.case.demand
    sizes = [sizing.weights_bytes, sizing.kv_cache_bytes, sizing.compute_bytes, sizing.prompt_cache_bytes]
    sizes += [sizing.runtime_bytes, sizing.total_bytes, result.measured_bytes]
    widths = (9, 8, 9, 7, 9, 11, 10)
    cells = "".join(f"{size / MEBIBYTE:>{width}.1f}" for size, width in zip(sizes, widths, strict=True))
    what = f"{result.case.name:<18}{demand.task:<11}{demand.context_length:>8}"
    what += f"{demand.parallel:>6}{demand.kv_cache_type:>6}"
    return f"{what}{cells}{result.ratio:>8.3f}"
