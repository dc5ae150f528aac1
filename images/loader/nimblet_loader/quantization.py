# SPDX-License-Identifier: Apache-2.0
"""What the names of GGUF files tell: the quantization, and what is no model at all. Pure; reads no file.

Publishers name files freely; these are the forms of the large ones: `m-Q4_K_M.gguf`, `m.q4_k_m.gguf`,
`Q4_K_M/m.gguf`, `m-UD-Q4_K_XL.gguf` (dynamic quants), `m.i1-IQ3_XS.gguf`, `m-fp16.gguf`, `m-q4.gguf`.
"""

import re
from typing import Final

_LABEL: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:UD-)?(?:I?Q[1-9](?:_[A-Za-z0-9]+)*|TQ[12]_0|BF16|FP?(?:16|32)|MXFP4(?:_MOE)?|NVFP4)"
    r"(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
_DYNAMIC: Final = "UD-"
_PROJECTOR: Final = re.compile(r"(?<![a-z])mmproj(?![a-z])")
_DRAFTER: Final = re.compile(r"^(mtp|eagle3|dflash)-")
_VOCABULARY: Final = re.compile(r"^ggml-vocab-")
_IMATRIX: Final = re.compile(r"(?<![a-z])imatrix(?![a-z])")


def label_of(path: str) -> str:
    """Return the quantization that a path names last, in upper case; "" where it names none."""
    found = _LABEL.findall(path)
    return found[-1].upper() if found else ""


def has_quantization(path: str, quantization: str) -> bool:
    """Tell whether a path names exactly this quantization: Q4_K is not in model-Q4_K_M.gguf."""
    pattern = rf"(?<![A-Za-z0-9]){re.escape(quantization)}(?![A-Za-z0-9_])"
    return re.search(pattern, path, re.IGNORECASE) is not None


def is_dynamic(path: str) -> bool:
    """Tell whether a path names a dynamic quant (`UD-`), which may lie beside the plain one of the same name."""
    return label_of(path).startswith(_DYNAMIC)


def is_companion(path: str) -> bool:
    """Tell whether a GGUF file is no model by its name: a projector, a drafter, a vocabulary, statistics.

    `imatrix` is also part of the names of models that were quantized with one: those name a quantization.
    """
    name = path.rsplit("/", 1)[-1].lower()
    if _PROJECTOR.search(name) or _DRAFTER.search(name) or _VOCABULARY.search(name):
        return True
    return _IMATRIX.search(name) is not None and not label_of(name)
