# SPDX-License-Identifier: Apache-2.0
"""The flags that `runtime.extraArgs` may name, by server: since which version, with which values. Data only.

None of them loads code or files, opens a port or a path, changes who may call, what is logged or which model
answers, and none makes a server take more memory than sizing counts: the bounds see to that, or the default is the
most that is allowed. What the operator sets itself is in owned.py beside it. Tests hold every name against the
published argument lists in tests/contract/arguments, and llama.cpp's values against the built server.

Sources: llama.cpp b11434, common/arg.cpp, common/chat.cpp and tools/server/server-context.cpp; vLLM 0.26.0 and
0.32.0, vllm/config/model.py, config/scheduler.py, config/parallel.py, entrypoints/launchers/cli_args.py,
tool_parsers/__init__.py and reasoning/__init__.py; TGI 3.3, docs/source/reference/launcher.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nimblet.plan.runtime.flags import Flag


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds, in decimal digits."""

    least: int
    most: int


@dataclass(frozen=True)
class Fraction:
    """A number within bounds, with at most six places behind the point."""

    least: float
    most: float


@dataclass(frozen=True)
class Words:
    """One of these words."""

    words: tuple[str, ...]


Values = Whole | Fraction | Words


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """One flag that a spec may name."""

    flag: Flag
    does: str
    """What it is for, in the table of docs/runtimes.md."""
    values: Values | None = None
    """What may follow it; None: it is a switch."""
    chat: bool = False
    """For the task Chat alone: it does nothing elsewhere."""
    needs: tuple[str, ...] = field(default=())
    """Flags that must be given too: the server does not start without them."""

    @property
    def name(self) -> str:
        """The flag itself."""
        return self.flag.name


def _llamacpp(name: str, values: Values | None, does: str, *, chat: bool = True) -> Allowed:
    return Allowed(flag=Flag(name, "11434", values is None), values=values, does=does, chat=chat)


def _vllm(
    name: str,
    values: Values | None,
    does: str,
    *,
    since: str = "0.26.0",
    chat: bool = True,
    needs: tuple[str, ...] = (),
) -> Allowed:
    return Allowed(flag=Flag(name, since, values is None), values=values, does=does, chat=chat, needs=needs)


def _tgi(name: str, values: Values | None, does: str) -> Allowed:
    return Allowed(flag=Flag(name, "3.3.7", values is None), values=values, does=does, chat=True)


_SEED: Final = Whole(0, 2_147_483_647)
_EFFORTS: Final = Words(("default", "minimal", "low", "medium", "high", "xhigh", "max"))
_TOOL_PARSERS: Final = Words(
    (
        *("functiongemma", "gemma4", "granite", "granite4", "hermes", "internlm", "jamba", "llama3_json"),
        *("mistral", "olmo3", "phi4_mini_json", "pythonic", "qwen3_coder", "qwen3_xml", "xlam"),
    )
)
"""Of the parsers that both versions of vLLM have, those of families of compact models; all are its own code."""
_REASONING_PARSERS: Final = Words(("deepseek_r1", "gemma4", "granite", "mistral", "olmo3", "qwen3"))

