# SPDX-License-Identifier: Apache-2.0
"""Fetches one commit of a repository and lays its chosen files out. Runs in a limited process.

The git protocol is dulwich's; every request is our own client's, so that a repository is read from behind the same
wall as all else. Nothing is checked out: blobs become numbered files, so no name in a repository is ever a path
here, and hooks, filters, submodules and links have nothing to act on.
"""

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from dulwich.client import AbstractHttpGitClient
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository, ObjectFormatException
from dulwich.object_store import DiskObjectStore, ObjectStoreGraphWalker
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.refs import Ref

from nimblet_egress.client import Answer, Client
from nimblet_egress.credentials import Credentials
from nimblet_egress.errors import Reason, SourceError, quoted
from nimblet_egress.status import status_error
from nimblet_egress.target import Target
from nimblet_indexer.config import Egress, FileLimits, GitSource
from nimblet_indexer.document import Refusal
from nimblet_indexer.source.listing import Chooser, Listing

MAX_DEPTH: Final = 64
"""Folders within each other."""
_OK, _NOT_FOUND = 200, 404
_SUBMODULE: Final = 0o160000
"""The mode of a link to another repository's commit."""
_LOGIN: Final = "git"
"""Any name goes with a token: hosts look at the password alone."""


@dataclass(frozen=True, kw_only=True)
class GitJob:
    """What the process is told; `folder` is empty and its own."""

    source: GitSource
    egress: Egress
    limits: FileLimits
    credentials: Credentials
    folder: Path


@dataclass(frozen=True, kw_only=True)
class GitFailed:
    """A SourceError on its way through a pipe."""

    reason: Reason
    message: str
    retry_after: float | None


def fetch_tree(job: GitJob) -> Listing | GitFailed:
    """Return the files of the revision; each one's place is a file in the job's folder."""
    try:
        with closing(Client(job.egress, _as_login(job.credentials))) as client:
            return _fetched(job, client)
    except SourceError as error:
        return GitFailed(reason=error.reason, message=error.message, retry_after=error.retry_after)
    except MemoryError:
        return _failed(Reason.FileTooLarge, "it needs more memory than a build has; give a smaller repository")
    except (NotGitRepository, GitProtocolError, HangupException) as error:
        return _failed(*_protocol_error(job.source, error))
    except (ObjectFormatException, ValueError, KeyError, AssertionError, OSError) as error:
        # the library meets malformed packs and answers with Python's own errors, each at another place
        return _failed(
            Reason.UnexpectedResponse,
            f"Expected the repository's objects; they can't be read ({type(error).__name__}). Check the server.",
        )


def _failed(reason: Reason, message: str) -> GitFailed:
    return GitFailed(reason=reason, message=message, retry_after=None)


def _protocol_error(source: GitSource, error: Exception) -> tuple[Reason, str]:
    if source.revision is not None and "not our ref" in str(error):
        return Reason.RevisionNotFound, _no_revision(source)
    return Reason.UnexpectedResponse, (
        f"Expected a git server; it broke the protocol ({type(error).__name__}: {quoted(str(error))}). "
        "Check the source's url, or a proxy before it."
    )


def _no_revision(source: GitSource) -> str:
    return (
        f"Expected the revision {quoted(source.revision or 'HEAD')}; the repository has none of that name, or "
        "does not give out commits that no branch ends with. Correct the source's revision."
    )


def _as_login(credentials: Credentials) -> Credentials:
    if credentials.login is None and credentials.token is not None:
        return Credentials(None, credentials.hosts, login=(_LOGIN, credentials.token))
    return credentials


def _fetched(job: GitJob, client: Client) -> Listing:
    store = DiskObjectStore.init(job.folder / "objects")
    with closing(store):
        commit = _commit(store, _fetch_pack(job, client, store), job.source)
        chooser = Chooser(source=job.source, most=job.limits.source_files)
        _Layout(job=job, store=store, chooser=chooser).through(_root(store, commit, job.source))
        return chooser.listing(commit.id.decode("ascii"))


