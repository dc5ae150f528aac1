# SPDX-License-Identifier: Apache-2.0
"""Flags that `runtime.extraArgs` may not name, and what to do instead. Data only.

`INSTEAD` holds what the operator sets itself, and what stands for the same: the field to use, or "" where there is
none. `MEMORY` holds what changes a server's memory in a way that sizing does not count.
"""

from collections.abc import Mapping
from typing import Final

_OWN: Final = ""


def _by(field: str, *flags: str) -> Mapping[str, str]:
    return dict.fromkeys(flags, field)


INSTEAD: Final[Mapping[str, Mapping[str, str]]] = {
    "LlamaCpp": {
        **_by("source", "--model", "--offline", "--hf-repo", "--hf-file", "--hf-token", "--model-url"),
        **_by("source", "--docker-repo"),
        **_by("servedModelName", "--alias"),
        **_by("access.apiKeysSecretRef", "--api-key-file", "--api-key"),
        **_by("runtime.contextLength", "--ctx-size"),
        **_by("runtime.parallel", "--parallel"),
        **_by("runtime.kvCacheType", "--cache-type-k", "--cache-type-v"),
        **_by("runtime.chatTemplate", "--chat-template-file", "--chat-template"),
        **_by("runtime.speculative", "--spec-type", "--spec-ngram-simple-size-n", "--spec-ngram-simple-size-m"),
        **_by("runtime.speculative", "--spec-draft-model", "--spec-draft-n-max", "--spec-draft-n-min"),
        **_by("runtime.speculative", "--spec-draft-ngl"),
        **_by("adapters", "--lora-scaled", "--lora", "--no-cache-prompt", "--lora-init-without-apply"),
        **_by("resources.cpu", "--threads", "--threads-batch"),
        **_by("hardware.profile", "--n-gpu-layers", "--gpu-layers", "--device"),
        **_by("task", "--pooling", "--override-kv", "--embd-normalize", "--rerank", "--reranking"),
        **_by("task", "--embeddings", "--embedding"),
        **_by("extraArgs --temp", "--temperature"),
        **_by("extraArgs --n-predict", "--predict"),
        **_by(_OWN, "--host", "--port", "--flash-attn", "--batch-size", "--ubatch-size", "--cache-ram"),
        **_by(_OWN, "--ctx-checkpoints", "--fit", "--load-mode", "--metrics", "--no-slots", "--no-ui"),
        **_by(_OWN, "--jinja", "--ssl-key-file", "--ssl-cert-file", "--no-kv-unified", "--kv-unified"),
    },
    "VLLM": {
        **_by("source", "--load-format", "--model", "--revision"),
        **_by("servedModelName", "--served-model-name"),
        **_by("runtime.contextLength", "--max-model-len", "--kv-cache-memory-bytes"),
        **_by("runtime.parallel", "--max-num-seqs"),
        **_by("runtime.chatTemplate", "--chat-template"),
        **_by("runtime.speculative", "--speculative-config"),
        **_by("adapters", "--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank"),
        **_by("hardware.count", "--tensor-parallel-size"),
        **_by("task", "--runner", "--convert"),
        **_by(_OWN, "--host", "--port", "--shutdown-timeout", "--dtype", "--ssl-keyfile", "--ssl-certfile"),
        **_by(_OWN, "--no-trust-remote-code", "--trust-remote-code", "--no-trust-request-chat-template"),
        **_by(_OWN, "--no-enable-log-requests", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
        **_by(_OWN, "--gpu-memory-utilization", "--device-memory-utilization", "--api-key"),
    },
    "TGI": {
        **_by("source", "--huggingface-hub-cache", "--model-id", "--revision"),
        **_by("runtime.contextLength", "--max-input-tokens", "--max-total-tokens", "--max-batch-prefill-tokens"),
        **_by("runtime.contextLength", "--max-input-length"),
        **_by("runtime.parallel", "--max-batch-total-tokens", "--max-batch-size"),
        **_by("runtime.speculative", "--speculate"),
        **_by("adapters", "--lora-adapters"),
        **_by("hardware.count", "--num-shard", "--sharded"),
        **_by(_OWN, "--hostname", "--port", "--dtype", "--usage-stats", "--cuda-graphs", "--json-output"),
        **_by(_OWN, "--trust-remote-code", "--api-key"),
    },
}
"""Every flag of flags.py is here, so that none is given twice."""

MEMORY: Final[Mapping[str, frozenset[str]]] = {
    "LlamaCpp": frozenset(
        {
            *("--swa-full", "--no-repack", "--no-kv-offload", "--no-op-offload", "--cpu-moe", "--n-cpu-moe"),
            *("--split-mode", "--tensor-split", "--main-gpu", "--override-tensor", "--threads-http"),
            *("--cache-reuse", "--context-shift", "--no-cache-idle-slots", "--swa-checkpoints"),
            *("--sleep-idle-seconds", "--no-host"),
        }
    ),
    "VLLM": frozenset(
        {
            *("--max-num-batched-tokens", "--kv-cache-dtype", "--block-size", "--cpu-offload-gb"),
            "--kv-offloading-size",
            *("--no-enable-chunked-prefill", "--quantization", "--num-gpu-blocks-override"),
            *("--max-cudagraph-capture-size", "--cudagraph-capture-sizes", "--compilation-config"),
            *("--mm-processor-cache-gb", "--enable-sleep-mode", "--enable-prompt-embeds"),
        }
    ),
    "TGI": frozenset(
        {
            *("--quantize", "--kv-cache-dtype", "--cuda-memory-fraction", "--validation-workers"),
            *("--enable-prefill-logprobs", "--max-client-batch-size", "--disable-custom-kernels"),
        }
    ),
}
