# SPDX-License-Identifier: Apache-2.0
"""Adapters for SmolLM2 whose memory is measured: e2e's own, and one that reaches every matrix of every layer.

Both are written where they are needed. The numbers of the second are zeros: memory does not depend on them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import gguf
import numpy as np

from e2e.adapter import ALPHA, FEED_FORWARD, WIDTH, write_adapter
from nimblet.plan.artifact import Header
from nimblet_loader.adapter import gguf_adapter_facts
from tests.bench.headers import header_of, parsed

LoraShape = Literal["small", "wide"]
"""`small`: rank 4 on one matrix of 14 layers, half a megabyte; `wide`: rank 64 on seven of all 30, 78 MB."""

LAYERS: Final = 30
KEYS: Final = 192
WIDE_RANK: Final = 64
MATRICES: Final = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, KEYS),
    "attn_v": (WIDTH, KEYS),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (WIDTH, FEED_FORWARD),
    "ffn_up": (WIDTH, FEED_FORWARD),
    "ffn_down": (FEED_FORWARD, WIDTH),
}
"""Name → inputs and outputs of SmolLM2's matrix."""


def write_loras(shapes: Sequence[LoraShape], *, folder: Path) -> list[Path]:
    """Write the adapters, each in a folder of its own as the pod has them, and return their files."""
    files = []
    for number, shape in enumerate(shapes):
        own = folder / f"{shape}-{number}"
        own.mkdir(parents=True)
        files.append(own / f"{shape}.gguf")
        (write_adapter if shape == "small" else write_wide)(files[-1])
    return files


def write_wide(target: Path) -> None:
    """Write the adapter of all matrices as one GGUF file, in f32 as llama.cpp's converter does unasked."""
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for layer in range(LAYERS):
        for name, (inputs, outputs) in MATRICES.items():
            stem = f"blk.{layer}.{name}.weight"
            writer.add_tensor(f"{stem}.lora_a", np.zeros((WIDE_RANK, inputs), dtype=np.float32))
            writer.add_tensor(f"{stem}.lora_b", np.zeros((outputs, WIDE_RANK), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def lora_header(path: Path) -> Header:
    """Return the facts of an adapter's file as the operator gets them from the resolver."""
    return header_of(gguf_adapter_facts(path.name, [parsed(path)]))
