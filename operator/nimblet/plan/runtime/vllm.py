# SPDX-License-Identifier: Apache-2.0
"""vLLM's OpenAI server: argv, variables, probes and version, for 0.32.0 (Gaudi's plugin: 0.26.0). Pure.

Every default that can surprise is set: the context (the model's maximum), sequences at once (256), the load format
(`auto` falls back to pickled weights), logging of requests, documentation pages, how long requests may go on after
SIGTERM (0: they are cut). Sources: vllm/engine/arg_utils.py, entrypoints/launchers/cli_args.py, envs.py,
v1/worker/cpu_worker.py and entrypoints/serve/middleware/authenticate.py of 0.32.0.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from nimblet.api.hardware import HardwareClass
from nimblet.manifests.deployment import GRACE_AFTER_DRAIN_SECONDS, TEMPLATE_DIR, TEMPLATE_FILE
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.format import LOADS
from nimblet.plan.lora import LORA_RANKS, lora_rank
from nimblet.plan.runtime import classes
from nimblet.plan.runtime.environment import CACHE_DIR, adapter_folder, draft_folder, models_folder
from nimblet.plan.runtime.interface import ALL_CLASSES, Metrics, Runtime, Serve, Speculation, Wish
from nimblet.plan.runtime.python import PythonServer

COMMAND: Final = ("vllm", "serve")
"""Said in the pod: the entrypoints of vLLM's own images and of those of Gaudi differ."""
DEVICE_SHARE: Final = "0.92"
"""--gpu-memory-utilization: of a device's memory, for weights, activations and the KV cache together."""
CPU_BLOCK_TOKENS: Final = 128
"""Tokens of a block of the cache on CPUs (platforms/cpu.py)."""
NGRAM_SIZE: Final = 4
"""Last tokens that must have stood before, where the spec does not say (the example of vLLM's own guide)."""
SHUTDOWN_SECONDS: Final = GRACE_AFTER_DRAIN_SECONDS - 2
"""What requests get after SIGTERM; the kubelet kills two seconds later."""
EXTRA_STARTUP: Final[Mapping[HardwareClass, int]] = {
    "cpu": 300,
    "xeon": 300,
    "nvidia": 300,
    "amd": 300,
    "intel-gpu": 300,
    "gaudi": 1800,
}
"""Compilation and graph capture; on Gaudi the warm-up of every bucket (estimates: none was run)."""
METRICS: Final = Metrics(
    needs_key=False,
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    generated_tokens="vllm:generation_tokens_total",
    prompt_tokens="vllm:prompt_tokens_total",
    cache_usage="vllm:kv_cache_usage_perc",
    first_token_seconds="vllm:time_to_first_token_seconds",  # noqa: S106 - a metric's name
)
OPEN_PATHS: Final = (
    "/health",
    "/ping",
    "/load",
    "/version",
    "/metrics",
    "/tokenize",
    "/detokenize",
    "/invocations",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
)
"""The key guards /v1, /v2, /inference and /cohere alone; /invocations answers as /v1 does."""
_RUNNERS: Final = {
    "Chat": {"--runner": "generate"},
    "Embedding": {"--runner": "pooling", "--convert": "embed"},
    "Rerank": {"--runner": "pooling", "--convert": "classify"},
}


def vllm_args(server: Serve) -> list[str]:
    """Return the argv after `vllm serve`; each user value is one element of its own."""
    options: dict[str, str] = {
        "--served-model-name": server.alias,
        "--host": "0.0.0.0",  # noqa: S104 - the pod's own network; who may reach it is the NetworkPolicy's
        "--port": str(HTTP_PORT),
        "--load-format": "safetensors",
        "--max-model-len": str(server.context_length),
        "--max-num-seqs": str(server.parallel),
        "--shutdown-timeout": str(SHUTDOWN_SECONDS),
        **_RUNNERS[server.pooled.task if server.pooled is not None else "Chat"],
    }
    if server.on_cpu:
        options["--dtype"] = "bfloat16"
        if server.kv_cache_bytes:
            options["--kv-cache-memory-bytes"] = str(_whole_blocks(server))
    else:
        options["--gpu-memory-utilization"] = DEVICE_SHARE
        options["--tensor-parallel-size"] = str(server.devices)
    if server.speculation is not None:
        options["--speculative-config"] = _speculative_config(server.speculation)
    if server.chat_template:
        options["--chat-template"] = f"{TEMPLATE_DIR}/{TEMPLATE_FILE}"
    switches = [
        "--no-trust-remote-code",
        "--no-trust-request-chat-template",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    ]
    argv = [models_folder(server.folder), *(part for option in options.items() for part in option), *switches]
    return [*argv, *_adapter_args(server)]


