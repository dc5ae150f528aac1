# SPDX-License-Identifier: Apache-2.0
"""The connector for `hf://org/repo`: the Hugging Face hub's protocol, at the administrator's endpoint.

Protocol: https://huggingface.co/docs/hub/api and the headers X-Repo-Commit, X-Linked-Etag, X-Linked-Size and
X-Error-Code. It must not run anything of a repository.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nimblet_egress.client import Answer, Client
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.status import status_error
from nimblet_loader.connector import Body, Snapshot, Span, open_http
from nimblet_loader.selection import Entry

_REPO = re.compile(r"^hf://([A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95})/?$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_LISTING_BYTES = 16 * 2**20
_OK = 200
_BAD_CREDENTIALS = "invalid credentials"


class _Hub(BaseModel):
    """The hub adds keys freely, so unknown ones are passed over here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Lfs(_Hub):
    sha256: str | None = None
    size: int | None = None


class _Sibling(_Hub):
    rfilename: str
    size: int | None = Field(default=None, ge=0)
    lfs: _Lfs | None = None

    def entry(self) -> Entry:
        digest = self.lfs.sha256 if self.lfs is not None else None
        size = self.size if self.size is not None or self.lfs is None else self.lfs.size
        return Entry(self.rfilename, size, digest if digest and _SHA256.match(digest) else None)


class _ModelInfo(_Hub):
    sha: str
    siblings: tuple[_Sibling, ...] = ()


class HubConnector:
    """One repository of a hub."""

    def __init__(self, client: Client, *, endpoint: str, uri: str, revision: str | None) -> None:
        found = _REPO.match(uri)
        if found is None:
            raise SourceError(
                Reason.ConfigInvalid,
                f"Expected a source of the form hf://organisation/repository; found {quoted(uri)}. Correct it.",
            )
        self._client = client
        self._endpoint = endpoint.rstrip("/")
        self._repo = found[1]
        self._revision = revision or "main"

    def snapshot(self) -> Snapshot:
        """Ask the hub which commit the revision is and which files it holds."""
        url = f"{self._endpoint}/api/models/{self._repo}/revision/{quote(self._revision, safe='')}?blobs=true"
        with self._client.get(url) as answer:
            if answer.last.status != _OK:
                raise self._listing_error(answer)
            raw = answer.text(_LISTING_BYTES)
        try:
            info = _ModelInfo.model_validate_json(raw)
        except ValidationError as error:
            raise self._odd("its answer is not a model listing") from error
        if not _COMMIT.match(info.sha):
            raise self._odd(f"its commit is {quoted(info.sha, limit=60)}, not 40 hex digits")
        if _COMMIT.match(self._revision) and info.sha != self._revision:
            raise self._odd(f"it answered with commit {info.sha} where {self._revision} was asked for")
        return Snapshot(info.sha, tuple(sibling.entry() for sibling in info.siblings))

    def measure(self, entry: Entry) -> Entry:
        """Return the entry as it is: the listing tells all that the hub knows."""
        return entry

    @contextmanager
    def open(self, path: str, *, commit: str, span: Span) -> Iterator[Body]:
        """Open a file at the pinned commit; what the hub's headers say about it goes into the body."""
        url = f"{self._endpoint}/{self._repo}/resolve/{commit}/{quote(path)}"

        def explain(answer: Answer) -> SourceError:
            return self._file_error(answer, path)

        with open_http(self._client, url, span=span, explain=explain) as (answer, body):
            told = answer.first("x-repo-commit")
            if told is not None and told != commit:
                raise SourceError(
                    Reason.SourceChanged,
                    f"Expected {quoted(path)} at commit {commit}; the hub served commit {quoted(told, limit=60)}. "
                    "It is tried again; if it goes on, the hub or mirror is at fault.",
                )
            digest = (answer.first("x-linked-etag") or "").removeprefix("W/").strip('"')
            size = answer.first("x-linked-size") or ""
            yield replace(
                body,
                linked_sha256=digest if _SHA256.match(digest) else None,
                linked_size=int(size) if size.isdecimal() else None,
            )

    def _listing_error(self, answer: Answer) -> SourceError:
        revision = f"revision {quoted(self._revision)} of {self._repo}"
        known = self._known_error(answer, revision)
        if known is not None:
            return known
        error = status_error(answer, what=revision)
        if error.reason is Reason.FileNotFound:
            return self._unknown_repository(answer)
        return error

    def _file_error(self, answer: Answer, path: str) -> SourceError:
        what = f"{quoted(path)} of {self._repo}"
        return self._known_error(answer, what) or status_error(answer, what=what)

    def _known_error(self, answer: Answer, what: str) -> SourceError | None:
        """Return the error that the hub itself names in its headers, if it does."""
        code = (answer.first("x-error-code") or "").lower()
        message = (answer.first("x-error-message") or "").lower()
        if _BAD_CREDENTIALS in message:
            return SourceError(
                Reason.TokenInvalid,
                f"Expected the hub to accept the token for {what}; it says that the credentials are invalid. "
                "Put a valid token into the Secret.",
            )
        if code == "gatedrepo":
            return SourceError(
                Reason.GatedRepository,
                f"Expected access to {what}; the repository is gated. Accept its terms on the hub, and reference "
                "a Secret with a token of that account whose annotation names the hub's host.",
            )
        if code == "reponotfound":
            return self._unknown_repository(answer)
        if code == "revisionnotfound":
            return SourceError(
                Reason.RevisionNotFound,
                f"Expected {what}; the hub knows no such revision. Correct source.revision.",
            )
        if code == "entrynotfound":
            return SourceError(
                Reason.FileNotFound, f"Expected {what}; the hub has no such file. Correct the source."
            )
        return None

    def _unknown_repository(self, answer: Answer) -> SourceError:
        sent = any(hop.authorized for hop in answer.hops)
        hint = "with the token that was sent" if sent else "without a token: private ones look the same"
        return SourceError(
            Reason.RepositoryNotFound,
            f"Expected the repository {self._repo} at {answer.hops[0].target.authority}; the hub knows none of "
            f"that name ({hint}). Correct source.uri, or reference a Secret with a token.",
        )

    def _odd(self, found: str) -> SourceError:
        return SourceError(
            Reason.UnexpectedResponse,
            f"Expected the hub's listing of {self._repo}; {found}. Check the administrator's hub endpoint.",
        )
