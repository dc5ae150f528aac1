# SPDX-License-Identifier: Apache-2.0
"""Pages of one site as a source: those of a sitemap or of a list. Follows no link in a page.

Same scheme, host and port for all, redirects included; robots.txt is obeyed (RFC 9309), with its wish for a pause.
"""

import codecs
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

from protego import Protego

from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError
from nimblet_egress.retry import with_retries
from nimblet_egress.status import status_error
from nimblet_egress.target import Target, parse_target
from nimblet_indexer.config import WebSource
from nimblet_indexer.document import FileRefused, Refusal
from nimblet_indexer.parse.suffixes import SUFFIXES
from nimblet_indexer.source.download import Tools, save, scratch_file
from nimblet_indexer.source.listing import Chooser, Fetched, Listing, SourceFile, chosen
from nimblet_indexer.source.sitemap import MAX_BYTES, MAX_URLS, Sitemap, parse_sitemap

ROBOTS_BYTES: Final = 500 * 2**10
"""What RFC 9309 has a crawler read at least."""
MAX_SITEMAPS: Final = 50
MAX_PAUSE_SECONDS: Final = 10.0
UNREACHABLE_IN_A_ROW: Final = 5
"""Pages, after which the site is held for gone."""
NAME: Final = "nimblet-indexer"
"""What robots.txt may call us."""
_FORMATS: Final = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Python's own codecs that no page is written in; some take time by the square of the length."""
_ASCII: Final = "".join(map(chr, range(0x80)))
_OK: Final = 200
_REFUSED: Final = {
    Reason.FileNotFound: Refusal.NOT_FOUND,
    Reason.AccessDenied: Refusal.ACCESS_DENIED,
    Reason.HostNotAllowed: Refusal.OTHER_SITE,
    Reason.RedirectRefused: Refusal.OTHER_SITE,
    Reason.UnexpectedResponse: Refusal.UNREADABLE,
    Reason.SourceUnavailable: Refusal.UNREACHABLE,
    Reason.DownloadStalled: Refusal.UNREACHABLE,
    Reason.DownloadTruncated: Refusal.UNREACHABLE,
}
"""What is wrong with one page; any other reason is the site's."""


