# SPDX-License-Identifier: Apache-2.0
"""The connector for `s3://bucket/prefix`: objects of a bucket at the administrator's endpoint, in path style.

A bucket has no commits, so each file is pinned by its ETag: every request names it, and a server refuses with 412
when the object was replaced. Where an object carries its SHA-256, that is its digest.
It must not write, and asks for nothing outside its prefix.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from nimblet_egress.bucket import WITH_CHECKSUM, Bucket, utc_now
from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.policy import S3Policy
from nimblet_loader.connector import Body, Snapshot, Span, open_http
from nimblet_loader.selection import Entry

_URI = re.compile(r"^s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?$")
_MAX_OBJECTS = 10_000
_OK, _PRECONDITION_FAILED = 200, 412
_CHECKSUM = re.compile(r"^[A-Za-z0-9+/]{43}=$")
"""32 bytes in base64; an object in several parts has a checksum of checksums, which goes on with a hyphen."""


class S3Connector:
    """One prefix of a bucket, or one object; `now` is the clock that requests are signed with."""

    def __init__(
        self, client: Client, policy: S3Policy, *, uri: str, now: Callable[[], datetime] = utc_now
    ) -> None:
        found = _URI.match(uri)
        if found is None or any(part in (".", "..") for part in (found[2] or "").split("/")):
            raise SourceError(
                Reason.ConfigInvalid,
                f"Expected a source of the form s3://bucket/prefix; found {quoted(uri)}. Correct it.",
            )
        self._client = client
        key = (found[2] or "").rstrip("/")
        self._single = key.lower().endswith(".gguf")
        folder = key.rpartition("/")[0] if self._single else key
        self._folder = f"{folder}/" if folder else ""
        self._asked = key if self._single else self._folder
        self._bucket = Bucket(client, policy, name=found[1], asked=self._asked, now=now)

    def snapshot(self) -> Snapshot:
        """List the objects below the prefix, page by page."""
        entries: list[Entry] = []
        for item in self._bucket.objects():
            if self._single and item.key != self._asked:
                continue
            entries.append(Entry(item.key.removeprefix(self._folder), item.size, None, item.tag or None))
            if len(entries) > _MAX_OBJECTS:
                raise SourceError(
                    Reason.TooManyFiles,
                    f"Expected at most {_MAX_OBJECTS} objects below {self._bucket.shown}; there are more. "
                    "Use a longer prefix.",
                )
        if not entries:
            raise SourceError(
                Reason.RepositoryNotFound,
                f"Expected objects below {self._bucket.shown}; the bucket has none there. Correct source.uri.",
            )
        return Snapshot(None, tuple(entries))

    def measure(self, entry: Entry) -> Entry:
        """Ask for the object's own SHA-256, which it has if it was uploaded in one piece with that checksum."""
        headers = {**self._pin(entry.tag), **WITH_CHECKSUM}
        with self._client.head(self._url(entry.path), headers, sign=self._bucket.sign_head) as answer:
            if answer.last.status != _OK:
                raise self._object_error(answer, entry.path)
            return replace(entry, sha256=_checksum(answer.last.headers))

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:  # noqa: ARG002 - a bucket has none
        """Open an object, if it is still the one of the span's tag."""
        url, headers = self._url(path), self._pin(span.tag)

        def explain(answer: Answer) -> SourceError:
            return self._object_error(answer, path)

        sign = self._bucket.sign
        plain = replace(span, tag=None)  # If-Match says more than the If-Range that a tag would become
        with open_http(self._client, url, span=plain, explain=explain, headers=headers, sign=sign) as opened:
            yield opened[1]

    def _url(self, path: str) -> str:
        return self._bucket.url(self._folder + path)

    @staticmethod
    def _pin(tag: str | None) -> dict[str, str]:
        return {} if tag is None else {"If-Match": tag}

    def _object_error(self, answer: Answer, path: str) -> SourceError:
        if answer.last.status == _PRECONDITION_FAILED:
            return SourceError(
                Reason.SourceChanged,
                f"Expected {quoted(path)} of {self._bucket.shown} as it was when it was resolved; it was "
                "replaced. Resolve the source again, and give integrity.sha256 to pin it.",
            )
        return self._bucket.error(answer, f"{quoted(path)} of {self._bucket.shown}")


def _checksum(headers: Mapping[str, str]) -> str | None:
    found = headers.get("x-amz-checksum-sha256", "")
    composite = headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT"
    return None if composite or not _CHECKSUM.match(found) else b64decode(found).hex()
