# SPDX-License-Identifier: Apache-2.0
"""A git server, a bucket and a web site on loopback, over the same documents, with faults that a test lines up."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref
from dulwich.repo import MemoryRepo
from dulwich.server import BackendRepo, DictBackend
from dulwich.web import make_wsgi_chain

from loader_testing.server import LoopbackServer, Reply, Request, serving

Fault = Callable[[Request, Reply], Reply]

_SUBMODULE = 0o160000
_LINK = 0o120000
_FILE = 0o100644
_FOLDER = 0o040000


@dataclass(kw_only=True)
class Places:
    """What is served. Faults happen to the next answers of a route: `list` or `file`."""

    repo: MemoryRepo
    objects: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, Reply] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    spoiled: dict[str, Fault] = field(default_factory=dict)
    """What happens to every answer whose path ends so."""
    authorization: str | None = None
    """The header that all must send; None asks for none."""
    server: LoopbackServer | None = None

    @property
    def authority(self) -> str:
        """Host and port."""
        if self.server is None:
            raise RuntimeError("expected to be served")
        return f"127.0.0.1:{self.server.port}"

    @property
    def url(self) -> str:
        """The address of all."""
        return f"http://{self.authority}"

    def fail(self, route: str, *faults: Fault) -> None:
        """Line up faults."""
        self.faults.setdefault(route, []).extend(faults)

    def answer(self, request: Request) -> Reply:
        """Answer one request, through the next fault of its route."""
        if self.authorization not in (None, request.headers.get("authorization")):
            return Reply(401, {"Content-Length": "0"})
        route, reply = self._sound(request)
        for ending, fault in self.spoiled.items():
            if request.path.endswith(ending):
                return fault(request, reply)
        waiting = self.faults.get(route, [])
        return waiting.pop(0)(request, reply) if waiting else reply

    def _sound(self, request: Request) -> tuple[str, Reply]:
        path = unquote(request.path)
        if path.startswith("/repo.git/"):
            return "list" if path.endswith("/info/refs") else "file", self._git(request)
        if path == "/docs":
            return "list", self._listing(request)
        if path.startswith("/docs/"):
            found = self.objects.get(path.removeprefix("/docs/"))
            return "file", Reply(404, {"Content-Length": "0"}) if found is None else sized(found)
        route = {"/robots.txt": "robots", "/sitemap.xml": "list"}.get(path, "file")
        return route, self.pages.get(request.target, Reply(404, {"Content-Length": "0"}))

    def _listing(self, request: Request) -> Reply:
        prefix = parse_qs(request.target.partition("?")[2]).get("prefix", [""])[0]
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>&quot;{hash(data)}&quot;</ETag></Contents>"
            for key, data in self.objects.items()
            if key.startswith(prefix)
        )
        return sized(f"<ListBucketResult>{items}</ListBucketResult>".encode())

    def _git(self, request: Request) -> Reply:
        told: list[tuple[int, dict[str, str]]] = []

        def start(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
            told.append((int(status.split(maxsplit=1)[0]), dict(headers)))
            return written.append

        written: list[bytes] = []
        repos: dict[str, BackendRepo] = {"/repo.git": cast("BackendRepo", self.repo)}
        application = make_wsgi_chain(DictBackend(repos))
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.target.partition("?")[2],
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.input": io.BytesIO(request.body),
        }
        body = b"".join([*application(environ, start)])
        status, headers = told[0]
        return Reply(status, headers, (b"".join(written) + body,))


def sized(data: bytes, **headers: str) -> Reply:
    """Return a reply with its length."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(200, {"Content-Length": str(len(data)), **named}, (data,))


def page(text: str, **headers: str) -> Reply:
    """Return an HTML page."""
    return sized(f"<main><h1>Page</h1><p>{text}</p></main>".encode(), Content_Type="text/html", **headers)


def commit(repo: MemoryRepo, files: Mapping[str, bytes], *, odd: Mapping[str, int] | None = None) -> str:
    """Commit files, by name; `odd` gives the mode of those that are none. Returns the commit."""
    commit_ = Commit()
    commit_.tree = _tree(repo, {name: (odd or {}).get(name, _FILE) for name in files}, files)
    commit_.author = commit_.committer = b"nobody <nobody@example.test>"
    commit_.author_time = commit_.commit_time = len(list(repo.object_store))  # another one each time
    commit_.author_timezone = commit_.commit_timezone = 0
    commit_.message = b"change"
    repo.object_store.add_object(commit_)
    for ref in (b"refs/heads/main", b"HEAD"):
        repo.refs[Ref(ref)] = commit_.id
    return commit_.id.decode()


def _tree(repo: MemoryRepo, modes: Mapping[str, int], files: Mapping[str, bytes]) -> ObjectID:
    tree, folders = Tree(), dict[str, dict[str, int]]()
    for name, mode in modes.items():
        first, _, rest = name.partition("/")
        if rest:
            folders.setdefault(first, {})[rest] = mode
            continue
        if mode == _SUBMODULE:
            tree.add(first.encode(), mode, ObjectID(b"1" * 40))
            continue
        blob = Blob.from_string(files[name])
        repo.object_store.add_object(blob)
        tree.add(first.encode(), mode, blob.id)
    for folder, below in folders.items():
        inside = {rest: files[f"{folder}/{rest}"] for rest in below}
        tree.add(folder.encode(), _FOLDER, _tree(repo, below, inside))
    repo.object_store.add_object(tree)
    return tree.id


@contextmanager
def places_of(files: Mapping[str, bytes]) -> Iterator[Places]:
    """Serve documents in all three ways inside the block."""
    repo = MemoryRepo.init_bare([], {})
    places = Places(repo=repo, objects={f"wiki/{name}": data for name, data in files.items()})
    commit(repo, files)
    with serving(places.answer) as server:
        places.server = server
        urls = "".join(f"<url><loc>{places.url}/{name}</loc></url>" for name in files)
        places.pages["/sitemap.xml"] = sized(f"<urlset>{urls}</urlset>".encode())
        places.pages |= {f"/{name}": sized(data, Content_Type="text/plain") for name, data in files.items()}
        yield places
