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

from nimblet_loader.client import Answer, Client, Sign
from nimblet_loader.errors import LoaderError, Reason
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


Explain = Callable[[Answer], LoaderError]


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
            raise LoaderError(
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


def status_error(answer: Answer, *, what: str) -> LoaderError:
    """Return the error that a status means for any HTTP source; `what` names the thing asked for."""
    status, shown = answer.last.status, answer.last.target.shown
    place = f"{shown} answered {status}"
    if status == 401 and any(hop.authorized for hop in answer.hops):  # noqa: PLR2004
        return LoaderError(
            Reason.TokenInvalid,
            f"Expected the token to be accepted for {what}; {place}. Put a valid token into the Secret.",
        )
    if status in (401, 403):
        return LoaderError(Reason.AccessDenied, f"Expected access to {what}; {place}. {_access_hint(answer)}")
    if status in (404, 410):
        return LoaderError(Reason.FileNotFound, f"Expected {what}; {place}. Correct the source.")
    if status == 429:  # noqa: PLR2004
        return LoaderError(
            Reason.RateLimited,
            f"Expected {what}; {place}: too many requests. It is tried again; a token raises most limits.",
            retry_after=answer.retry_after(),
        )
    if status >= 500 or status in (408, 425):  # noqa: PLR2004
        return LoaderError(
            Reason.SourceUnavailable,
            f"Expected {what}; {place}. It is tried again; if it goes on, see the source's status.",
            retry_after=answer.retry_after(),
        )
    return LoaderError(
        Reason.UnexpectedResponse, f"Expected {what}; {place}. Check the source, or a proxy before it."
    )


def tag_error(error: LoaderError, answer: Answer, *, shown: str) -> LoaderError:
    """Return the error of a registry's manifest: what is not there is the name or the tag, not a file."""
    if error.reason is not Reason.FileNotFound:
        return error
    return LoaderError(
        Reason.RepositoryNotFound,
        f"Expected {shown} at {answer.hops[0].target.authority}; the registry knows none of that "
        "name and tag. Correct source.uri.",
    )


def _access_hint(answer: Answer) -> str:
    if any(hop.authorized for hop in answer.hops):
        return "Give the token's owner access."
    return (
        "No credential was sent: reference a Secret with a token, and name "
        f'"{answer.hops[0].target.authority}" in the Secret\'s annotation of hosts.'
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
        raise LoaderError(
            Reason.UnexpectedResponse,
            f"Expected bytes from {span.start} on of {answer.last.target.shown}; it answered with the range "
            f'"{headers.get("content-range", "none")[:60]}". Check the source, or a proxy before it.',
        )
    return span.start, None if found[3] == "*" else int(found[3])


def _strong_tag(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("etag", "")
    return tag if tag.startswith('"') and len(tag) <= 256 else None  # noqa: PLR2004
