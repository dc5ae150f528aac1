# SPDX-License-Identifier: Apache-2.0
"""What every source of models can do: list one pinned snapshot, and open a file of it at an offset.

A new kind of source is one class that meets `Connector` and one line in `connectors.py`; resolve, fetch and the
conformance tests then hold for it. A connector reports what the source says; it must not trust or retry.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from nimblet_egress.client import Answer, Client, Sign
from nimblet_egress.errors import Reason, SourceError
from nimblet_loader.selection import Entry

_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")
_OK, _PARTIAL, _RANGE_REFUSED = 200, 206, 416


@dataclass(frozen=True)
class Snapshot:
    """One immutable state of a source: its commit (None if it has none) and the files in it."""

    commit: str | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Body:
    """A file's bytes from `start` on. `total` is the file's size, `tag` its strong validator, where told.

    `linked_sha256` and `linked_size` are what a hub says about the file that it leads to.
    """

    start: int
    total: int | None
    tag: str | None
    chunks: Callable[[], Iterator[bytes]]
    linked_sha256: str | None = None
    linked_size: int | None = None


@dataclass(frozen=True)
class Span:
    """Which bytes are wanted: from `start` to before `stop` (None = to the end), if the tag still holds."""

    start: int = 0
    stop: int | None = None
    tag: str | None = None


class Connector(Protocol):
    """One source. `snapshot` and `measure` are for resolving; `open` serves both resolving and fetching."""

    def snapshot(self) -> Snapshot:
        """Pin the source and list its files."""
        ...

    def measure(self, entry: Entry) -> Entry:
        """Complete a chosen file's size or digest by what only a further look at it tells, if there is such."""
        ...

    def open(self, path: str, *, commit: str, span: Span) -> AbstractContextManager[Body]:
        """Open a file of the pinned snapshot; the body may begin at 0 where the source refuses to resume."""
        ...


Explain = Callable[[Answer], SourceError]


@contextmanager
def open_http(
    client: Client,
    url: str,
    *,
    span: Span,
    explain: Explain,
    headers: Mapping[str, str] | None = None,
    sign: Sign | None = None,
) -> Iterator[tuple[Answer, Body]]:
    """Open `url` at a span; `explain` turns any status but success into the source's own error."""
    with client.get(url, {**(headers or {}), **_range_headers(span)}, sign=sign) as answer:
        status = answer.last.status
        if status == _RANGE_REFUSED:
            raise SourceError(
                Reason.SourceChanged,
                f"Expected {answer.last.target.shown} to have more than {span.start} bytes; it has not: it "
                "changed. Resolve the source again.",
            )
        if status not in (_OK, _PARTIAL):
            raise explain(answer)
        start, total = _extent(answer, span)
        tag = _strong_tag(answer.last.headers)
        chunks = answer.bulk if span.stop is None else answer.chunks
        yield answer, Body(start=start, total=total, tag=tag, chunks=chunks)


def tag_error(error: SourceError, answer: Answer, *, shown: str) -> SourceError:
    """Return the error of a registry's manifest: what is not there is the name or the tag, not a file."""
    if error.reason is not Reason.FileNotFound:
        return error
    return SourceError(
        Reason.RepositoryNotFound,
        f"Expected {shown} at {answer.hops[0].target.authority}; the registry knows none of that "
        "name and tag. Correct source.uri.",
    )


def _range_headers(span: Span) -> dict[str, str]:
    if span.start == 0 and span.stop is None:
        return {}
    last = "" if span.stop is None else str(span.stop - 1)
    headers = {"Range": f"bytes={span.start}-{last}"}
    if span.tag is not None:
        headers["If-Range"] = span.tag
    return headers


def _extent(answer: Answer, span: Span) -> tuple[int, int | None]:
    headers = answer.last.headers
    if answer.last.status == _OK:
        length = headers.get("content-length", "")
        return 0, int(length) if length.isdecimal() else None
    found = _CONTENT_RANGE.match(headers.get("content-range", "").strip())
    if found is None or int(found[1]) != span.start:
        raise SourceError(
            Reason.UnexpectedResponse,
            f"Expected bytes from {span.start} on of {answer.last.target.shown}; it answered with the range "
            f'"{headers.get("content-range", "none")[:60]}". Check the source, or a proxy before it.',
        )
    return span.start, None if found[3] == "*" else int(found[3])


def _strong_tag(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("etag", "")
    return tag if tag.startswith('"') and len(tag) <= 256 else None  # noqa: PLR2004
