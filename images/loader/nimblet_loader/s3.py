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
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from nimblet_loader.client import Answer, Client
from nimblet_loader.connector import Body, Snapshot, Span, open_http, status_error
from nimblet_loader.contract import S3Policy
from nimblet_loader.errors import LoaderError, Reason, quoted
from nimblet_loader.selection import Entry
from nimblet_loader.sigv4 import encoded, signed_headers
from nimblet_loader.target import Target

_URI = re.compile(r"^s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?$")
_LISTING_BYTES = 4 * 2**20
_MAX_OBJECTS = 10_000
_OK, _FORBIDDEN, _NOT_FOUND, _PRECONDITION_FAILED = 200, 403, 404, 412


_WITH_CHECKSUM = {"x-amz-checksum-mode": "ENABLED"}
_CHECKSUM = re.compile(r"^[A-Za-z0-9+/]{43}=$")
"""32 bytes in base64; an object in several parts has a checksum of checksums, which goes on with a hyphen."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def s3_endpoint(policy: S3Policy) -> str:
    """Return the administrator's S3 endpoint, Amazon's of the region if none is set."""
    return (policy.endpoint or f"https://s3.{policy.region}.amazonaws.com").rstrip("/")


class S3Connector:
    """One prefix of a bucket, or one object; `now` is the clock that requests are signed with."""

    def __init__(
        self, client: Client, policy: S3Policy, *, uri: str, now: Callable[[], datetime] = _utc_now
    ) -> None:
        found = _URI.match(uri)
        if found is None or any(part in (".", "..") for part in (found[2] or "").split("/")):
            raise LoaderError(
                Reason.ConfigInvalid,
                f"Expected a source of the form s3://bucket/prefix; found {quoted(uri)}. Correct it.",
            )
        self._client = client
        self._region = policy.region
        self._endpoint = s3_endpoint(policy)
        self._bucket = found[1]
        key = (found[2] or "").rstrip("/")
        self._single = key.lower().endswith(".gguf")
        folder = key.rpartition("/")[0] if self._single else key
        self._folder = f"{folder}/" if folder else ""
        self._asked = key if self._single else self._folder
        self._now = now

    def snapshot(self) -> Snapshot:
        """List the objects below the prefix, page by page."""
        entries: list[Entry] = []
        token: str | None = ""
        while token is not None:
            page, token = self._page(token)
            entries += page
            if len(entries) > _MAX_OBJECTS:
                raise LoaderError(
                    Reason.TooManyFiles,
                    f"Expected at most {_MAX_OBJECTS} objects below {self._shown}; there are more. "
                    "Use a longer prefix.",
                )
        if not entries:
            raise LoaderError(
                Reason.RepositoryNotFound,
                f"Expected objects below {self._shown}; the bucket has none there. Correct source.uri.",
            )
        return Snapshot(None, tuple(entries))

    def measure(self, entry: Entry) -> Entry:
        """Ask for the object's own SHA-256, which it has if it was uploaded in one piece with that checksum."""
        headers = {**self._pin(entry.tag), **_WITH_CHECKSUM}
        with self._client.head(self._url(entry.path), headers, sign=self._sign_head) as answer:
            if answer.last.status != _OK:
                raise self._object_error(answer, entry.path)
            return replace(entry, sha256=_checksum(answer.last.headers))

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:  # noqa: ARG002 - a bucket has none
        """Open an object, if it is still the one of the span's tag."""
        url, headers = self._url(path), self._pin(span.tag)

        def explain(answer: Answer) -> LoaderError:
            return self._object_error(answer, path)

        plain = replace(span, tag=None)  # If-Match says more than the If-Range that a tag would become
        with open_http(self._client, url, span=plain, explain=explain, headers=headers, sign=self._sign) as opened:
            yield opened[1]

    def _url(self, path: str) -> str:
        return f"{self._endpoint}/{self._bucket}/{encoded(self._folder + path, keep='/')}"

    @staticmethod
    def _pin(tag: str | None) -> dict[str, str]:
        return {} if tag is None else {"If-Match": tag}

    def _object_error(self, answer: Answer, path: str) -> LoaderError:
        if answer.last.status == _PRECONDITION_FAILED:
            return LoaderError(
                Reason.SourceChanged,
                f"Expected {quoted(path)} of {self._shown} as it was when it was resolved; it was replaced. "
                "Resolve the source again, and give integrity.sha256 to pin it.",
            )
        return self._error(answer, f"{quoted(path)} of {self._shown}")

    @property
    def _shown(self) -> str:
        return f"s3://{self._bucket}/{self._asked}"

    def _page(self, token: str) -> tuple[list[Entry], str | None]:
        query = {"list-type": "2", "max-keys": "1000", "prefix": self._asked}
        if token:
            query["continuation-token"] = token
        pairs = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in sorted(query.items()))
        with self._client.get(f"{self._endpoint}/{self._bucket}?{pairs}", sign=self._sign) as answer:
            if answer.last.status != _OK:
                raise self._listing_error(answer)
            root = self._parse(answer.text(_LISTING_BYTES))
        entries = [entry for item in root.findall("{*}Contents") if (entry := self._entry(item)) is not None]
        more = (root.findtext("{*}IsTruncated") or "").strip() == "true"
        following = root.findtext("{*}NextContinuationToken")
        if more and (not following or following == token):
            raise self._odd("it goes on without telling how")
        return entries, following if more else None

    def _entry(self, item: ET.Element) -> Entry | None:
        key, size, tag = (item.findtext(f"{{*}}{name}") or "" for name in ("Key", "Size", "ETag"))
        if not key.startswith(self._asked) or (self._single and key != self._asked) or key.endswith("/"):
            return None
        if not size.isdecimal():
            raise self._odd(f"{quoted(key)} has the size {quoted(size, limit=40)}")
        tag = f'"{tag.strip(chr(34))}"' if tag else ""
        return Entry(key.removeprefix(self._folder), int(size), None, tag or None)

    def _parse(self, raw: bytes) -> ET.Element:
        if b"<!" in raw:  # a listing has no document type, and entities are how XML explodes
            raise self._odd("it holds a document type")
        try:
            root = ET.fromstring(raw)  # noqa: S314 - bounded, and without entities as checked above
        except ET.ParseError as error:
            raise self._odd("it is not XML") from error
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            raise self._odd(f"it is a {quoted(root.tag, limit=60)}")
        return root

    def _sign(self, target: Target) -> dict[str, str]:
        return self._signed(target, head=None)

    def _sign_head(self, target: Target) -> dict[str, str]:
        return self._signed(target, head=_WITH_CHECKSUM)

    def _signed(self, target: Target, *, head: dict[str, str] | None) -> dict[str, str]:
        key = self._client.credentials.access_key
        if key is None or not self._client.credentials.may_see(target):
            return {}
        return signed_headers(target, key, region=self._region, now=self._now(), head=head)

    def _listing_error(self, answer: Answer) -> LoaderError:
        if answer.last.status == _NOT_FOUND:
            return LoaderError(
                Reason.RepositoryNotFound,
                f"Expected the bucket {quoted(self._bucket)} at {answer.hops[0].target.authority}; it knows none "
                "of that name. Correct source.uri.",
            )
        return self._error(answer, f"the listing of {self._shown}")

    def _error(self, answer: Answer, what: str) -> LoaderError:
        if answer.last.status == _FORBIDDEN and answer.hops[-1].authorized:
            return LoaderError(
                Reason.AccessDenied,
                f"Expected access to {what}; the server refuses the access key. Check the Secret's keys, the "
                "administrator's region, and that the key may list and read there.",
            )
        return status_error(answer, what=what)

    def _odd(self, found: str) -> LoaderError:
        return LoaderError(
            Reason.UnexpectedResponse,
            f"Expected the listing of {self._shown}; {found}. Check the administrator's S3 endpoint.",
        )


def _checksum(headers: Mapping[str, str]) -> str | None:
    found = headers.get("x-amz-checksum-sha256", "")
    composite = headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT"
    return None if composite or not _CHECKSUM.match(found) else b64decode(found).hex()
