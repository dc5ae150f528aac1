# SPDX-License-Identifier: Apache-2.0
"""The hub's answers: a request and a catalogue in, a response out. Pure; the server moves the bytes.

Header names, error codes and the use of 401 for what an anonymous client may not know about follow what the
`huggingface_hub` client reads (its `utils/_http.py` and `file_download.py`).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

from e2e.mirror.catalog import Access, Fault, Hub, HubFile, Repo

Headers = tuple[tuple[str, str], ...]

_NAME = "[A-Za-z0-9._-]+"
_MODEL = re.compile(rf"/api/models/({_NAME}/{_NAME})(?:/revision/([^/]+))?")
_RESOLVE = re.compile(rf"/({_NAME}/{_NAME})/resolve/([^/]+)/(.+)")
_CDN = re.compile(rf"/cdn/({_NAME}/{_NAME})/([0-9a-f]{{64}})")
_PLAIN = re.compile(r"/files/(.+)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Request:
    """The parts of a GET or HEAD request that decide the answer."""

    target: str
    """Path and query as sent."""
    cdn: str = "http://localhost"
    """Scheme and host of the mirror's second address, where redirected downloads go."""
    token: str | None = None
    range: str | None = None
    if_range: str | None = None


@dataclass(frozen=True)
class Slice:
    """A piece of a file to send as the body, and how its transfer goes wrong."""

    file: HubFile
    start: int
    length: int
    fault: Fault = field(default_factory=Fault)


@dataclass(frozen=True)
class Response:
    """Status, headers (Content-Length included) and body."""

    status: HTTPStatus
    headers: Headers
    body: bytes | Slice


def respond(hub: Hub, request: Request) -> Response:
    """Answer a request as the hub would."""
    url = urlsplit(request.target)
    routes: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Response]], ...] = (
        (_MODEL, lambda found: _model(hub, request, found, blobs=_wants_blobs(url.query))),
        (_RESOLVE, lambda found: _resolve(hub, request, found)),
        (_CDN, lambda found: _cdn(hub, request, found)),
        (_PLAIN, lambda found: _plain(hub, request, found)),
    )
    if url.path == "/healthz":
        return _json(HTTPStatus.OK, {"status": "ok"})
    if request.token is not None and request.token != hub.token:
        return _error(HTTPStatus.UNAUTHORIZED, code=None, message="Invalid credentials in Authorization header")
    for pattern, answer in routes:
        if found := pattern.fullmatch(url.path):
            return answer(found)
    return _error(HTTPStatus.NOT_FOUND, code=None, message="Sorry, we can't find the page you are looking for.")


def _wants_blobs(query: str) -> bool:
    return parse_qs(query).get("blobs", ["false"])[-1].lower() in ("true", "1")


def _model(hub: Hub, request: Request, found: re.Match[str], *, blobs: bool) -> Response:
    repo = hub.repo(found[1])
    if repo is None:
        return _unknown_repo(request)
    revision = unquote(found[2] or "main")
    if not _has_revision(repo, revision):
        return _unknown_revision(revision)
    siblings = [_sibling(name, repo.files[name], blobs=blobs) for name in sorted(repo.files)]
    gated = False if repo.access in (Access.PUBLIC, Access.FORBIDDEN) else "manual"
    facts = {"id": repo.id, "modelId": repo.id, "sha": repo.commit, "private": False, "gated": gated}
    return _json(HTTPStatus.OK, {**facts, "disabled": False, "tags": [], "siblings": siblings})


