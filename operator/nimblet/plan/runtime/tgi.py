# SPDX-License-Identifier: Apache-2.0
"""Text Generation Inference: argv, variables, probes and version, for 3.3.7. Pure.

The project is in maintenance mode, so that Auto takes it only where vLLM can't. The entrypoint of its CUDA image
splits arguments at spaces: the model's folder, whose name the source chose, goes by a variable. Sources:
docs/source/reference/launcher.md, router/src/server.rs, tgi-entrypoint.sh, Dockerfile_intel and Dockerfile_gaudi
of the project.
"""

import re
from typing import Final

from nimblet.manifests.deployment import ServerContainer
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

STARTUP_PERIOD_SECONDS: Final = 2
EXTRA_STARTUP: Final = {"cpu": 180, "xeon": 180, "nvidia": 180, "amd": 600, "intel-gpu": 300, "gaudi": 1800}
"""Warm-up and graph capture; tuning of kernels on AMD, every bucket on Gaudi (estimates: none was run)."""
GRAPHS: Final = frozenset({"nvidia", "amd"})
"""Classes with graphs; on the others --cuda-graphs must be 0."""
METRICS: Final = Metrics(
    needs_key=False,
    running="tgi_batch_current_size",
    waiting="tgi_queue_size",
    generated_tokens="tgi_request_generated_tokens_sum",
    prompt_tokens="tgi_request_input_length_sum",
)
OPEN_PATHS: Final = (
    "/",
    "/health",
    "/ping",
    "/info",
    "/metrics",
    "/v1/models",
    "/chat_tokenize",
    "/invocations",
    "/docs",
)
"""The key guards what is nested under the router's base alone; /invocations generates, as /generate does."""


def tgi_args(server: Serve) -> list[str]:
    """Return the argv of the launcher. The served name is not among them: it answers to every name."""
    longest = server.context_length - 1
    batch = server.context_length * server.parallel
    options: dict[str, str] = {
        "--hostname": "0.0.0.0",  # noqa: S104 - the pod's own network; who may reach it is the NetworkPolicy's
        "--port": str(HTTP_PORT),
        "--huggingface-hub-cache": f"{CACHE_DIR}/huggingface",
        "--dtype": "bfloat16",
        "--max-input-tokens": str(longest),
        "--max-total-tokens": str(server.context_length),
        "--max-batch-prefill-tokens": str(batch if server.hardware == "gaudi" else server.context_length),
        "--max-batch-total-tokens": str(batch),
        "--max-batch-size": str(server.parallel),
        "--num-shard": str(server.devices),
        "--usage-stats": "off",
    }
    if server.hardware not in GRAPHS:
        options["--cuda-graphs"] = "0"
    return [*(part for option in options.items() for part in option), "--json-output"]


def tgi_container(server: Serve) -> ServerContainer:
    """Return the server's image, argv, variables and probes; /health is 503 until the shards have warmed up."""
    startup = server.startup_seconds + EXTRA_STARTUP[server.hardware]
    own = {"MODEL_ID": models_folder(server.folder), "OMP_NUM_THREADS": str(server.threads)}
    return ServerContainer(
        image=server.image,
        args=tgi_args(server),
        env=variables(own, key="API_KEY", secret=server.key_secret),
        probes=health_probes("/health", startup_seconds=startup, startup_period=STARTUP_PERIOD_SECONDS),
        key_file=False,
        tmp_limit=TMP_LIMIT,
        scratch=directories(server),
    )


def tgi_flaw(wish: Wish) -> str:
    """Return what a wish has that this server can't."""
    if wish.kv_cache_type != "f16":
        return f"TGI knows no KV cache of type {wish.kv_cache_type}: that is LlamaCpp's"
    if wish.chat_template:
        return "TGI takes no chat template but that of the model's own files"
    return one_key_flaw(name="TGI", own_keys=wish.own_keys, key_version=wish.key_version)


TGI: Final = Runtime(
    name="TGI",
    formats=LOADS["TGI"],
    tasks=frozenset({"Chat"}),
    classes=ALL_CLASSES,
    port=HTTP_PORT,
    metrics=METRICS,
    open_paths=OPEN_PATHS,
    keys="variable",
    pinned="3.3.7",
    version_pattern=re.compile(r":([0-9]+\.[0-9]+\.[0-9]+)"),
    flaw=tgi_flaw,
    container=tgi_container,
    engine="TGI",
    extra_startup=EXTRA_STARTUP,
)
