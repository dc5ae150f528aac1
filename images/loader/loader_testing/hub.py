# SPDX-License-Identifier: Apache-2.0
"""Speaks the hub's protocol for one small repository, with faults that a test lines up per route."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from loader_testing.packing import Package
from loader_testing.server import Reply, Request

REPO = "acme/tiny"
IMAGE = "acme/model"
BOUGHT = "bought-token"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

Fault = Callable[[Request, Reply], Reply]


@dataclass
class Hub:
    """The repository's files, and the faults yet to happen: `api` (listing), `file` (resolve), `cdn`."""

    files: dict[str, bytes]
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    download_base: str | None = None
    """Where file requests are redirected to; None serves them directly."""
    token: str | None = None
    etag: str | None = None
    plain: frozenset[str] = frozenset()
    """Files that git itself holds: the hub tells no SHA-256 of them."""
    packages: dict[str, Package] = field(default_factory=dict)
    """What the registry's repository `acme/model` holds by tag."""
    realm: str | None = None
    """Where the registry sends its clients for a token; None asks for none."""
    login: str | None = None
    """The Authorization header that the realm sells tokens for; None sells to everybody."""

    def fail(self, route: str, *faults: Fault) -> None:
        """Line up faults for the next requests of a route."""
        self.faults.setdefault(route, []).extend(faults)

    def answer(self, request: Request) -> Reply:
        """Answer one request, through the next fault of its route if there is one."""
        route, reply = self._sound(request)
        waiting = self.faults.get(route, [])
        return waiting.pop(0)(request, reply) if waiting else reply

    def _sound(self, request: Request) -> tuple[str, Reply]:
        path = unquote(request.path)
        if path.startswith("/api/models/"):
            return "api", self._listing(request, path)
        if path.startswith("/cdn/"):
            return "cdn", self._content(request, path.removeprefix("/cdn/"))
        other = self._other_protocol(request, path)
        if other is not None:
            return other
        prefix = f"/{REPO}/resolve/{COMMIT}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in self.files:
            return "file", Reply(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        content = self.files[name]
        digest = hashlib.sha256(content).hexdigest()
        linked = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{digest[:40] if name in self.plain else digest}"',
            "X-Linked-Size": str(len(content)),
        }
        if self.download_base is None:
            sound = self._content(request, name)
            return "file", replace(sound, headers={**sound.headers, **linked})
        location = f"{self.download_base}/cdn/{name}?X-Signature=very-secret"
        return "file", Reply(302, {**linked, "Location": location, "Content-Length": "0"})

    def _other_protocol(self, request: Request, path: str) -> tuple[str, Reply] | None:
        if path.startswith("/bucket/models/"):
            return "s3", self._object(request, path.removeprefix("/bucket/models/"))
        if path.startswith("/v2/library/tiny/blobs/"):
            return "ollama", self._content(request, next(iter(self.files)))
        if path.startswith(f"/v2/{IMAGE}/"):
            return self._registry(request, path.removeprefix(f"/v2/{IMAGE}/"))
        whole: dict[str, tuple[str, Callable[[], Reply]]] = {
            "/bucket": ("list", self._objects),
            "/v2/library/tiny/manifests/q4": ("manifest", self._manifest),
            "/token": ("token", lambda: self._token(request)),
        }
        found = whole.get(path)
        return None if found is None else (found[0], found[1]())

    def _listing(self, request: Request, path: str) -> Reply:
        if not path.startswith(f"/api/models/{REPO}/"):
            return Reply(404, {"X-Error-Code": "RepoNotFound", "Content-Length": "0"})
        revision = path.rsplit("/", 1)[-1]
        if revision not in ("main", COMMIT):
            return Reply(404, {"X-Error-Code": "RevisionNotFound", "Content-Length": "0"})
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return Reply(401, {"X-Error-Code": "GatedRepo", "Content-Length": "0"})
        siblings = [
            {"rfilename": name, "size": len(data)}
            | ({} if name in self.plain else {"lfs": {"sha256": hashlib.sha256(data).hexdigest()}})
            for name, data in self.files.items()
        ]
        raw = json.dumps({"sha": COMMIT, "siblings": siblings, "likes": 7}).encode()
        return Reply(200, {"Content-Length": str(len(raw))}, (raw,))

    def _object(self, request: Request, name: str) -> Reply:
        sound = self._content(request, name)
        if request.headers.get("if-match", sound.headers["ETag"]) != sound.headers["ETag"]:
            return Reply(412, {"Content-Length": "0"})
        return sound

    def _objects(self) -> Reply:
        items = "".join(
            f"<Contents><Key>models/{name}</Key><Size>{len(data)}</Size><ETag>{_md5(data)}</ETag></Contents>"
            for name, data in self.files.items()
        )
        return _sized(f"<ListBucketResult>{items}</ListBucketResult>".encode())

    def _registry(self, request: Request, path: str) -> tuple[str, Reply]:
        kind, _, reference = path.partition("/")
        route = "index" if kind == "manifests" else "blob"
        if self.realm is not None and request.headers.get("authorization") != f"Bearer {BOUGHT}":
            challenge = f'Bearer realm="{self.realm}",service="tests",scope="repository:other:push"'
            return route, Reply(401, {"WWW-Authenticate": challenge, "Content-Length": "0"})
        if route == "index":
            named = {**self.packages, **{made.digest: made for made in self.packages.values()}}
            return route, _sized(named[reference].manifest) if reference in named else _missing()
        known = any(reference in made.blobs for made in self.packages.values())
        return route, self._content(request, reference) if known else _missing()

    def _token(self, request: Request) -> Reply:
        if self.login is not None and request.headers.get("authorization") != self.login:
            return Reply(401, {"Content-Length": "0"})
        return _sized(json.dumps({"token": BOUGHT, "expires_in": 60}).encode())

    def _manifest(self) -> Reply:
        content = next(iter(self.files.values()))
        layers = [
            {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'0' * 64}", "size": 7},
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "size": len(content),
            },
        ]
        raw = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
        return Reply(200, {"Content-Length": str(len(raw))}, (raw,))

    def _content(self, request: Request, name: str) -> Reply:
        blobs = (made.blobs[name] for made in self.packages.values() if name in made.blobs)
        content = self.files[name] if name in self.files else next(blobs)
        tag = self.etag or f'"{_md5(content)}"'
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        if wanted is None or request.headers.get("if-range", tag) != tag:
            return Reply(200, {"Content-Length": str(len(content)), "ETag": tag}, (content,))
        start = int(wanted[1])
        piece = content[start : int(wanted[2]) + 1 if wanted[2] else None]
        headers = {
            "Content-Length": str(len(piece)),
            "Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(content)}",
            "ETag": tag,
        }
        return Reply(206, headers, (piece,))


