# SPDX-License-Identifier: Apache-2.0
"""What the exit codes of the loader's programs mean: of a confidential guest often nothing else comes out. Pure.

The loader owns the numbers (nimblet_egress.errors); a contract test holds both together. None is ever used again
for another reason: models keep their loader over an upgrade.
"""

from collections.abc import Mapping
from typing import Final

from nimblet.conditions import Reason
from nimblet.manifests.loader import ADAPTER_LOADER, DRAFT_LOADER

LOADER_REASONS: Final[Mapping[int, Reason]] = {
    10: Reason.CONFIG_INVALID,
    11: Reason.INTERNAL,
    12: Reason.HOST_NOT_ALLOWED,
    13: Reason.REDIRECT_REFUSED,
    14: Reason.UNSAFE_PATH,
    15: Reason.DIGEST_REQUIRED,
    16: Reason.SIGNATURE_MISMATCH,
    17: Reason.UNSIGNED_FILE,
    18: Reason.SIGNED_FILE_MISSING,
    19: Reason.UNSAFE_FORMAT,
    20: Reason.REPOSITORY_NOT_FOUND,
    21: Reason.REVISION_NOT_FOUND,
    22: Reason.FILE_NOT_FOUND,
    23: Reason.QUANTIZATION_NOT_FOUND,
    24: Reason.QUANTIZATION_AMBIGUOUS,
    25: Reason.TOO_MANY_FILES,
    26: Reason.FILE_TOO_LARGE,
    28: Reason.PART_MISSING,
    27: Reason.NOT_AN_ADAPTER,
    30: Reason.ACCESS_DENIED,
    31: Reason.GATED_REPOSITORY,
    32: Reason.TOKEN_INVALID,
    33: Reason.NOT_ENCRYPTED,
    34: Reason.ENCRYPTION_MANIFEST_INVALID,
    35: Reason.ENCRYPTION_MANIFEST_MISMATCH,
    36: Reason.DECRYPTION_KEY_INVALID,
    37: Reason.DECRYPTION_KEY_MISMATCH,
    38: Reason.KEY_NOT_RELEASED,
    40: Reason.RATE_LIMITED,
    41: Reason.SOURCE_UNAVAILABLE,
    42: Reason.DOWNLOAD_STALLED,
    43: Reason.SOURCE_CHANGED,
    44: Reason.UNEXPECTED_RESPONSE,
    45: Reason.DOWNLOAD_TRUNCATED,
    46: Reason.KEY_SERVICE_UNAVAILABLE,
    47: Reason.CIPHERTEXT_DAMAGED,
    48: Reason.CIPHERTEXT_TRUNCATED,
    50: Reason.DIGEST_MISMATCH,
    51: Reason.SIZE_MISMATCH,
    52: Reason.NOT_GGUF,
    53: Reason.HEADER_INVALID,
    54: Reason.UNSUPPORTED_FORMAT,
    55: Reason.DISK_FULL,
    56: Reason.CACHE_CORRUPTED,
    57: Reason.SIGNATURE_INVALID,
    58: Reason.SIGNER_MISMATCH,
    59: Reason.CERTIFICATE_EXPIRED,
}
READERS: Final = frozenset({"loader", "resolver", "filler", DRAFT_LOADER})
"""Containers that run the loader's image, beside those of adapters."""


def adapter_of(container: str) -> str | None:
    """Return the adapter that a container fetches, None for any other container."""
    name = container.removeprefix(ADAPTER_LOADER)
    return name if name != container else None


def reason_of(container: str, exit_code: int | None) -> Reason | None:
    """Return why a container of the loader's image ended, None where the code is not one of its own."""
    reads = container in READERS or adapter_of(container) is not None
    return LOADER_REASONS.get(exit_code or 0) if reads else None
