# SPDX-License-Identifier: Apache-2.0
"""A resolved model in safetensors, as tests need one: SmolLM2-135M-Instruct by its config.json."""

from collections.abc import Mapping
from typing import Any, Final

from tests.builders import SMOLLM2, artifact_text

LLAMA_SAFETENSORS: Final[Mapping[str, object]] = {
    **SMOLLM2,
    "architecture": "LlamaForCausalLM",
    "tensorBytes": 269030016,
    "tokenEmbeddingBytes": 56623104,
    "mergeCount": None,
    "modelType": "llama",
    "dtype": "bfloat16",
}
FILES: Final = [
    {"path": "config.json", "size": 861, "sha256": "1" * 64},
    {"path": "model.safetensors", "size": 269060552, "sha256": "2" * 64},
    {"path": "tokenizer.json", "size": 2104556, "sha256": "3" * 64},
    {"path": "tokenizer_config.json", "size": 3764, "sha256": "4" * 64},
]


def safetensors_text(*, header: Mapping[str, object] = LLAMA_SAFETENSORS, **overrides: Any) -> str:
    """Return a resolver's result of a safetensors repository as it lies in the ConfigMap."""
    return artifact_text(header=header, **{"format": "Safetensors", "files": FILES, **overrides})