def _md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _sized(raw: bytes) -> Reply:
    return Reply(200, {"Content-Length": str(len(raw))}, (raw,))


def _missing() -> Reply:
    return Reply(404, {"Content-Length": "0"})


def status(code: int, **headers: str) -> Fault:
    """Answer with a bare status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request, _reply: Reply(code, {"Content-Length": "0", **named})


def header(name: str, value: str) -> Fault:
    """Answer as usual but with another header value."""
    return lambda _request, reply: replace(reply, headers={**reply.headers, name: value})


def body(pieces: Iterable[bytes], **headers: str) -> Fault:
    """Answer 200 with other bytes; without a length unless given."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request, _reply: Reply(200, named, pieces)


def endless(piece: bytes) -> Fault:
    """Answer 200 and never stop."""

    def pour(_request: Request, reply: Reply) -> Reply:
        kept = {name: value for name, value in reply.headers.items() if name == "ETag"}
        return Reply(200, kept, iter(lambda: piece, b""))

    return pour


def cut(after: int) -> Fault:
    """Announce everything, send the first bytes, and close."""
    return lambda _request, reply: replace(reply, body=(b"".join(reply.body)[:after],))


def stall(after: int) -> Fault:
    """Announce everything, send the first bytes, and fall silent."""
    return lambda _request, reply: replace(reply, body=(b"".join(reply.body)[:after],), hold=True)


def flip(at: int) -> Fault:
    """Answer as usual but with one byte changed."""

    def change(_request: Request, reply: Reply) -> Reply:
        raw = bytearray(b"".join(reply.body))
        raw[at] ^= 1
        return replace(reply, body=(bytes(raw),))

    return change


def sound(_request: Request, reply: Reply) -> Reply:
    """No fault this time."""
    return reply
