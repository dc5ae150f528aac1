# SPDX-License-Identifier: Apache-2.0
"""Tokens a second without and with guessing ahead, as the operator sets the server up: chat, and repeated sources.

All servers are up at once and asked in turns, each question of each server after the other, so that whatever else
the machine does meets them alike: the ratios are the figures. Drafts come from the model itself that is served, as
no smaller one with its vocabulary is at hand: it shows that they work and what they cost, and no gain.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
from pydantic import BaseModel

from nimblet.plan.runtime.interface import Speculation
from nimblet.plan.runtime.llamacpp import llamacpp_args
from nimblet.plan.sizing import size_model
from nimblet.plan.speculative import GUESSED_TOKENS
from tests.bench.localserver import API_KEY, LocalServer, local_files, run_server
from tests.bench.matrix import soaks
from tests.bench.sizing import Case, serve_of

PLAIN: Final = "none"
ROUNDS: Final = 5
CHAT_TOKENS: Final = 80
REPEAT_TOKENS: Final = 120
SOURCE_WORDS: Final = 90
TIMEOUT_SECONDS: Final = 600.0
DOCUMENTS: Final = Path(__file__).parents[2] / "e2e" / "data" / "documents"
CHAT: Final = (
    "How do I keep bread fresh for longer?",
    "Tell me a short story about a lighthouse.",
    "What should I pack for a week in the mountains?",
)
SOURCES: Final = (
    "orvane-k40-manual.md",
    "weir-power-coop-faq.md",
    "ferrymen-of-oost-game.md",
    "varrow-hive-guide.md",
)


class Timings(BaseModel):
    """What llama.cpp tells of a request (tools/server/server-common.cpp)."""

    predicted_n: int
    predicted_ms: float
    draft_n: int = 0
    draft_n_accepted: int = 0


class _Reply(BaseModel):
    content: str
    timings: Timings


@dataclass
class Tally:
    """What one server generated, in all its turns."""

    tokens: int = 0
    milliseconds: float = 0.0
    guessed: int = 0
    accepted: int = 0
    texts: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.milliseconds * 1000 if self.milliseconds else 0.0


def main(*, binary: Path, rounds: int = ROUNDS) -> int:
    """Take the figures and print them."""
    case = soaks()[0]
    ways: Mapping[str, Speculation | None] = {
        PLAIN: None,
        "NGram": Speculation(type="NGram", draft_tokens=GUESSED_TOKENS["NGram"]),
        "Draft": Speculation(type="Draft", draft_tokens=GUESSED_TOKENS["Draft"], model_file=case.model.name),
    }
    with TemporaryDirectory(prefix="nimblet-speculative-") as folder, ExitStack() as stack:
        servers = {
            name: stack.enter_context(_server(case, way, binary=binary, folder=Path(folder) / name))
            for name, way in ways.items()
        }
        for kind, prompts, limit in (
            ("free chat", [_chat(question) for question in CHAT], CHAT_TOKENS),
            ("repeats its source", [_repeat(text) for text in sources()], REPEAT_TOKENS),
        ):
            tallies = _asked(servers, prompts, limit=limit, rounds=rounds)
            load = f"load {os.getloadavg()[0]:.1f}"
            told = f"{case.name}, {kind}: {len(prompts)} questions, {rounds} rounds in turns, {load}"
            print(f"\n{told}\n{table(tallies)}", flush=True)
    return 0


def sources() -> list[str]:
    """Return the beginnings of some documents of the corpus."""
    paths = [DOCUMENTS / name for name in SOURCES if (DOCUMENTS / name).is_file()]
    return [" ".join(path.read_text(encoding="utf-8").split()[:SOURCE_WORDS]) for path in paths]


def table(tallies: Mapping[str, Tally]) -> str:
    """Return the figures as Markdown."""
    plain = tallies[PLAIN]
    lines = ["| | tokens/s | ÷ none | guessed | accepted | same text |", "|---|---|---|---|---|---|"]
    for name, tally in tallies.items():
        share = f"{tally.accepted / tally.guessed:.0%}" if tally.guessed else ""
        same = sum(one == two for one, two in zip(tally.texts, plain.texts, strict=True))
        ratio = tally.rate / plain.rate if plain.rate else 0.0
        told = (
            name,
            f"{tally.rate:.1f}",
            f"{ratio:.2f}",
            str(tally.guessed),
            share,
            f"{same} of {len(plain.texts)}",
        )
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def _asked(
    servers: Mapping[str, LocalServer], prompts: Sequence[str], *, limit: int, rounds: int
) -> dict[str, Tally]:
    tallies = {name: Tally() for name in servers}
    for _ in range(rounds):
        for prompt in prompts:
            for name, server in servers.items():
                _add(tallies[name], _reply(server, prompt, limit=limit))
    return tallies


def _add(tally: Tally, reply: _Reply) -> None:
    tally.tokens += reply.timings.predicted_n
    tally.milliseconds += reply.timings.predicted_ms
    tally.guessed += reply.timings.draft_n
    tally.accepted += reply.timings.draft_n_accepted
    tally.texts.append(reply.content)


def _reply(server: LocalServer, prompt: str, *, limit: int) -> _Reply:
    body = {"prompt": prompt, "n_predict": limit, "temperature": 0, "cache_prompt": False}
    answer = httpx.post(
        f"{server.url}/completion",
        json=body,
        headers={"Authorization": f"Bearer {API_KEY}"},
        timeout=TIMEOUT_SECONDS,
    )
    return _Reply.model_validate_json(answer.raise_for_status().content)


def _chat(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def _repeat(text: str) -> str:
    return _chat(f"Repeat this text word for word, and add nothing:\n\n{text}")


@contextmanager
def _server(case: Case, way: Speculation | None, *, binary: Path, folder: Path) -> Iterator[LocalServer]:
    folder.mkdir()
    # the CPU that is computed for it, not the bench's own choice: threads are as many
    demand = replace(case.demand, cpu=None, draft_tokens=way.draft_tokens if way is not None else 0)
    own = replace(case, demand=demand)
    args = llamacpp_args(replace(serve_of(own, size_model(own.header(), demand)), speculation=way))
    here = local_files(args, adapters=folder, draft=case.model)
    with run_server(binary, here, model=case.model, folder=folder) as server:
        yield server
