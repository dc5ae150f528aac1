# SPDX-License-Identifier: Apache-2.0
"""Sizing predicted ÷ measured: the computed memory of a server beside the peak of a real one under load.

Measured is the peak of anonymous memory plus the weights that stay mapped from the file (those the server
repacked are anonymous already, and so are adapters). The load fills the context of every slot, then the prompt
cache. With adapters or guesses, which are slow, one slot gets a prompt of more than a batch beside short ones
in the others: the cache is set aside and written whole when a server starts, and the scratch by the first full
batch. Adapters are applied all at once and one by one, and answers leave room for guesses.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from nimblet.api.compactmodel import SizingStatus
from nimblet.api.speculative import SpeculationType
from nimblet.plan.artifact import Header
from nimblet.plan.runtime.interface import LoadedAdapter, Serve, Speculation
from nimblet.plan.runtime.llamacpp import llamacpp_args
from nimblet.plan.sizing import Demand, adapted_matrices, size_model
from nimblet.plan.speculative import GUESSED_TOKENS
from nimblet.plan.workload import pooled
from nimblet.quantity import MEBIBYTE
from tests.bench.headers import read_model_header
from tests.bench.localserver import API_KEY, LocalServer, local_files, run_server
from tests.bench.loras import LoraShape, lora_header, write_loras

LOWEST, HIGHEST = 0.97, 1.10
"""Predicted ÷ measured may lie between these; below 1 minus measuring noise a pod could be killed."""
GENERATED_TOKENS = 16
GUESSING_TOKENS = 32
"""Generated where tokens are guessed ahead: room for several guesses of full length."""
LEAN_TOKENS = 560
"""Longest prompt where there are adapters or guesses, which are slow: a full batch and more."""
CACHE_PROMPT_TOKENS = 160
SHORT_TEXT_TOKENS = 24
SPECIAL_TOKENS = 2
"""That a server may put around a text: it must fit the context with them."""
SHORT_TEXTS = 64
REQUEST_SECONDS = 900.0
_TEXT = "The harbour master counts ships, barrels and gulls while the tide turns over the quiet stones. "


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model under one demand; `pooling` makes an embedding model of one that is none."""

    name: str
    model: Path
    demand: Demand
    pooling: int | None = None
    loras: tuple[LoraShape, ...] = ()
    speculation: SpeculationType | None = None
    """`Draft`: by the model itself, since no smaller one with its vocabulary is at hand."""

    @property
    def title(self) -> str:
        """Return the name, and what is special about the case."""
        return " + ".join([self.name, *(f"{lora} LoRA" for lora in self.loras), *filter(None, [self.speculation])])

    @property
    def mapped_bytes(self) -> int:
        """Return the weights that the server maps: twice, where the model drafts for itself."""
        return self.header().tensor_bytes * (2 if self.speculation == "Draft" else 1)

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


def whole_demand(case: Case, loras: Sequence[Path]) -> Demand:
    """Return the demand with what adapters and guesses add, as plan/workload.py does it from the spec."""
    headers = [lora_header(path) for path in loras]
    return replace(
        case.demand,
        adapter_bytes=sum(header.tensor_bytes for header in headers),
        adapted_matrices=adapted_matrices(headers, case.header()),
        adapter_ranks=tuple(header.adapter.rank for header in headers if header.adapter),
        draft_tokens=GUESSED_TOKENS[case.speculation] if case.speculation is not None else 0,
        draft=case.header() if case.speculation == "Draft" else None,
    )


def server_args(case: Case, sizing: SizingStatus, *, loras: Sequence[Path] = ()) -> list[str]:
    """Return the argv of the pod that the operator would make for a case."""
    return llamacpp_args(serve_of(case, sizing, loras=loras))


def serve_of(case: Case, sizing: SizingStatus, *, loras: Sequence[Path] = ()) -> Serve:
    """Return what the argv is made of, of the pod that the operator would make for a case."""
    demand, guessing = case.demand, case.speculation
    return Serve(
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
        adapters=tuple(
            LoadedAdapter(name=path.parent.name, file=path.name, rank=rank)
            for path, rank in zip(loras, demand.adapter_ranks, strict=True)
        ),
        speculation=(
            Speculation(type=guessing, draft_tokens=GUESSED_TOKENS[guessing], model_file=case.model.name)
            if guessing is not None
            else None
        ),
    )


def measure(case: Case, *, binary: Path) -> Result:
    """Run the real server under load and return both figures."""
    with TemporaryDirectory(prefix="nimblet-bench-") as name:
        folder = Path(name)
        loras = write_loras(case.loras, folder=folder / "adapters")
        whole = replace(case, demand=whole_demand(case, loras))
        sizing = size_model(whole.header(), whole.demand)
        args = server_args(whole, sizing, loras=loras)
        args = local_files(args, adapters=folder / "adapters", draft=case.model)
        with run_server(binary, args, model=case.model, folder=folder) as server:
            drive(server, whole, sizing)
            mapped = case.mapped_bytes - server.repacked_bytes()
            return Result(case=whole, sizing=sizing, measured_bytes=server.peak.peak_bytes + mapped)