def _adapter_args(server: Serve) -> list[str]:
    """Return the options of adapters: all are held at once, so that none waits for another's place.

    --lora-modules takes every word after it (nargs +): the next option ends them.
    """
    if not server.adapters:
        return []
    rank = lora_rank([adapter.rank for adapter in server.adapters]) or LORA_RANKS[-1]
    modules = [f"{adapter.name}={adapter_folder(adapter)}" for adapter in server.adapters]
    slots = ["--max-loras", str(len(modules)), "--max-lora-rank", str(rank)]
    return ["--enable-lora", "--lora-modules", *modules, *slots]


def _speculative_config(speculation: Speculation) -> str:
    """Return how tokens are guessed ahead, as JSON of our own (vllm/config/speculative.py)."""
    document: dict[str, str | int] = {"num_speculative_tokens": speculation.draft_tokens}
    if speculation.type == "Draft":
        document |= {"method": "draft_model", "model": draft_folder(speculation.folder)}
    else:
        size = speculation.ngram_size or NGRAM_SIZE
        document |= {"method": "ngram", "prompt_lookup_max": size, "prompt_lookup_min": size}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _whole_blocks(server: Serve) -> int:
    """Return the cache's bytes with each sequence in whole blocks: it starts only where one of them fits."""
    blocks = -(-server.context_length // CPU_BLOCK_TOKENS)
    return -(-server.kv_cache_bytes * blocks * CPU_BLOCK_TOKENS // server.context_length)


def vllm_variables(server: Serve, startup_seconds: int) -> dict[str, str]:
    """Return the server's own variables."""
    own = {
        "VLLM_CACHE_ROOT": f"{CACHE_DIR}/vllm",
        "VLLM_CONFIG_ROOT": f"{CACHE_DIR}/vllm-config",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(startup_seconds),
    }
    if server.on_cpu:
        # without CPUs of its own a pod is given shares: binding would put all pods on the same cores
        own |= {"OMP_NUM_THREADS": str(server.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return own


def vllm_knows(wish: Wish) -> bool:
    """Tell whether it has the class that config.json names."""
    return classes.vllm_knows(wish.architecture, pooled=wish.task != "Chat")


def vllm_flaw(wish: Wish) -> str:
    """Return what a wish has that other servers of Python can, and this one can't."""
    if wish.speculation is not None and wish.speculation.least_tokens:
        return "VLLM checks every guess of a drafting model: it takes no speculative.minDraftTokens"
    if wish.adapter_ranks and lora_rank(wish.adapter_ranks) is None:
        return f"VLLM takes adapters up to rank {LORA_RANKS[-1]}, not {max(wish.adapter_ranks)}"
    return ""


SERVER: Final = PythonServer(
    name="VLLM",
    key="VLLM_API_KEY",
    args=vllm_args,
    own_variables=vllm_variables,
    own_flaw=vllm_flaw,
    extra_startup=EXTRA_STARTUP,
    command=COMMAND,
)
VLLM: Final = Runtime(
    name=SERVER.name,
    formats=LOADS["VLLM"],
    # its scores of Classify are at /classify, which no key guards
    tasks=frozenset({"Chat", "Embedding", "Rerank"}),
    classes=ALL_CLASSES,
    port=HTTP_PORT,
    metrics=METRICS,
    open_paths=OPEN_PATHS,
    keys="variable",
    pinned="0.32.0",
    version_pattern=re.compile(r"\b(?:v|vllm-)([0-9]+\.[0-9]+\.[0-9]+)"),
    knows=vllm_knows,
    flaw=SERVER.flaw,
    container=SERVER.container,
    engine="VLLM",
    extra_startup=EXTRA_STARTUP,
)