def _fetch_pack(job: GitJob, client: Client, store: DiskObjectStore) -> ObjectID:
    """Bring one commit with its tree into the store, return what the revision names."""
    wanted: list[ObjectID] = []

    def determine(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:  # noqa: ARG001
        wanted.append(_resolve(refs, job.source))
        return wanted

    file, commit, abort = store.add_pack()
    try:
        _GitOverClient(client, job.source.url).fetch_pack(
            "",
            determine,
            ObjectStoreGraphWalker([], lambda _: []),
            _bounded(file, job.limits.source_bytes),
            depth=1,
            ref_prefix=[b"HEAD", b"refs/heads/", b"refs/tags/"],
            filter_spec=b"blob:limit=%d" % job.limits.file_bytes,  # a server that can't filter sends all
        )
    except BaseException:
        abort()
        raise
    commit()
    return wanted[0]


def _resolve(refs: Mapping[Ref, ObjectID], source: GitSource) -> ObjectID:
    """Return the object that the revision names: a commit by itself, a branch before a tag."""
    revision = source.revision
    if revision is not None and len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision):  # noqa: PLR2004
        return ObjectID(revision.encode())
    names = (
        [b"HEAD"]
        if revision is None
        else [prefix + revision.encode() for prefix in (b"refs/heads/", b"refs/tags/")]
    )
    for name in names:
        if Ref(name) in refs:
            return refs[Ref(name)]
    raise SourceError(Reason.RevisionNotFound, _no_revision(source))


def _bounded(file: BinaryIO, limit: int) -> Callable[[bytes], int]:
    written = 0

    def write(data: bytes) -> int:
        nonlocal written
        written += len(data)
        if written > limit:
            raise SourceError(
                Reason.FileTooLarge,
                f"Expected a repository of at most {limit // 2**20} MiB without its history; it is larger. "
                "Give a smaller one, or ask for a larger limit.",
            )
        return file.write(data)

    return write


def _commit(store: DiskObjectStore, name: ObjectID, source: GitSource) -> Commit:
    """Return the commit that a name leads to, through tags."""
    for _ in range(10):
        found: ShaFile = store[name]
        if isinstance(found, Commit):
            return found
        if not isinstance(found, Tag):
            break
        name = found.object[1]
    raise SourceError(Reason.RevisionNotFound, _no_revision(source))


def _root(store: DiskObjectStore, commit: Commit, source: GitSource) -> Tree:
    """Return the folder that the source names."""
    found: ShaFile = store[commit.tree]
    for part in (source.path or "").strip("/").split("/"):
        if not part:
            continue
        if not isinstance(found, Tree) or part.encode() not in found:
            found = commit
            break
        _, name = found[part.encode()]
        found = store[name]
    if not isinstance(found, Tree):
        raise SourceError(
            Reason.FileNotFound,
            f"Expected the folder {quoted(source.path or '')} in the repository; it has none. Correct its path.",
        )
    return found


