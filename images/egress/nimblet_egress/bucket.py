# SPDX-License-Identifier: Apache-2.0
"""One bucket of an S3 service at the administrator's endpoint, in path style: listings and signed requests.

It must not write, and asks for nothing but what it is told to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET

from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.plainxml import PARSE_ERRORS, HasDocumentType, parse_plain
from nimblet_egress.policy import S3Policy
from nimblet_egress.sigv4 import encoded, signed_headers
from nimblet_egress.status import status_error
from nimblet_egress.target import Target

_LISTING_BYTES = 4 * 2**20
_OK, _FORBIDDEN, _NOT_FOUND = 200, 403, 404

WITH_CHECKSUM: Final = {"x-amz-checksum-mode": "ENABLED"}


def utc_now() -> datetime:
    """Return the time by the system's clock."""
    return datetime.now(UTC)


def s3_endpoint(policy: S3Policy) -> str:
    """Return the administrator's S3 endpoint, Amazon's of the region if none is set."""
    return (policy.endpoint or f"https://s3.{policy.region}.amazonaws.com").rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An object as the listing tells it; the tag is a quoted ETag, empty where the service gives none."""

    key: str
    size: int
    tag: str


class Bucket:
    """A bucket by name; listings have the prefix `asked`, requests are signed with the clock `now`."""

    def __init__(
        self, client: Client, policy: S3Policy, *, name: str, asked: str, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._client = client
        self._region = policy.region
        self._endpoint = s3_endpoint(policy)
        self._name = name
        self._asked = asked
        self._now = now

    @property
    def shown(self) -> str:
        """Return bucket and prefix for messages."""
        return f"s3://{self._name}/{self._asked}"

    def objects(self) -> Iterator[Listed]:
        """List the objects below the prefix, page by page; folders' own marks are left out."""
        token: str | None = ""
        while token is not None:
            page, token = self._page(token)
            yield from page

    def url(self, key: str) -> str:
        """Return an object's address."""
        return f"{self._endpoint}/{self._name}/{encoded(key, keep='/')}"

    def sign(self, target: Target) -> dict[str, str]:
        """Authorise a GET."""
        return self._signed(target, head=None)

    def sign_head(self, target: Target) -> dict[str, str]:
        """Authorise a HEAD that asks for the checksum."""
        return self._signed(target, head=WITH_CHECKSUM)

    def error(self, answer: Answer, what: str) -> SourceError:
        """Return the error that an answer means."""
        if answer.last.status == _FORBIDDEN and answer.hops[-1].authorized:
            return SourceError(
                Reason.AccessDenied,
                f"Expected access to {what}; the server refuses the access key. Check the Secret's keys, the "
                "administrator's region, and that the key may list and read there.",
            )
        return status_error(answer, what=what)

    def _page(self, token: str) -> tuple[list[Listed], str | None]:
        query = {"list-type": "2", "max-keys": "1000", "prefix": self._asked}
        if token:
            query["continuation-token"] = token
        pairs = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in sorted(query.items()))
        with self._client.get(f"{self._endpoint}/{self._name}?{pairs}", sign=self.sign) as answer:
            if answer.last.status != _OK:
                raise self._listing_error(answer)
            root = self._parse(answer.text(_LISTING_BYTES))
        entries = [entry for item in root.findall("{*}Contents") if (entry := self._entry(item)) is not None]
        more = (root.findtext("{*}IsTruncated") or "").strip() == "true"
        following = root.findtext("{*}NextContinuationToken")
        if more and (not following or following == token):
            raise self._odd("it goes on without telling how")
        return entries, following if more else None

    def _entry(self, item: ET.Element) -> Listed | None:
        key, size, tag = (item.findtext(f"{{*}}{name}") or "" for name in ("Key", "Size", "ETag"))
        if not key.startswith(self._asked) or key.endswith("/"):
            return None
        if not size.isdecimal():
            raise self._odd(f"{quoted(key)} has the size {quoted(size, limit=40)}")
        return Listed(key=key, size=int(size), tag=f'"{tag.strip(chr(34))}"' if tag else "")

    def _parse(self, raw: bytes) -> ET.Element:
        try:
            root = parse_plain(raw)
        except HasDocumentType as error:  # a listing has none, and entities are how XML explodes
            raise self._odd("it holds a document type") from error
        except PARSE_ERRORS as error:
            raise self._odd("it is not XML") from error
        if root.tag.rpartition("}")[2] != "ListBucketResult":
            raise self._odd(f"it is a {quoted(root.tag, limit=60)}")
        return root

    def _signed(self, target: Target, *, head: dict[str, str] | None) -> dict[str, str]:
        key = self._client.credentials.access_key
        if key is None or not self._client.credentials.may_see(target):
            return {}
        return signed_headers(target, key, region=self._region, now=self._now(), head=head)

    def _listing_error(self, answer: Answer) -> SourceError:
        if answer.last.status == _NOT_FOUND:
            return SourceError(
                Reason.RepositoryNotFound,
                f"Expected the bucket {quoted(self._name)} at {answer.hops[0].target.authority}; it knows none "
                "of that name. Correct the source's bucket.",
            )
        return self.error(answer, f"the listing of {self.shown}")

    def _odd(self, found: str) -> SourceError:
        return SourceError(
            Reason.UnexpectedResponse,
            f"Expected the listing of {self.shown}; {found}. Check the administrator's S3 endpoint.",
        )
