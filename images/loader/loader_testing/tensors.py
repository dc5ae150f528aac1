# SPDX-License-Identifier: Apache-2.0
"""Writes small safetensors repositories for tests, and headers of large models without their data."""

import json
import struct
from collections.abc import Iterable, Mapping
from math import prod

from nimblet_loader.safetensors import BITS

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""A dtype and a shape by each tensor's name."""

CONFIG: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "vocab_size": 40,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
TENSORS: Shapes = {
    "model.embed_tokens.weight": ("BF16", (40, 64)),
    "model.layers.0.self_attn.k_proj.weight": ("BF16", (32, 64)),
    "lm_head.weight": ("BF16", (40, 64)),
}


def header(tensors: Shapes) -> bytes:
    """Return the beginning of a file with these tensors, up to where their data would begin."""
    told: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + prod(shape) * BITS[dtype] // 8
        told[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(told, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text


def file(tensors: Shapes = TENSORS) -> bytes:
    """Return a whole file; its data is a counting pattern, so that a shifted byte shows."""
    size = sum(prod(shape) * BITS[dtype] // 8 for dtype, shape in tensors.values())
    return header(tensors) + bytes(number % 251 for number in range(size))


def as_json(document: Mapping[str, object]) -> bytes:
    """Return a JSON file."""
    return json.dumps(document).encode()


def repository(parts: Iterable[Shapes] = (TENSORS,), **config: object) -> dict[str, bytes]:
    """Return the files of a whole repository: tensors, configuration, tokenizer; and what is no part of it."""
    tensors = list(parts)
    names = [f"model-{number:05}-of-{len(tensors):05}.safetensors" for number in range(1, len(tensors) + 1)]
    files = {"model.safetensors": file(tensors[0])}
    if len(tensors) > 1:
        files = {name: file(part) for name, part in zip(names, tensors, strict=True)}
        files["model.safetensors.index.json"] = as_json({"metadata": {"total_size": 1}, "weight_map": {}})
    return files | {
        "config.json": as_json({**CONFIG, **config}),
        "generation_config.json": b"{}",
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": as_json({"chat_template": "{{ messages }}"}),
        "vocab.json": b"{}",
        "merges.txt": b"#version: 0.2\n",
        "README.md": b"hello",
        "modeling_llama.py": b"import os",
        "pytorch_model.bin": b"pickle",
        "original/consolidated.00.pth": b"pickle",
    }
