# SPDX-License-Identifier: Apache-2.0
"""A git server: dulwich's smart HTTP over https, for one repository of one commit made of a folder's files.

A program of one file, run by the indexer's image, which has dulwich: `git_server.py FOLDER CERTIFICATE KEY PORT`.
The commit depends on the files alone, so that a test knows it.
"""

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from wsgiref.simple_server import make_server

from dulwich.objects import Blob, Commit, Tree
from dulwich.refs import Ref
from dulwich.repo import MemoryRepo
from dulwich.server import BackendRepo, DictBackend
from dulwich.web import make_wsgi_chain

REPOSITORY = "/docs.git"
BRANCH = "main"
_FILE = 0o100644


def repository(files: Mapping[str, bytes]) -> tuple[MemoryRepo, str]:
    """Return a repository with these files on its only branch, and its commit."""
    repo, tree = MemoryRepo.init_bare([], {}), Tree()
    for name in sorted(files):
        blob = Blob.from_string(files[name])
        repo.object_store.add_object(blob)
        tree.add(name.encode(), _FILE, blob.id)
    commit = Commit()
    commit.tree = tree.id
    commit.author = commit.committer = b"nobody <nobody@example.test>"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"documents"
    for item in (tree, commit):
        repo.object_store.add_object(item)
    for ref in (f"refs/heads/{BRANCH}".encode(), b"HEAD"):
        repo.refs[Ref(ref)] = commit.id
    return repo, commit.id.decode()


def main(folder: Path, certificate: str, key: str, port: int) -> int:
    """Serve until told to end."""
    repo, commit = repository({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    repos: dict[str, BackendRepo] = {REPOSITORY: cast("BackendRepo", repo)}
    application = make_wsgi_chain(DictBackend(repos))
    with make_server("0.0.0.0", port, application) as server:  # noqa: S104 - in a pod
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        print(f"serving {commit} on port {port}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
