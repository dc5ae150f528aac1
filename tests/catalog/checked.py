# SPDX-License-Identifier: Apache-2.0
"""Shapes as others tell them, looked up apart from the records: what a slip in a record is found by. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LITGPT: Final = "litgpt/config.py of LitGPT 0.5.13 (Lightning-AI/litgpt)"


Sizes = tuple[int, int, int, int, int, int, int]
"""Width, layers, heads, heads of keys and values, length of a head, width of the feed-forward, context."""


@dataclass(frozen=True)
class Told:
    """A shape, and who tells it."""

    source: str
    sizes: Sizes
    differs: str = ""
    """Why the record has another context: it is then the record's source that counts."""


def _litgpt(sizes: Sizes, *, differs: str = "") -> Told:
    return Told(LITGPT, sizes, differs)


def _config(repository: str, sizes: Sizes) -> Told:
    """Return what config.json of a repository says: the model's own, or one that was made of it."""
    return Told(f"config.json of {repository}", sizes)


_GEMMA_1B: Final = "LitGPT has one context for the family; the card of the 1B, and its config.json, say 32K"
_YARN: Final = "LitGPT tells the context with YaRN; config.json has it off, and 32,768"

SHAPES: Final[Mapping[str, Told]] = {
    "llama-2-7b-chat": _litgpt((4096, 32, 32, 32, 128, 11008, 4096)),
    "llama-2-13b-chat": _litgpt((5120, 40, 40, 40, 128, 13824, 4096)),
    "llama-3.1-8b": _litgpt((4096, 32, 32, 8, 128, 14336, 131072)),
    "llama-3.2-3b": _litgpt((3072, 28, 24, 8, 128, 8192, 131072)),
    "llama-3.2-1b": _litgpt((2048, 16, 32, 8, 64, 8192, 131072)),
    "falcon-7b": _litgpt((4544, 32, 71, 1, 64, 18176, 2048)),
    "falcon3-7b": _litgpt((3072, 28, 12, 4, 256, 23040, 32768)),
    "deepseek-r1-distill-llama-8b": _litgpt((4096, 32, 32, 8, 128, 14336, 131072)),
    "smollm2-1.7b": _litgpt((2048, 24, 32, 32, 64, 8192, 8192)),
    "mistral-7b": _litgpt((4096, 32, 32, 8, 128, 14336, 32768)),
    "mixtral-8x7b": _litgpt((4096, 32, 32, 8, 128, 14336, 32768)),
    "phi-1.5": _litgpt((2048, 24, 32, 32, 64, 8192, 2048)),
    "phi-3-mini": _litgpt((3072, 32, 32, 32, 96, 8192, 4096)),
    "phi-4": _litgpt((5120, 40, 40, 10, 128, 17920, 16384)),
    "phi-4-mini": _litgpt((3072, 32, 24, 8, 128, 8192, 131072)),
    "gemma-2-2b": _litgpt((2304, 26, 8, 4, 256, 9216, 8192)),
    "gemma-2-9b": _litgpt((3584, 42, 16, 8, 256, 14336, 8192)),
    "gemma-3-1b": _litgpt((1152, 26, 4, 1, 256, 6912, 131072), differs=_GEMMA_1B),
    "gemma-3-4b": _litgpt((2560, 34, 8, 4, 256, 10240, 131072)),
    "gemma-3-12b": _litgpt((3840, 48, 16, 8, 256, 15360, 131072)),
    "qwen2.5-7b": _litgpt((3584, 28, 28, 4, 128, 18944, 131072), differs=_YARN),
    "qwen2.5-14b": _litgpt((5120, 48, 40, 8, 128, 13824, 131072), differs=_YARN),
    "qwen3-4b": _litgpt((2560, 36, 32, 8, 128, 9728, 40960)),
    "qwen3-8b": _litgpt((4096, 36, 32, 8, 128, 12288, 40960)),
    "qwen3-14b": _litgpt((5120, 40, 40, 8, 128, 17408, 40960)),
    "orca-2-13b": _config("microsoft/Orca-2-13b (commit 0b6a669)", (5120, 40, 40, 40, 128, 13824, 4096)),
    "vicuna-13b": _config("TheBloke/vicuna-13B-v1.5-GPTQ (commit 2703483)", (5120, 40, 40, 40, 128, 13824, 4096)),
    "koala-13b": _config("disarmyouwitha/koala13b_test (commit 2a92bce)", (5120, 40, 40, 40, 128, 13824, 2048)),
    "mistral-nemo-12b": _config(
        "riple-saanvi-lab/Saanvi-C0-12B (commit 24077ff), made of it", (5120, 40, 32, 8, 128, 14336, 131072)
    ),
    "neural-chat-7b": _config(
        "predictionguard/neural-chat-logic (commit c07a89d), made of it", (4096, 32, 32, 8, 128, 14336, 32768)
    ),
    "granite-3.3-8b": _config(
        "huihui-ai/granite-3.2-8b-instruct-abliterated, the 3.2 of the same shape",
        (4096, 40, 32, 8, 128, 12800, 131072),
    ),
    "mpt-7b": _config(
        "debisoft/mpt-7b-merged (commit 5c48a24), made of mpt-7b-8k", (4096, 32, 32, 32, 128, 16384, 8192)
    ),
    "chatglm3-6b": _config("THUDM/chatglm3-6b (commit d4cd7d0)", (4096, 28, 32, 2, 128, 13696, 8192)),
    "clinical-camel-70b": _config(
        "Xwin-LM/Xwin-LM-70B-V0.1 (commit 8fe10b5), made of the same Llama 2 70B",
        (8192, 80, 64, 8, 128, 28672, 4096),
    ),
}
"""By the entry's name. Looked up on 2026-11-23 in stored copies of the hub's pages and LitGPT's package."""