@dataclass(kw_only=True)
class _Pages:
    """What is known of the pages while several threads read them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tags: dict[str, str] = field(default_factory=dict)
    unreachable: int = 0
    free_at: float = 0.0


class WebReader:
    """One site."""

    def __init__(self, source: WebSource, client: Client, tools: Tools) -> None:
        self._source, self._client, self._tools = source, client, tools
        self._home = parse_target(source.sitemap or source.urls[0])
        self._robots: Protego | None = None
        self._pages = _Pages()

    def list(self) -> Listing:
        """Read robots.txt and the sitemap."""
        self._robots = with_retries(self._read_robots, self._tools.pace)
        addresses = self._source.urls if self._source.sitemap is None else self._sitemaps(self._source.sitemap)
        chooser = Chooser(source=self._source, most=MAX_URLS * MAX_SITEMAPS)
        seen: set[str] = set()
        for address in addresses:
            self._offer(chooser, address, seen)
        if len(chooser.files) > self._source.max_pages:
            more = len(chooser.files) - self._source.max_pages
            del chooser.files[self._source.max_pages :]
            chooser.refuse("", Refusal.TOO_MANY, f"{more} more pages are listed; raise maxPages, or exclude some")
        return chooser.listing()

    @contextmanager
    def fetch(self, file: SourceFile) -> Iterator[Fetched]:
        """Download a page."""
        with scratch_file(self._tools.scratch) as path:
            suffix = self._page(file, path)
            yield Fetched(path=path, parse_as=f"page{suffix}")

    def revision(self, listing: Listing) -> str:
        """Return a hash over the pages' ETags, where the site gives any."""
        if not self._pages.tags:
            return listing.revision
        told = "".join(f"{name}\0{tag}\0" for name, tag in sorted(self._pages.tags.items()))
        return f"etags:{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def _page(self, file: SourceFile, path: Path) -> str:
        try:
            suffix = with_retries(lambda: self._download(file, path), self._tools.pace)
        except SourceError as error:
            reason = _REFUSED.get(error.reason)
            if reason is None:
                raise
            self._count_unreachable(error)
            raise FileRefused(reason, error.message) from error
        with self._pages.lock:
            self._pages.unreachable = 0
        return suffix

    def _count_unreachable(self, error: SourceError) -> None:
        """Raise the error itself once too many pages in a row found nobody: the site is gone, not the pages."""
        with self._pages.lock:
            self._pages.unreachable += 1 if error.reason.retryable else -self._pages.unreachable
            if self._pages.unreachable >= UNREACHABLE_IN_A_ROW:
                raise error

    def _download(self, file: SourceFile, path: Path) -> str:
        self._wait_turn()
        with self._client.get(file.place) as answer:
            self._check_page(answer)
            suffix, charset = _format(answer, file.name)
            save(answer, path, self._tools)
        if charset:
            _recode(path, charset)
        tag = answer.last.headers.get("etag")
        if tag:
            with self._pages.lock:
                self._pages.tags[file.name] = tag
        return suffix

    def _check_page(self, answer: Answer) -> None:
        last = answer.last
        if not last.target.same_place(self._home):
            raise FileRefused(
                Refusal.OTHER_SITE, f"it redirects to {last.target.authority}; name that site itself"
            )
        if len(answer.hops) > 1 and not self._allowed(last.target):
            raise FileRefused(Refusal.ROBOTS_DISALLOWED, "it redirects to where robots.txt lets nobody read")
        if last.status != _OK:
            raise status_error(answer, what="the page")

    def _wait_turn(self) -> None:
        """Keep the pause that robots.txt asks for between two requests, over all threads."""
        pause = min((self._robots.crawl_delay(NAME) if self._robots else None) or 0.0, MAX_PAUSE_SECONDS)
        if pause <= 0:
            return
        with self._pages.lock:
            now = self._tools.now()
            turn = max(now, self._pages.free_at)
            self._pages.free_at = turn + pause
        self._tools.sleep(turn - now)

    def _offer(self, chooser: Chooser, address: str, seen: set[str]) -> None:
        try:
            # as browsers do: maps are written by hand, too
            target = parse_target(quote(address.partition("#")[0], safe=_ASCII))
        except SourceError:
            chooser.refuse(address[:200], Refusal.UNSAFE_NAME, "it is no http(s) address; correct it")
            return
        name = unquote(target.path.lstrip("/")).rstrip("/") or "index"
        ours = target.same_place(self._home)
        readable = ours and self._allowed(target)
        told = f"/{name}" if readable else target.url  # what is not read takes no name from what is
        if told in seen or not chosen(name, self._source):
            return
        seen.add(told)
        if readable:
            chooser.take(name, place=target.url)
        elif ours:
            chooser.refuse(name, Refusal.ROBOTS_DISALLOWED, "robots.txt lets nobody read it")
        else:
            place = f"{target.scheme}://{target.authority}"
            chooser.refuse(name, Refusal.OTHER_SITE, f"it is at {place}; name that site itself")

    def _allowed(self, target: Target) -> bool:
        return self._robots is None or bool(self._robots.can_fetch(target.url, NAME))

    def _read_robots(self) -> Protego | None:
        """Return the rules; None where there are none. A site that can't tell its rules is not read."""
        with self._client.get(f"{self._home.scheme}://{self._home.authority}/robots.txt") as answer:
            status = answer.last.status
            if 400 <= status < 500 and status != 429:  # noqa: PLR2004 - RFC 9309, 2.3.1.3: no rules
                return None
            if status != _OK:
                raise status_error(answer, what="robots.txt")
            return Protego.parse(_first(answer, ROBOTS_BYTES).decode("utf-8-sig", "replace"))

    def _sitemaps(self, first: str) -> Sequence[str]:
        """Return the pages of a sitemap and of those that it names; each is asked once."""
        waiting, asked, pages = [first], set[str](), list[str]()
        while waiting:
            address = waiting.pop(0)
            if address in asked or len(asked) >= MAX_SITEMAPS:
                continue
            asked.add(address)
            target = parse_target(address)
            if not target.same_place(self._home):
                continue  # another site's map tells other sites' pages
            found = with_retries(lambda target=target: self._sitemap(target), self._tools.pace)  # type: ignore[misc]
            pages += found.pages
            waiting += found.sitemaps
        return pages

    def _sitemap(self, target: Target) -> Sitemap:
        with self._client.get(target.url) as answer:
            if not answer.last.target.same_place(self._home):
                raise SourceError(
                    Reason.RedirectRefused,
                    f"{target.shown} redirects to {answer.last.target.authority}. Give the sitemap of that site.",
                )
            if answer.last.status != _OK:
                raise status_error(answer, what="the sitemap")
            return parse_sitemap(answer.text(MAX_BYTES), shown=target.shown)


def _first(answer: Answer, limit: int) -> bytes:
    """Return the beginning of a body."""
    data = bytearray()
    for chunk in answer.chunks():
        data += chunk
        if len(data) >= limit:
            break
    return bytes(data[:limit])


def _format(answer: Answer, name: str) -> tuple[str, str]:
    """Return the suffix that the content type means, else the address's own, and the charset of a text."""
    told, _, rest = answer.last.headers.get("content-type", "").partition(";")
    kind = told.strip().lower()
    charset = rest.lower().partition("charset=")[2].partition(";")[0].strip("\"' ")
    own = PurePosixPath(name).suffix.lower()
    suffix = _FORMATS.get(kind) or (own if own in SUFFIXES and kind in ("", "application/octet-stream") else None)
    if suffix is None:
        raise FileRefused(
            Refusal.UNSUPPORTED, f"pages of type {kind or 'unknown'} are not read; leave it out by exclude"
        )
    if own in (".md", ".markdown") and suffix == ".txt":
        suffix = own
    return suffix, charset if kind.startswith("text/") and charset not in ("", "utf-8") else ""


def _recode(path: Path, charset: str) -> None:
    """Write a text anew as UTF-8; one that is not what its site says stays, for the parser to refuse."""
    try:
        if codecs.lookup(charset).name in _NO_CHARSETS:
            return
        # by the text's own method, which knows charsets alone: `zlib` or `hex` would unpack, without a bound
        text = path.read_bytes().decode(charset).encode("utf-8")
    except (LookupError, UnicodeError):
        return
    path.write_bytes(text)
