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
from nimblet.manifests.loader import ADAPTERS_DIR, DRAFT_DIR, MODELS_DIR
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.format import LOADS
from nimblet.plan.runtime.architectures import ARCHITECTURES
from nimblet.plan.runtime.interface import ALL_CLASSES, Metrics, Pooled, Runtime, Serve, Wish, health_probes
from nimblet.plan.task import UBATCH, Pooling

STARTUP_PERIOD_SECONDS: Final = 1
BATCH: Final = 2048
"""--batch-size: tokens that are worked on at once."""
NGRAM_SIZE: Final = 6
"""Last tokens that must have stood before, where the spec does not say; the server's own is 12."""
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
        "--batch-size": str(BATCH),
        "--ubatch-size": str(UBATCH),
        "--cache-ram": str(server.prompt_cache_mebibytes),
        "--ctx-checkpoints": "0",  # each would hold a copy of the windowed cache beyond the computed size
        "--fit": "off",
        "--load-mode": "mmap",
        "--threads": str(server.threads),
        "--threads-batch": str(server.threads),
    }
    options |= _speculative_options(server)
    if not server.on_cpu:
        options["--n-gpu-layers"] = "all"  # the default takes as many as fit, and says nothing
    switches = ["--no-kv-unified", "--metrics", "--no-slots", "--no-ui", "--offline"]
    if server.pooled is None:
        switches.append("--jinja")
    else:
        options |= _pooled_options(server.pooled)
        switches.append("--rerank" if server.pooled.task == "Rerank" else "--embeddings")
    return [part for option in options.items() for part in option] + switches + _mounted(server)


def _speculative_options(server: Serve) -> dict[str, str]:
    """Return the options of guessing ahead.

    A drafting model is loaded as the other is, on the same devices, with a cache in f16.
    Of the n-gram types `ngram-simple` alone looks into the request's own text and nothing else: `ngram-mod` has
    one table among all callers, so that the speed of one tells of another's text, and `ngram-cache` only grows.
    """
    speculation = server.speculation
    if speculation is None:
        return {}
    if speculation.type == "Draft":
        options = {
            "--spec-type": "draft-simple",
            "--spec-draft-model": f"{DRAFT_DIR}/{speculation.model_file}",
            "--spec-draft-n-max": str(speculation.draft_tokens),
            "--spec-draft-n-min": str(speculation.least_tokens),
        }
        return options if server.on_cpu else {**options, "--spec-draft-ngl": "all"}
    return {
        "--spec-type": "ngram-simple",
        "--spec-ngram-simple-size-n": str(speculation.ngram_size or NGRAM_SIZE),
        "--spec-ngram-simple-size-m": str(speculation.draft_tokens),
    }


def _mounted(server: Serve) -> list[str]:
    """Return the options of what is mounted on demand.

    The server reads every --api-key-file it is given and accepts the keys of all (common/arg.cpp of that build
    appends them, whatever its warning about repeated options says). It numbers its adapters in their order, and
    applies them with the scales given here to every request that names none: 0 lets the model itself answer.
    (--lora-init-without-apply does not: server-context.cpp of that build applies all of params.lora_adapters.)
    A request that names no adapter may continue the cached prompt of one that did (launch_slot_with_task compares
    adapters only where some are named), and so may the cache of old prompts: with adapters there is neither.
    """
    options = ["--api-key-file", f"{OWN_KEYS_DIR}/{API_KEY}"] if server.own_keys else []
    if server.chat_template:
        options += ["--chat-template-file", f"{TEMPLATE_DIR}/{TEMPLATE_FILE}"]
    if server.adapters:
        options.append("--no-cache-prompt")
    for adapter in server.adapters:
        options += ["--lora-scaled", f"{ADAPTERS_DIR}/{adapter.name}/{adapter.file}:0"]
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


def llamacpp_knows(wish: Wish) -> bool:
    """Tell whether the model loader knows the architecture."""
    return wish.architecture in ARCHITECTURES


def llamacpp_flaw(wish: Wish) -> str:
    """Return what a wish has that this server can't."""
    speculation = wish.speculation
    if speculation is None:
        return ""
    size = speculation.ngram_size or NGRAM_SIZE
    if speculation.type == "NGram" and speculation.draft_tokens < size:
        # common_ngram_simple_draft drops what is shorter than the pattern
        return (
            f"LlamaCpp guesses nothing where draftTokens ({speculation.draft_tokens}) is below ngramSize ({size})"
        )
    if wish.parallel * (1 + speculation.draft_tokens) > BATCH:
        # server-context.cpp asserts that one batch holds the guesses of all slots
        most = BATCH // wish.parallel - 1
        return f"LlamaCpp checks {BATCH} tokens at once: a parallel of {wish.parallel} leaves {most} draftTokens"
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
    reads_x_api_key=True,  # tools/server/server-http.cpp
    pinned="11434",
    version_pattern=re.compile(r"\bb([0-9]{4,6})\b"),
    knows=llamacpp_knows,
    flaw=llamacpp_flaw,
    container=llamacpp_container,
)
