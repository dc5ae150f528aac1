# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities as integers: bytes and millicores. Pure arithmetic."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_SUFFIX: Final = {
    **{suffix: Decimal(10) ** power for suffix, power in (("n", -9), ("u", -6), ("m", -3), ("", 0))},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_QUANTITY: Final = re.compile(
    r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
)

MEBIBYTE: Final = 2**20
GIBIBYTE: Final = 2**30


def decimal_of(text: str) -> Decimal:
    """Return the exact value of a quantity. ValueError names the text when it is none."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"expected a Kubernetes quantity such as 500m or 2Gi, found {text!r}")
    return Decimal(match.group(1)) * _SUFFIX[match.group(2) or ""]


def bytes_of(text: str) -> int:
    """Return a memory or storage quantity in bytes, rounded up."""
    return int(decimal_of(text).to_integral_value(rounding=ROUND_CEILING))


def millicores_of(text: str) -> int:
    """Return a CPU quantity in thousandths of a core, rounded up."""
    return int((decimal_of(text) * 1000).to_integral_value(rounding=ROUND_CEILING))


def mebibytes(count: int) -> str:
    """Return `count` bytes as a whole number of Mi, rounded up: the form our manifests carry."""
    return f"{-(-count // MEBIBYTE)}Mi"


def millicores(count: int) -> str:
    """Return thousandths of a core in the canonical form: whole cores without a suffix."""
    return str(count // 1000) if count % 1000 == 0 else f"{count}m"


def human_bytes(count: int) -> str:
    """Return bytes for people: Mi below one Gi, else Gi with two decimals."""
    return f"{count / MEBIBYTE:.0f}Mi" if count < GIBIBYTE else f"{count / GIBIBYTE:.2f}Gi"
