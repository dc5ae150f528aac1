# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter for SmolLM2, written and never trained: it changes what the model says, for tests alone.

Its numbers are fractions of powers of two out of a fixed rule, so that the file is the same wherever it is made.
Names of keys and tensors: llama.cpp b11434, src/llama-adapter.cpp. Run `python -m e2e.adapter FILE` to write one.
"""

import sys
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

REPO: Final = "nimblet-tests/smollm2-lora-GGUF"
TAMPERED_REPO: Final = "nimblet-tests/smollm2-lora-tampered-GGUF"
"""The same on the mirror, which changes a byte of it on its way."""
FILE: Final = "smollm2-lora.gguf"
SHA256: Final = "940feef81309b42432c193d60a4eead38077dc98f606b2af0126d013ca98f650"
RANK: Final = 4
ALPHA: Final = 8.0
WIDTH: Final = 576
FEED_FORWARD: Final = 1536
LAYERS: Final = range(8, 22)
_PRIME, _OTHER, _MODULUS = 7919, 104_729, 257
_FIRST_SCALE, _SECOND_SCALE = 2.0**-12, 2.0**-9
"""Of the two matrices: strong enough that greedy answers differ, weak enough that they are still words."""


def write_adapter(target: Path) -> None:
    """Write the adapter as one GGUF file."""
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", ALPHA)
    for layer in LAYERS:
        stem = f"blk.{layer}.ffn_down.weight"
        writer.add_tensor(f"{stem}.lora_a", _matrix(RANK, FEED_FORWARD, seed=layer) * np.float32(_FIRST_SCALE))
        writer.add_tensor(f"{stem}.lora_b", _matrix(WIDTH, RANK, seed=layer + 100) * np.float32(_SECOND_SCALE))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _matrix(rows: int, columns: int, *, seed: int) -> NDArray[np.float32]:
    """Return whole numbers from -128 to 128 that follow no line."""
    row, column = np.arange(rows, dtype=np.int64)[:, None], np.arange(columns, dtype=np.int64)[None, :]
    mixed = (row + seed) * _PRIME + (column + 1) * _OTHER + (row * column + seed) ** 2
    return (mixed % _MODULUS - _MODULUS // 2).astype(np.float32)


if __name__ == "__main__":
    write_adapter(Path(sys.argv[1]))