ALLOWED: Final[Mapping[str, tuple[Allowed, ...]]] = {
    "LlamaCpp": (
        _llamacpp("--temp", Fraction(0, 2), "temperature where a request names none"),
        _llamacpp("--top-k", Whole(0, 1000), "top-k where a request names none; 0 switches it off"),
        _llamacpp("--top-p", Fraction(0, 1), "top-p where a request names none"),
        _llamacpp("--min-p", Fraction(0, 1), "min-p where a request names none"),
        _llamacpp("--repeat-penalty", Fraction(0.1, 2), "penalty of repeated tokens where a request names none"),
        _llamacpp("--presence-penalty", Fraction(0, 2), "presence penalty where a request names none"),
        _llamacpp("--frequency-penalty", Fraction(0, 2), "frequency penalty where a request names none"),
        _llamacpp("--seed", _SEED, "seed where a request names none"),
        _llamacpp("--n-predict", Whole(1, 1_048_576), "most tokens of an answer where a request names none"),
        _llamacpp("--reasoning", Words(("on", "off", "auto")), "whether models that can think do"),
        _llamacpp("--reasoning-budget", Whole(0, 1_048_576), "most tokens of thinking"),
        _llamacpp("--reasoning-effort", _EFFORTS, "effort of thinking that the chat template is told"),
        _llamacpp(
            "--reasoning-format",
            Words(("auto", "deepseek", "deepseek-legacy")),
            "where thoughts stand in an answer",
        ),
        _llamacpp("--no-prefill-assistant", None, "a last message of the assistant is whole, not continued"),
        _llamacpp(
            "--slot-prompt-similarity",
            Fraction(0, 1),
            "how much of a prompt a slot must have seen to be taken again; 0 takes the one unused for longest",
        ),
        _llamacpp("--sse-ping-interval", Whole(1, 3600), "seconds between signs of life in a silent stream"),
        _llamacpp("--timeout", Whole(30, 86_400), "seconds that reading and writing may take", chat=False),
        _llamacpp(
            "--numa", Words(("distribute", "isolate")), "threads on nodes with several memories", chat=False
        ),
        _llamacpp("--poll", Whole(0, 100), "how eagerly threads wait for work; 0 sleeps", chat=False),
        _llamacpp("--no-warmup", None, "no empty run at start: the first answer is slower", chat=False),
    ),
    "VLLM": (
        _vllm("--enable-auto-tool-choice", None, "lets the model choose tools", needs=("--tool-call-parser",)),
        _vllm("--tool-call-parser", _TOOL_PARSERS, "how calls of tools are found in its text"),
        _vllm("--reasoning-parser", _REASONING_PARSERS, "how thoughts are found in its text"),
        _vllm(
            "--generation-config",
            Words(("auto", "vllm")),
            "whether sampling defaults are those of the model's own files, or vLLM's",
        ),
        _vllm("--seed", _SEED, "seed of the server", chat=False),
        _vllm("--max-logprobs", Whole(0, 20), "most log probabilities that a request may ask for"),
        _vllm(
            "--scheduling-policy",
            Words(("fcfs", "priority")),
            "whether a request may name a priority",
            chat=False,
        ),
        _vllm("--stream-interval", Whole(1, 100), "tokens that leave at a time in a stream"),
        _vllm("--enable-force-include-usage", None, "every stream ends with its count of tokens"),
        _vllm("--no-enable-prefix-caching", None, "no prompt continues another's, which speed would tell"),
        _vllm("--no-async-scheduling", None, "no scheduling ahead of the running step", chat=False),
        _vllm("--enforce-eager", None, "no compilation and no graphs: sooner ready, slower", chat=False),
        _vllm("--disable-custom-all-reduce", None, "NCCL alone between devices", chat=False),
        _vllm(
            "--sse-keep-alive-interval",
            Whole(1, 3600),
            "seconds between signs of life in a silent stream",
            since="0.32.0",
        ),
        _vllm(
            "--max-num-queued-reqs",
            Whole(8, 10_000),
            "requests held at most; more are refused with 503",
            since="0.32.0",
            chat=False,
        ),
    ),
    "TGI": (
        _tgi("--max-concurrent-requests", Whole(8, 128), "requests held at most; more are refused with 429"),
        _tgi("--max-best-of", Whole(1, 2), "most answers to choose the best of"),
        _tgi("--max-stop-sequences", Whole(0, 64), "most stop sequences of a request"),
        _tgi("--max-top-n-tokens", Whole(0, 5), "most likely tokens that a request may ask for"),
        _tgi("--payload-limit", Whole(65_536, 2_000_000), "bytes of a request at most"),
        _tgi("--waiting-served-ratio", Fraction(0, 10), "waiting requests per running one before these pause"),
        _tgi("--max-waiting-tokens", Whole(1, 1000), "tokens made before waiting requests join"),
        _tgi("--disable-grammar-support", None, "no answers by a grammar"),
    ),
}
