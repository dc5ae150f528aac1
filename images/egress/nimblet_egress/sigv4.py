# SPDX-License-Identifier: Apache-2.0
"""Signs requests without a body for S3: AWS Signature Version 4 with the signature in a header. Pure.

Source: "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk" of the
Amazon S3 API reference. It must not send anything.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, quote

from nimblet_egress.target import Target

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, repr=False)
class AccessKey:
    """An access key's public id and its secret; `session` goes with temporary ones."""

    key_id: str
    secret: str
    session: str | None = None


def signed_headers(
    target: Target, key: AccessKey, *, region: str, now: datetime, head: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the headers that authorise one GET of `target` at the UTC time `now`; with `head` a HEAD with those.

    The target's path must be percent-encoded as `encoded` does it: S3 signs it as it is sent.
    """
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    extra = {"x-amz-content-sha256": _EMPTY, "x-amz-date": moment, **(head or {})}
    if key.session is not None:
        extra["x-amz-security-token"] = key.session
    signed = {"host": target.authority, **extra}
    names = ";".join(sorted(signed))
    path, _, query = target.path.partition("?")
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join(("GET" if head is None else "HEAD", path, canonical_query(query), lines, names, _EMPTY))
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join((_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    derived = f"AWS4{key.secret}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        derived = _mac(derived, part)
    signature = _mac(derived, text).hex()
    credential = f"{key.key_id}/{scope}"
    value = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return {**extra, "Authorization": value}


def canonical_query(query: str) -> str:
    """Return the query's parameters sorted and encoded for signing."""
    pairs = sorted((encoded(name), encoded(value)) for name, value in parse_qsl(query, keep_blank_values=True))
    return "&".join(f"{name}={value}" for name, value in pairs)


def encoded(text: str, *, keep: str = "") -> str:
    """Percent-encode all but letters, digits, `-._~` and the characters to keep."""
    return quote(text, safe=keep)


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
