# SPDX-License-Identifier: Apache-2.0
"""vLLM's OpenAI server: argv, variables, probes and version, for 0.32.0 (Gaudi's plugin: 0.26.0). Pure.

Every default that can surprise is set: the context (the model's maximum), sequences at once (256), the load format
(`auto` falls back to pickled weights), logging of requests, documentation pages, how long requests may go on after
SIGTERM (0: they are cut). Sources: vllm/engine/arg_utils.py, entrypoints/launchers/cli_args.py, envs.py,
v1/worker/cpu_worker.py and entrypoints/serve/middleware/authenticate.py of 0.32.0.
"""

import re
from typing import Final

from nimblet.manifests.deployment import GRACE_AFTER_DRAIN_SECONDS, TEMPLATE_DIR, TEMPLATE_FILE, ServerContainer
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.format import LOADS
from nimblet.plan.runtime.environment import (
    CACHE_DIR,
    TMP_LIMIT,
    directories,
    models_folder,
    one_key_flaw,
    variables,
)
from nimblet.plan.runtime.interface import ALL_CLASSES, Metrics, Runtime, Serve, Wish, health_probes

COMMAND: Final = ("vllm", "serve")
"""Said in the pod: the entrypoints of vLLM's own images and of those of Gaudi differ."""
DEVICE_SHARE: Final = "0.92"
"""--gpu-memory-utilization: of a device's memory, for weights, activations and the KV cache together."""
CPU_BLOCK_TOKENS: Final = 128
"""Tokens of a block of the cache on CPUs (platforms/cpu.py)."""
STARTUP_PERIOD_SECONDS: Final = 2
SHUTDOWN_SECONDS: Final = GRACE_AFTER_DRAIN_SECONDS - 2
"""What requests get after SIGTERM; the kubelet kills two seconds later."""
EXTRA_STARTUP: Final = {"cpu": 300, "xeon": 300, "nvidia": 300, "amd": 300, "intel-gpu": 300, "gaudi": 1800}
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
    if server.chat_template:
        options["--chat-template"] = f"{TEMPLATE_DIR}/{TEMPLATE_FILE}"
    switches = [
        "--no-trust-remote-code",
        "--no-trust-request-chat-template",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    ]
    return [models_folder(server.folder), *(part for option in options.items() for part in option), *switches]


def _whole_blocks(server: Serve) -> int:
    """Return the cache's bytes with each sequence in whole blocks: it starts only where one of them fits."""
    blocks = -(-server.context_length // CPU_BLOCK_TOKENS)
    return -(-server.kv_cache_bytes * blocks * CPU_BLOCK_TOKENS // server.context_length)


def vllm_container(server: Serve) -> ServerContainer:
    """Return the server's image, argv, variables and probes.

    It listens when the engine is ready, and not before; /health is 503 once the engine is dead.
    """
    startup = server.startup_seconds + EXTRA_STARTUP[server.hardware]
    own = {
        "VLLM_CACHE_ROOT": f"{CACHE_DIR}/vllm",
        "VLLM_CONFIG_ROOT": f"{CACHE_DIR}/vllm-config",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(startup),
    }
    if server.on_cpu:
        # without CPUs of its own a pod is given shares: binding would put all pods on the same cores
        own |= {"OMP_NUM_THREADS": str(server.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return ServerContainer(
        image=server.image,
        command=COMMAND,
        args=vllm_args(server),
        env=variables(own, key="VLLM_API_KEY", secret=server.key_secret),
        probes=health_probes("/health", startup_seconds=startup, startup_period=STARTUP_PERIOD_SECONDS),
        key_file=False,
        tmp_limit=TMP_LIMIT,
        scratch=directories(server),
    )


def vllm_flaw(wish: Wish) -> str:
    """Return what a wish has that this server can't."""
    if wish.kv_cache_type != "f16":
        return f"VLLM knows no KV cache of type {wish.kv_cache_type}: that is LlamaCpp's"
    return one_key_flaw(name="VLLM", own_keys=wish.own_keys, key_version=wish.key_version)


VLLM: Final = Runtime(
    name="VLLM",
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
    flaw=vllm_flaw,
    container=vllm_container,
    engine="VLLM",
    extra_startup=EXTRA_STARTUP,
)
