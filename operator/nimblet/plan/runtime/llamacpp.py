# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's server: argv, probes and version, for build b11434. Pure.

Every default that can surprise is set: context and slots (the defaults take the model's maximum and four
slots), --fit (shrinks unset values in silence), --cache-ram (8 GiB), --ctx-checkpoints (32 a slot), --slots
and the UI (open to callers). Source of all flags: tools/server/README.md and common/arg.cpp of that build.
"""

from dataclasses import dataclass
from typing import Final

from nimblet.api.compactmodel import Task
from nimblet.manifests.common import Manifest
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
from nimblet.plan.task import UBATCH, Pooling

NAME: Final = "LlamaCpp"
STARTUP_PERIOD_SECONDS: Final = 1


@dataclass(frozen=True, kw_only=True)
class LlamaCpp:
    """What the argv depends on."""

    image: str
    alias: str
    model_file: str
    context_length: int
    parallel: int
    kv_cache_type: str
    prompt_cache_mebibytes: int
    threads: int
    startup_seconds: int
    pooled: "Pooled | None" = None
    """Set for the tasks that answer with numbers instead of text."""
    own_keys: bool = False
    """Keys of the user's own are mounted beside the generated one."""
    chat_template: bool = False
    """A chat template is mounted."""
    offloaded: bool = False
    """It has devices."""


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """What such a task adds: how tokens become one, and the head's outputs where one sits on top."""

    task: Task
    pooling: Pooling
    ubatch: int
    architecture: str
    outputs: int


def image_version(image: str) -> str:
    """Return the tag or digest of an image reference, or "" when it has none."""
    name = image.rsplit("/", 1)[-1]
    return name.partition("@")[2] or name.partition(":")[2]


def llamacpp_args(server: LlamaCpp) -> list[str]:
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
    if server.offloaded:
        options["--n-gpu-layers"] = "all"  # the default takes as many as fit, and says nothing
    switches = ["--no-kv-unified", "--metrics", "--no-slots", "--no-ui", "--offline"]
    if server.pooled is None:
        switches.append("--jinja")
    else:
        options |= _pooled_options(server.pooled)
        switches.append("--rerank" if server.pooled.task == "Rerank" else "--embeddings")
    return [part for option in options.items() for part in option] + switches + _mounted(server)


def _mounted(server: LlamaCpp) -> list[str]:
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


def _http_get(path: str, *, period: int, failures: int, timeout: int = 5) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def llamacpp_container(server: LlamaCpp) -> ServerContainer:
    """Return the server's image, argv and probes; /health needs no key and is 503 until the model is loaded."""
    probes: Manifest = {
        "startupProbe": _http_get(
            "/health", period=STARTUP_PERIOD_SECONDS, failures=server.startup_seconds // STARTUP_PERIOD_SECONDS
        ),
        "readinessProbe": _http_get("/health", period=2, failures=3),
        "livenessProbe": _http_get("/health", period=10, failures=6, timeout=10),
    }
    return ServerContainer(image=server.image, args=llamacpp_args(server), probes=probes)