def _sibling(name: str, file: HubFile, *, blobs: bool) -> dict[str, object]:
    if not blobs:
        return {"rfilename": name}
    facts: dict[str, object] = {"rfilename": name, "size": file.size_bytes, "blobId": file.git_sha1}
    large = {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": 134}
    return {**facts, "lfs": large} if file.is_large else facts


def _resolve(hub: Hub, request: Request, found: re.Match[str]) -> Response:
    repo = hub.repo(found[1])
    if repo is None:
        return _unknown_repo(request)
    if refused := _refusal(repo, request):
        return refused
    revision, name = unquote(found[2]), unquote(found[3])
    if not _has_revision(repo, revision):
        return _unknown_revision(revision)
    file = repo.files.get(name)
    if file is None:
        extra = (("X-Repo-Commit", repo.commit),)
        return _error(HTTPStatus.NOT_FOUND, code="EntryNotFound", message="Entry not found", extra=extra)
    return _entry(repo, file, request)


def _entry(repo: Repo, file: HubFile, request: Request) -> Response:
    """A file's bytes, or for a large file the way to them; either names the commit and the true digest."""
    commit: Headers = (("X-Repo-Commit", repo.commit),)
    if not file.is_large:
        return _download(file, request, fault=repo.fault, extra=commit)
    linked: Headers = (
        *commit,
        ("X-Linked-Etag", f'"{file.etag}"'),
        ("X-Linked-Size", str(file.size_bytes)),
    )
    if not repo.redirect:
        return _download(file, request, fault=repo.fault, extra=linked)
    # Another address, as with the hub's CDN; the client reads the headers above off this answer.
    location = ("Location", f"{request.cdn}/cdn/{repo.id}/{file.sha256}")
    return Response(HTTPStatus.FOUND, (*linked, location, ("Content-Length", "0")), b"")


def _cdn(hub: Hub, request: Request, found: re.Match[str]) -> Response:
    repo = hub.repo(found[1])
    for file in repo.files.values() if repo else ():
        if repo and file.sha256 == found[2]:
            return _download(file, request, fault=repo.fault)
    return _error(HTTPStatus.NOT_FOUND, code=None, message="No such object")


def _plain(hub: Hub, request: Request, found: re.Match[str]) -> Response:
    plain = hub.plain.get(unquote(found[1]))
    if plain is None:
        return _error(HTTPStatus.NOT_FOUND, code=None, message="No such file")
    return _download(plain.file, request, fault=plain.fault)


def _refusal(repo: Repo, request: Request) -> Response | None:
    """The answer to a download that the repository's gate does not let through."""
    if repo.access is Access.FORBIDDEN:
        return _error(HTTPStatus.FORBIDDEN, code=None, message="Forbidden")
    if repo.access is Access.PUBLIC or (repo.access is Access.TOKEN and request.token is not None):
        return None
    if request.token is None:
        message = f"Access to model {repo.id} is restricted. You must have access to it and be authenticated."
        return _error(HTTPStatus.UNAUTHORIZED, code="GatedRepo", message=message)
    message = f"Access to model {repo.id} is restricted and you are not in the authorized list."
    return _error(HTTPStatus.FORBIDDEN, code="GatedRepo", message=message)


def _unknown_repo(request: Request) -> Response:
    """The hub hides from anonymous clients whether a repository is private or does not exist."""
    if request.token is None:
        return _error(HTTPStatus.UNAUTHORIZED, code="RepoNotFound", message="Invalid username or password.")
    return _error(HTTPStatus.NOT_FOUND, code="RepoNotFound", message="Repository not found")


def _unknown_revision(revision: str) -> Response:
    return _error(HTTPStatus.NOT_FOUND, code="RevisionNotFound", message=f"Invalid rev id: {revision}")


def _has_revision(repo: Repo, revision: str) -> bool:
    return revision in repo.refs or revision == repo.commit


def _download(file: HubFile, request: Request, *, fault: Fault, extra: Headers = ()) -> Response:
    """Send a file, or the one range of it that was asked for (RFC 9110 §14)."""
    if fault.unavailable:
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, code=None, message="Service unavailable")
    etag = f'"{file.etag}"'
    common: Headers = (*extra, ("ETag", etag), ("Content-Type", "application/octet-stream"))
    whole = Slice(file, 0, file.size_bytes, fault)
    full = (*common, ("Accept-Ranges", "bytes"), ("Content-Length", str(file.size_bytes)))
    wanted = _RANGE.fullmatch(request.range or "")
    stale = request.if_range is not None and request.if_range != etag
    if wanted is None or wanted.groups() == ("", "") or stale or fault.ignore_range:
        return Response(HTTPStatus.OK, full, whole)
    start, end = _bounds(first=wanted[1], last=wanted[2], size=file.size_bytes)
    if start >= end:
        unsatisfied = ("Content-Range", f"bytes */{file.size_bytes}")
        headers = (*common, unsatisfied, ("Content-Length", "0"))
        return Response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, b"")
    part = (("Content-Range", f"bytes {start}-{end - 1}/{file.size_bytes}"), ("Content-Length", str(end - start)))
    return Response(HTTPStatus.PARTIAL_CONTENT, (*common, *part), Slice(file, start, end - start, fault))


def _bounds(*, first: str, last: str, size: int) -> tuple[int, int]:
    """Start and end (exclusive) of `bytes=first-last`, where either side may be empty."""
    if not first:
        return max(0, size - int(last)), size
    end = min(size, int(last) + 1) if last else size
    return int(first), end


def _json(status: HTTPStatus, document: dict[str, object], *, extra: Headers = ()) -> Response:
    body = json.dumps(document).encode()
    length = ("Content-Length", str(len(body)))
    return Response(status, (*extra, ("Content-Type", "application/json; charset=utf-8"), length), body)


def _error(status: HTTPStatus, *, code: str | None, message: str, extra: Headers = ()) -> Response:
    coded: Headers = (("X-Error-Code", code),) if code else ()
    return _json(status, {"error": message}, extra=(*extra, *coded, ("X-Error-Message", message)))
