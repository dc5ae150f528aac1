# SPDX-License-Identifier: Apache-2.0
"""Whether a pre-built initdata document is the one that a policy names. Pure.

Of its content only the name of its hash is looked at.

The annotation's value is base64 of gzip of TOML (Trustee, kbs/docs/initdata.md).
"""

import base64
import binascii
import hashlib
import tomllib
import zlib
from typing import Final

GZIP: Final = 16 + zlib.MAX_WBITS
"""zlib's word for: with a gzip header."""
MAX_TEXT: Final = 256 * 1024
"""Kubernetes takes no more annotations of one object."""
MAX_DOCUMENT: Final = 1024 * 1024
"""A document that unfolds to more is no configuration."""


ALGORITHMS: Final = frozenset({"sha256", "sha384", "sha512"})


def initdata_flaw(text: str | None, *, sha256: str) -> str:
    """Return what is wrong with the annotation's value, "" where its document has the digest."""
    if text is None:
        return "is not there"
    document = _unfolded(text)
    if isinstance(document, str):
        return document
    found = hashlib.sha256(document).hexdigest()
    return "" if found == sha256 else f"has the SHA-256 {found}, and the policy names {sha256}"


def measured(text: str) -> str | None:
    """Return the digest that the hardware holds, by the algorithm that the document names; None without one."""
    document = _unfolded(text)
    if isinstance(document, str):
        return None
    try:
        algorithm = tomllib.loads(document.decode()).get("algorithm")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return None
    return hashlib.new(algorithm, document).hexdigest()


def _unfolded(text: str) -> bytes | str:
    """Return the document, or what is wrong with the annotation's value."""
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    try:
        packed = base64.b64decode(text.encode("ascii", errors="replace"), validate=True)
        unfolding = zlib.decompressobj(GZIP)
        document = unfolding.decompress(packed, MAX_DOCUMENT)
    except (binascii.Error, zlib.error):
        return "is not base64 of gzip"
    if not unfolding.eof:
        return f"is cut, or unfolds to more than {MAX_DOCUMENT} bytes"
    if unfolding.unused_data:
        return "holds more than one document"
    return document
