# SPDX-License-Identifier: Apache-2.0
"""The flags that we give to servers, by version: since when each is known, and what became of those that are gone.

Data and its look-up. `since` is the oldest version whose argument list we have read (`READ`), unless the flag is
newer; a test compares the table with these lists, which stand in tests/contract/arguments.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nimblet.plan.runtime.interface import parts

READ: Final[Mapping[str, tuple[str, ...]]] = {
    "LlamaCpp": ("11434",),
    "VLLM": ("0.26.0", "0.32.0"),
    "TGI": ("3.3.7",),
}
"""Versions whose published argument list was read."""


@dataclass(frozen=True)
class Flag:
    """One flag of one server."""

    name: str
    since: str
    switch: bool = False
    """No value follows it."""
    removed: str = ""
    """First version read that refuses it."""
    instead: str = ""
    """What it was renamed to, or what does its work."""


def _known(since: str, *names: str, switch: bool = False) -> tuple[Flag, ...]:
    return tuple(Flag(name, since, switch) for name in names)


FLAGS: Final[Mapping[str, tuple[Flag, ...]]] = {
    "LlamaCpp": (
        *_known("11434", "--model", "--alias", "--host", "--port", "--api-key-file", "--ctx-size", "--parallel"),
        *_known("11434", "--cache-type-k", "--cache-type-v", "--flash-attn", "--batch-size", "--ubatch-size"),
        *_known("11434", "--cache-ram", "--ctx-checkpoints", "--fit", "--load-mode", "--threads"),
        *_known("11434", "--threads-batch", "--n-gpu-layers", "--chat-template-file", "--pooling"),
        *_known("11434", "--override-kv", "--embd-normalize", "--ssl-key-file", "--ssl-cert-file"),
        *_known("11434", "--lora-scaled"),
        *_known("11434", "--no-cache-prompt", switch=True),
        *_known("11434", "--no-kv-unified", "--metrics", "--no-slots", "--no-ui", "--offline", switch=True),
        *_known("11434", "--jinja", "--rerank", "--embeddings", switch=True),
        *_known("11434", "--spec-type", "--spec-ngram-simple-size-n", "--spec-ngram-simple-size-m"),
        *_known("11434", "--spec-draft-model", "--spec-draft-n-max", "--spec-draft-n-min", "--spec-draft-ngl"),
        Flag("--draft-max", "", removed="11434", instead="--spec-draft-n-max"),
        Flag("--draft-min", "", removed="11434", instead="--spec-draft-n-min"),
        Flag("--spec-ngram-size-n", "", removed="11434", instead="--spec-ngram-simple-size-n"),
        Flag("--spec-ngram-size-m", "", removed="11434", instead="--spec-ngram-simple-size-m"),
        Flag("--mmap", "", switch=True, removed="11434", instead="--load-mode mmap"),
        Flag("--no-mmap", "", switch=True, removed="11434", instead="--load-mode none"),
        Flag("--mlock", "", switch=True, removed="11434", instead="--load-mode mlock"),
    ),
    "VLLM": (
        *_known("0.26.0", "--served-model-name", "--host", "--port", "--load-format", "--max-model-len"),
        *_known("0.26.0", "--max-num-seqs", "--shutdown-timeout", "--runner", "--convert", "--dtype"),
        *_known("0.26.0", "--kv-cache-memory-bytes", "--gpu-memory-utilization", "--tensor-parallel-size"),
        *_known("0.26.0", "--chat-template", "--ssl-keyfile", "--ssl-certfile", "--speculative-config"),
        *_known("0.26.0", "--lora-modules", "--max-loras", "--max-lora-rank"),
        *_known("0.26.0", "--enable-lora", switch=True),
        *_known("0.26.0", "--no-trust-remote-code", "--no-trust-request-chat-template", switch=True),
        *_known("0.26.0", "--no-enable-log-requests", "--disable-uvicorn-access-log", switch=True),
        *_known("0.26.0", "--disable-fastapi-docs", switch=True),
        Flag("--task", "", removed="0.26.0", instead="--runner and --convert"),
        Flag("--disable-log-requests", "", switch=True, removed="0.26.0", instead="--no-enable-log-requests"),
        Flag("--calculate-kv-scales", "0.26.0", switch=True, removed="0.32.0"),
        Flag("--override-attention-dtype", "0.26.0", removed="0.32.0"),
        Flag("--max-num-partial-prefills", "0.26.0", removed="0.32.0"),
        Flag("--device-memory-utilization", "0.32.0", instead="--gpu-memory-utilization, which both know"),
    ),
    "TGI": (
        *_known("3.3.7", "--hostname", "--port", "--huggingface-hub-cache", "--dtype"),
        *_known("3.3.7", "--max-input-tokens", "--max-total-tokens", "--max-batch-prefill-tokens"),
        *_known("3.3.7", "--max-batch-total-tokens", "--max-batch-size", "--num-shard", "--usage-stats"),
        *_known("3.3.7", "--cuda-graphs", "--speculate"),
        *_known("3.3.7", "--json-output", switch=True),
    ),
}


def flag_troubles(runtime: str, version: str, args: Iterable[str], *, further: Iterable[Flag] = ()) -> list[str]:
    """Return what a version does not know of an argv: flags that are too new for it, gone, or in no table.

    `further` are flags that stand in a table of their own.
    """
    table = {flag.name: flag for flag in (*FLAGS[runtime], *further)}
    troubles = []
    for name in (word for word in args if word.startswith("--")):
        flag = table.get(name)
        if flag is None:
            troubles.append(f"{name} is in no table")
        elif flag.removed and parts(version) >= parts(flag.removed):
            troubles.append(f"{name} is gone since {flag.removed}" + (f": {flag.instead}" if flag.instead else ""))
        elif flag.since and parts(version) < parts(flag.since):
            troubles.append(f"{name} is known since {flag.since}")
    return troubles


def unread(runtime: str, version: str) -> str:
    """Return what to say of a version whose argument list nobody has read, "" of one that was."""
    read: Sequence[str] = READ[runtime]
    if not version or version in read:
        return ""
    return f"its flags were read of {runtime} {' and '.join(read)}, not of {version}"
