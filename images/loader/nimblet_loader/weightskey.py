# SPDX-License-Identifier: Apache-2.0
"""Where the key of encrypted weights comes from: the guest's key service, or a mounted file. Kept in memory."""

from pathlib import Path
from typing import Final

from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.age import MAX_KEY_BYTES, Identities, parse_identities
from nimblet_loader.cdh import Hub, released
from nimblet_loader.contract import Encryption

KEY_PATH: Final = Path("/etc/nimblet/weights-key/identity")


def weights_key(encryption: Encryption, *, path: Path, hub: Hub) -> Identities:
    """Return the keys that decrypt, or raise SourceError."""
    if encryption.resource is not None:
        content = released(hub, encryption.resource, limit=MAX_KEY_BYTES)
    else:
        content = _mounted(path)
    try:
        return parse_identities(content.decode())
    except UnicodeDecodeError:
        raise SourceError(
            Reason.DecryptionKeyInvalid,
            "Expected age identities as text; found bytes that are none. Store what age-keygen wrote.",
        ) from None  # the error would carry the bytes


def _mounted(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise SourceError(
            Reason.ConfigInvalid,
            f"Expected the key of the weights at {path}; it can't be read ({error.strerror}). Check the pod's "
            "mounts.",
        ) from error
    if len(content) > MAX_KEY_BYTES:
        raise SourceError(
            Reason.DecryptionKeyInvalid,
            f"Expected at most {MAX_KEY_BYTES} bytes of key; the mounted file has more. Store the identities "
            "alone.",
        )
    return content
