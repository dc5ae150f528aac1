# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's server: argv, probes and version, for build b11434. Pure.

Every default that can surprise is set: context and slots (the defaults take the model's maximum and four
slots), --fit (shrinks unset values in silence), --cache-ram (8 GiB), --ctx-checkpoints (32 a slot), --slots
and the UI (open to callers). Source of all flags: tools/server/README.md and common/arg.cpp of that build.
"""

import re
from typing import Final

from nimblet.manifests.configuration import API_KEY
from nimblet.manifests.deployment import (
    KEY_DIR,
    OWN_KEYS_DIR,
    TEMPLATE_DIR,
    TEMPLATE_FILE,
    ServerContainer,
)
from nimblet.manifests.loader import MODELS_DIR
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.format import LOADS
from nimblet.plan.runtime.interface import ALL_CLASSES, Metrics, Pooled, Runtime, Serve, Wish, health_probes
from nimblet.plan.task import UBATCH, Pooling

STARTUP_PERIOD_SECONDS: Final = 1
METRICS: Final = Metrics(
    needs_key=True,
    running="llamacpp:requests_processing",
    waiting="llamacpp:requests_deferred",
    generated_tokens="llamacpp:tokens_predicted_total",
    prompt_tokens="llamacpp:prompt_tokens_total",
)
OPEN_PATHS: Final = ("/health", "/v1/health")


def llamacpp_args(server: Serve) -> list[str]:
    """Return the argv after the entrypoint; each user value is one element of its own."""
    options: dict[str, str] = {
        "--model": f"{MODELS_DIR}/{server.model_file}",
        "--alias": server.alias,
        "--host": "0.0.0.0",  # noqa: S104 - the pod's own network; who may reach it is the NetworkPolicy's
        "--port": str(HTTP_PORT),
        "--api-key-file": f"{KEY_DIR}/{API_KEY}",
        "--ctx-size": str(server.context_length * server.parallel),
        "--parallel": str(server.parallel),
        "--cache-type-k": server.kv_cache_type,
        "--cache-type-v": server.kv_cache_type,
        "--flash-attn": "on",  # a quantized V cache needs it, and it saves the context x ubatch matrix
        "--batch-size": "2048",
        "--ubatch-size": str(UBATCH),
        "--cache-ram": str(server.prompt_cache_mebibytes),
        "--ctx-checkpoints": "0",  # each would hold a copy of the windowed cache beyond the computed size
        "--fit": "off",
        "--load-mode": "mmap",
        "--threads": str(server.threads),
        "--threads-batch": str(server.threads),
    }
    if not server.on_cpu:
        options["--n-gpu-layers"] = "all"  # the default takes as many as fit, and says nothing
    switches = ["--no-kv-unified", "--metrics", "--no-slots", "--no-ui", "--offline"]
    if server.pooled is None:
        switches.append("--jinja")
    else:
        options |= _pooled_options(server.pooled)
        switches.append("--rerank" if server.pooled.task == "Rerank" else "--embeddings")
    return [part for option in options.items() for part in option] + switches + _mounted(server)


def _mounted(server: Serve) -> list[str]:
    """Return the options of what is mounted on demand.

    The server reads every --api-key-file it is given and accepts the keys of all (common/arg.cpp of that build
    appends them, whatever its warning about repeated options says).
    """
    options = ["--api-key-file", f"{OWN_KEYS_DIR}/{API_KEY}"] if server.own_keys else []
    if server.chat_template:
        options += ["--chat-template-file", f"{TEMPLATE_DIR}/{TEMPLATE_FILE}"]
    return options


def _pooled_options(pooled: Pooled) -> dict[str, str]:
    """Return the options of embedding, rerank and classify.

    With pooling `rank` /v1/embeddings copies the model's full width out of a buffer that holds one number per
    output of the head (server-context.cpp, send_embedding): memory of others would leave with the answer. The
    override of the output width ends that, and turns the answer into exactly the head's scores; left as they
    are, since normalised ones can't be compared.
    """
    options = {"--batch-size": str(pooled.ubatch), "--ubatch-size": str(pooled.ubatch)}
    if pooled.task != "Rerank":  # --rerank sets its own
        options["--pooling"] = pooled.pooling.name.lower()
    if pooled.pooling is Pooling.RANK:
        options["--override-kv"] = f"{pooled.architecture}.embedding_length_out=int:{pooled.outputs}"
        options["--embd-normalize"] = "-1"
    return options


def llamacpp_container(server: Serve) -> ServerContainer:
    """Return the server's image, argv and probes; /health needs no key and is 503 until the model is loaded."""
    probes = health_probes(
        "/health", startup_seconds=server.startup_seconds, startup_period=STARTUP_PERIOD_SECONDS
    )
    return ServerContainer(image=server.image, args=llamacpp_args(server), probes=probes)


def llamacpp_flaw(wish: Wish) -> str:
    """Return what a wish has that this server can't: nothing."""
    del wish
    return ""


LLAMACPP: Final = Runtime(
    name="LlamaCpp",
    formats=LOADS["LlamaCpp"],
    tasks=frozenset({"Chat", "Embedding", "Rerank", "Classify"}),
    classes=ALL_CLASSES - {"gaudi"},
    port=HTTP_PORT,
    metrics=METRICS,
    open_paths=OPEN_PATHS,
    keys="file",
    pinned="11434",
    version_pattern=re.compile(r"\bb([0-9]{4,6})\b"),
    flaw=llamacpp_flaw,
    container=llamacpp_container,
)
