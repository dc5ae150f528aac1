# SPDX-License-Identifier: Apache-2.0
"""Writes a result so that it fits a termination message. Pure.

What is too long as JSON is packed: `{"version":1,"packed":<base64 of the JSON, deflated>}`. Names, keys and
repeated digests shrink to little, so that the bound is 45 bytes or so a digest. What fits as it is stays so.
"""

import base64
import zlib

from pydantic import BaseModel

from nimblet_egress.policy import Contract
from nimblet_loader.contract import MAX_MESSAGE_BYTES, VERSION, encode

_LEVEL = 9


class PackedMessage(Contract):
    """Another message, deflated, in base64."""

    version: int
    packed: str


def to_message(message: BaseModel) -> bytes:
    """Return a message as JSON, packed where it would be cut off otherwise."""
    raw = encode(message)
    if len(raw) <= MAX_MESSAGE_BYTES:
        return raw
    packed = base64.b64encode(zlib.compress(raw, _LEVEL)).decode()
    return encode(PackedMessage(version=VERSION, packed=packed))
