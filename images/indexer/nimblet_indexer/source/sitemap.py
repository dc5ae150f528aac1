# SPDX-License-Identifier: Apache-2.0
"""Reads sitemaps: addresses of pages, or of further sitemaps. Pure; bounded, and without entities.

Source: the sitemaps.org protocol 0.9, with its limits of 50,000 addresses and 50 MiB.
"""

import gzip
import io
from dataclasses import dataclass
from typing import Final

from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.plainxml import PARSE_ERRORS, HasDocumentType, parse_plain

MAX_BYTES: Final = 50 * 2**20
MAX_URLS: Final = 50_000
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class Sitemap:
    """Addresses as they stand there."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


def parse_sitemap(raw: bytes, *, shown: str) -> Sitemap:
    """Return a sitemap's addresses. SourceError UnexpectedResponse when it is none; `shown` names it."""
    data = _unpacked(raw, shown=shown)
    try:
        root = parse_plain(data)
    except HasDocumentType as error:
        raise _odd(shown, "it holds a document type") from error
    except PARSE_ERRORS as error:
        raise _odd(shown, "it is not XML") from error
    kind = root.tag.rpartition("}")[2]
    found = tuple(text for item in root.iterfind("{*}*/{*}loc") if (text := (item.text or "").strip()))[:MAX_URLS]
    if kind == "urlset":
        return Sitemap(pages=found)
    if kind == "sitemapindex":
        return Sitemap(sitemaps=found)
    raise _odd(shown, f"it is a {quoted(kind, limit=60)}")


def _unpacked(raw: bytes, *, shown: str) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise _odd(shown, "it is a damaged gzip file") from error
    if len(data) > MAX_BYTES:
        raise _odd(shown, f"it unpacks to more than {MAX_BYTES // 2**20} MiB")
    return data


def _odd(shown: str, found: str) -> SourceError:
    return SourceError(
        Reason.UnexpectedResponse,
        f"Expected a sitemap at {shown}; {found}. Give the address of a sitemap, or a list of urls.",
    )