@dataclass(kw_only=True)
class _Layout:
    """Writes the chosen blobs to numbered files."""

    job: GitJob
    store: DiskObjectStore
    chooser: Chooser
    seen: int = 0
    written: int = 0

    def through(self, root: Tree) -> None:
        """Walk the folders; iterative, since they may be deep."""
        waiting = [("", root, 0)]
        while waiting:
            prefix, tree, depth = waiting.pop()
            for entry in tree.items():
                self._count()
                raw, mode, name = entry.path, entry.mode, entry.sha
                path = prefix + raw.decode("utf-8", "replace")
                if mode is None or name is None or raw.startswith(b"."):
                    continue  # hidden ones are never listed, as in a volume
                if stat.S_ISDIR(mode) and depth < MAX_DEPTH:
                    below = self.store[name]
                    if isinstance(below, Tree):
                        waiting.append((f"{path}/", below, depth + 1))
                elif stat.S_IFMT(mode) == _SUBMODULE:
                    self.chooser.refuse(path, Refusal.SUBMODULE, "submodules are not read; make it a source")
                elif self.chooser.wants(path):
                    self._file(path, mode, name)

    def _count(self) -> None:
        self.seen += 1
        if self.seen > self.job.limits.source_files:
            raise SourceError(
                Reason.TooManyFiles,
                f"Expected at most {self.job.limits.source_files} files in the repository; there are more. "
                "Give a folder of it as path.",
            )

    def _file(self, path: str, mode: int, name: ObjectID) -> None:
        if stat.S_ISLNK(mode):
            self.chooser.refuse(path, Refusal.LINK, "it is a link; put the file itself")
            return
        try:
            blob = self.store[name]
        except KeyError:  # left out by the server, as asked
            blob = None
        if not isinstance(blob, Blob) or blob.raw_length() > self.job.limits.file_bytes:
            most = self.job.limits.file_bytes // 2**20
            self.chooser.refuse(path, Refusal.TOO_LARGE, f"it has more than {most} MiB, the most that is read")
            return
        self.written += blob.raw_length()
        if self.written > self.job.limits.source_bytes:
            raise SourceError(
                Reason.FileTooLarge,
                f"Expected files of at most {self.job.limits.source_bytes // 2**20} MiB in all; there is more. "
                "Choose fewer by include and exclude.",
            )
        place = self.job.folder / f"{self.seen}"
        if self.chooser.offer(path, place=str(place), size=blob.raw_length()):
            with place.open("wb") as file:
                file.writelines(blob.as_raw_chunks())


class _Response:
    """What dulwich looks at of an answer, and the connection that is closed with it."""

    def __init__(self, answer: Answer, stack: ExitStack, *, asked: str) -> None:
        final = answer.last.target.url
        self.status = answer.last.status
        self.content_type = answer.last.headers.get("content-type")
        self.redirect_location = final if final != asked else ""
        self._chunks = answer.chunks()
        self._rest = b""
        self._stack = stack

    def close(self) -> None:
        """Let go of the connection."""
        self._stack.close()

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at the end."""
        pieces, missing = [], size
        while missing > 0:
            if not self._rest:
                self._rest = next(self._chunks, b"")
                if not self._rest:
                    break
            pieces.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)


class _GitOverClient(AbstractHttpGitClient):
    """The smart protocol over our client; the dumb one, which needs many requests and much memory, is refused."""

    def __init__(self, client: Client, url: str) -> None:
        super().__init__(f"{url.rstrip('/')}/", quiet=True)
        self._client = client

    def _http_request(  # type: ignore[override] # the library's annotation is urllib3's own response
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,  # noqa: ARG002 - the library's signature; a status is always raised
    ) -> tuple[_Response, Callable[[int], bytes]]:
        sign: Callable[[Target], Mapping[str, str]] = self._client.credentials.login_for
        fields = {name: value for name, value in (headers or {}).items() if name.lower() != "content-length"}
        content = b"".join(data) if data is not None and not isinstance(data, bytes) else data
        stack = ExitStack()
        try:
            opened = (
                self._client.get(url, fields, sign=sign)
                if content is None
                else self._client.send(url, content, fields, sign=sign)
            )
            answer = stack.enter_context(opened)
            _require_git(answer)
        except BaseException:
            stack.close()
            raise
        response = _Response(answer, stack, asked=url)
        return response, response.read


def _require_git(answer: Answer) -> None:
    if answer.last.status == _NOT_FOUND:
        raise SourceError(
            Reason.RepositoryNotFound,
            f"Expected a repository at {answer.hops[0].target.shown.partition('/info/refs')[0]}; there is none, "
            "or it needs a credential. Correct the source's url, or reference a Secret.",
        )
    if answer.last.status != _OK:
        raise status_error(answer, what="the repository")
    kind = answer.last.headers.get("content-type", "none")
    if not kind.startswith("application/x-git-"):
        raise SourceError(
            Reason.UnexpectedResponse,
            f"Expected a git server with the smart protocol; {answer.last.target.shown} answered with "
            f"{quoted(kind, limit=60)}. Give the address that `git clone` takes.",
        )