def drive(server: LocalServer, case: Case, sizing: SizingStatus) -> None:
    """Do what takes the most memory: for Chat fill every slot's context with different prompts, then the prompt
    cache with short ones, then chat; else send whole contexts to all slots, and many short texts at once.
    """
    demand = case.demand
    with client_of(server) as client:
        tokens = tokens_of(client)
        if demand.task == "Chat":
            _generate(client, tokens, case, sizing)
            _chat(client)
            return
        with ThreadPoolExecutor(max_workers=demand.parallel) as pool:
            lengths = [demand.context_length - SPECIAL_TOKENS] * (2 * demand.parallel)
            for job in [pool.submit(embed, client, prompt) for prompt in prompts(tokens, lengths)]:
                job.result()
        embed(client, list(prompts(tokens, [SHORT_TEXT_TOKENS] * SHORT_TEXTS)))


def _generate(client: httpx.Client, tokens: Sequence[int], case: Case, sizing: SizingStatus) -> None:
    """Fill the slots, apply the adapters in all ways, and then fill the prompt cache."""
    demand, ways = case.demand, adapter_ways(len(case.loras))
    generated = GUESSING_TOKENS if case.speculation is not None else GENERATED_TOKENS
    lengths = [demand.context_length - generated] * demand.parallel
    if case.loras or case.speculation is not None:
        lengths = [min(lengths[0], LEAN_TOKENS)] + [CACHE_PROMPT_TOKENS] * (demand.parallel - 1)
    asked = [Completion(generated=generated, scales=ways[0])] * len(lengths)
    per_token = sizing.kv_cache_bytes / (demand.context_length * demand.parallel)
    entries = int(1.25 * demand.prompt_cache_mebibytes * MEBIBYTE / (per_token * CACHE_PROMPT_TOKENS)) + 1
    further = [Completion(scales=way) for way in ways[1:]] + [Completion(scales=ways[0])] * entries
    texts = prompts(tokens, lengths + [CACHE_PROMPT_TOKENS] * len(further))
    with ThreadPoolExecutor(max_workers=demand.parallel) as pool:
        both = zip(texts, asked + further, strict=True)
        for job in [pool.submit(complete, client, prompt, how) for prompt, how in both]:
            job.result()


def adapter_ways(count: int) -> list[tuple[float, ...]]:
    """Return the scales of each way of applying adapters: all at once, each alone, none."""
    alone = [tuple(float(other == number) for other in range(count)) for number in range(count)]
    return [(1.0,) * count, *(alone if count > 1 else []), (0.0,) * count] if count else [()]


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


@dataclass(frozen=True, kw_only=True)
class Completion:
    """How a prompt is continued: greedily, so that what repeats is guessed; `scales` of the adapters, in order."""

    generated: int = GENERATED_TOKENS
    scales: tuple[float, ...] = ()


def complete(client: httpx.Client, prompt: list[int], asked: Completion) -> None:
    """Have a prompt continued."""
    body: dict[str, object] = {
        "prompt": prompt,
        "n_predict": asked.generated,
        "ignore_eos": True,
        "temperature": 0,
    }
    if asked.scales:
        body["lora"] = [{"id": number, "scale": scale} for number, scale in enumerate(asked.scales)]
    client.post("/completion", json=body).raise_for_status()


def _chat(client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": GENERATED_TOKENS}
    client.post("/v1/chat/completions", json=body).raise_for_status()


def sizing_table(results: Sequence[Result]) -> str:
    """Return the figures for people; sizes in MiB."""
    head = f"{'model':<38}{'task':<11}{'context':>8}{'slots':>6}{'kv':>6}{'weights':>9}{'kv MiB':>8}{'compute':>9}"
    head += f"{'cache':>7}{'added':>7}{'runtime':>9}{'predicted':>11}{'measured':>10}{'ratio':>8}"
    ratios = [result.ratio for result in results]
    return "\n".join([head, *(_row(item) for item in results), f"ratio {min(ratios):.3f} to {max(ratios):.3f}"])


def _row(result: Result) -> str:
    sizing, demand = result.sizing, result.case.demand
    sizes = [sizing.weights_bytes, sizing.kv_cache_bytes, sizing.compute_bytes, sizing.prompt_cache_bytes]
    sizes += [(sizing.adapter_bytes or 0) + (sizing.draft_bytes or 0)]
    sizes += [sizing.runtime_bytes, sizing.total_bytes, result.measured_bytes]
    widths = (9, 8, 9, 7, 7, 9, 11, 10)
    cells = "".join(f"{size / MEBIBYTE:>{width}.1f}" for size, width in zip(sizes, widths, strict=True))
    what = f"{result.case.title:<38}{demand.task:<11}{demand.context_length:>8}"
    what += f"{demand.parallel:>6}{demand.kv_cache_type:>6}"
    return f"{what}{cells}{result.ratio:>8.3f}"
