# SPDX-License-Identifier: Apache-2.0
"""Text Generation Inference: argv, variables, probes and version, for 3.3.7. Pure.

The project is in maintenance mode, so that Auto takes it only where vLLM can't. The entrypoint of its CUDA image
splits arguments at spaces: the model's folder, whose name the source chose, goes by a variable. Sources:
docs/source/reference/launcher.md, router/src/server.rs, tgi-entrypoint.sh, Dockerfile_intel and Dockerfile_gaudi
of the project.
"""

import re
from collections.abc import Mapping
from typing import Final

from nimblet.api.hardware import HardwareClass
from nimblet.manifests.network import HTTP_PORT
from nimblet.plan.format import LOADS
from nimblet.plan.runtime import classes
from nimblet.plan.runtime.environment import CACHE_DIR, adapter_folder, models_folder
from nimblet.plan.runtime.interface import ALL_CLASSES, Metrics, Runtime, Serve, Wish
from nimblet.plan.runtime.python import PythonServer

EXTRA_STARTUP: Final[Mapping[HardwareClass, int]] = {
    "cpu": 180,
    "xeon": 180,
    "nvidia": 180,
    "amd": 600,
    "intel-gpu": 300,
    "gaudi": 1800,
}
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
    if server.speculation is not None:
        options["--speculate"] = str(server.speculation.draft_tokens)
    if server.hardware not in GRAPHS:
        options["--cuda-graphs"] = "0"
    return [*(part for option in options.items() for part in option), "--json-output"]


def tgi_variables(server: Serve, _startup_seconds: int) -> dict[str, str]:
    """Return the server's own variables; how long it may take to start is no matter of its own."""
    own = {"MODEL_ID": models_folder(server.folder), "OMP_NUM_THREADS": str(server.threads)}
    if server.adapters:
        named = (f"{adapter.name}={adapter_folder(adapter)}" for adapter in server.adapters)
        own["LORA_ADAPTERS"] = ",".join(named)
    return own


def tgi_knows(wish: Wish) -> bool:
    """Tell whether it has code of its own for the type of model."""
    return wish.model_type in (classes.TGI_ON_GAUDI if wish.hardware == "gaudi" else classes.TGI)


def tgi_flaw(wish: Wish) -> str:
    """Return what a wish has that other servers of Python can, and this one can't."""
    if wish.chat_template:
        return "TGI takes no chat template but that of the model's own files"
    if wish.speculation is not None and wish.speculation.type == "Draft":
        return "TGI takes no drafting model: it finds repeated tokens alone"
    if wish.speculation is not None and wish.speculation.ngram_size:
        return "TGI finds repeated tokens in its own way: it takes no speculative.ngramSize"
    return ""


SERVER: Final = PythonServer(
    name="TGI",
    key="API_KEY",
    args=tgi_args,
    own_variables=tgi_variables,
    own_flaw=tgi_flaw,
    extra_startup=EXTRA_STARTUP,
)
TGI: Final = Runtime(
    name=SERVER.name,
    formats=LOADS["TGI"],
    tasks=frozenset({"Chat"}),
    classes=ALL_CLASSES,
    port=HTTP_PORT,
    metrics=METRICS,
    open_paths=OPEN_PATHS,
    keys="variable",
    pinned="3.3.7",
    version_pattern=re.compile(r":([0-9]+\.[0-9]+\.[0-9]+)"),
    knows=tgi_knows,
    flaw=SERVER.flaw,
    container=SERVER.container,
    engine="TGI",
    extra_startup=EXTRA_STARTUP,
)
