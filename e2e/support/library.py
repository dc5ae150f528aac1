# SPDX-License-Identifier: Apache-2.0
"""The objects of an index over a git server, a bucket and a claim, with a reranker and an Assistant. Pure."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from e2e.data.records import Document
from e2e.data.render import render_document
from e2e.support.bounded import CLASS
from e2e.support.desk import EMBEDDER, documents
from e2e.support.git_server import BRANCH, REPOSITORY
from e2e.support.grounded import (
    USABLE,
    assistant_manifest,
    index_manifest,
)
from e2e.support.hub import GIT_HOST, GIT_PORT, NAMESPACE, S3_HOST, TLS_SECRET
from e2e.support.manifests import RERANK_URI, Manifest, model_manifest
from e2e.support.programs import FILES_DIR, Program, program_manifests
from nimblet.labels import HOSTS

LIBRARY, RERANKER, LIBRARIAN = "library", "reranker", "librarian"
GIT_IDS, S3_IDS, CLAIM_IDS = ("weir-power-coop-faq",), ("umbrella-museum",), ("tollan-t30-pump",)
"""Markdown, HTML and a PDF."""
EVERYONE, BOARD = "everyone", "board"
BUCKET, PREFIX = "papers", "museum"
KEYS, KEY_ID, KEY_SECRET = "bucket", "e2e-reader", "e2e-reader-secret"
LOGIN = "repository"
READER, READER_KEY = "readers", "a-key-for-everyone"
CLAIM: Final = "papers"
STORE_MIB: Final = 512
_HERE: Final = Path(__file__).parent
_SMALL: Final = {"retriever": {"cpu": "50m"}, "indexer": {"cpu": "50m"}}
"""So that a node of two cores holds it all."""


def rendered(chosen: Iterable[Document]) -> dict[str, bytes]:
    """Return documents as files."""
    return {document.file_name: render_document(document) for document in chosen}


def git_manifests(image: str) -> list[Manifest]:
    """Return the git server; `image` is the indexer's, which has dulwich. It lives beside its certificate."""
    tls: Manifest = {"secret": {"secretName": TLS_SECRET, "defaultMode": 0o440}}
    return program_manifests(
        Program(
            "git",
            NAMESPACE,
            image=image,
            command=[FILES_DIR, "/tls/tls.crt", "/tls/tls.key", str(GIT_PORT)],
            port=GIT_PORT,
            files=rendered(documents(*GIT_IDS)),
            script=_HERE / "git_server.py",
            volumes={"/tls": tls},
        )
    )


def bucket_manifests(image: str) -> list[Manifest]:
    """Return the stand-in for an S3 service; `image` has python3."""
    files = {f"{PREFIX}__{name}": data for name, data in rendered(documents(*S3_IDS)).items()}
    return program_manifests(
        Program(
            "s3",
            NAMESPACE,
            image=image,
            command=[FILES_DIR, BUCKET, "9000"],
            port=9000,
            files=files,
            script=_HERE / "s3_standin.py",
            environment={"S3_KEY_ID": KEY_ID, "S3_SECRET": KEY_SECRET},
        )
    )


def secret_manifest(name: str, namespace: str, values: Manifest, *, host: str = "") -> Manifest:
    """Return a Secret that may be used, for one host where credentials are in it."""
    metadata = {"name": name, "namespace": namespace, "labels": USABLE}
    annotations = {"annotations": {HOSTS: host}} if host else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {**metadata, **annotations}, "stringData": values}


def library_sources() -> list[Manifest]:
    """Return the three sources; the bucket is for the board alone."""
    url = f"https://{GIT_HOST}:{GIT_PORT}{REPOSITORY}"
    git = {"url": url, "revision": BRANCH, "credentialsSecretRef": {"name": LOGIN}}
    bucket = {"uri": f"s3://{BUCKET}/{PREFIX}", "credentialsSecretRef": {"name": KEYS}}
    return [
        {"name": "repo", "git": git},
        {"name": "bucket", "s3": bucket, "access": [BOARD]},
        {"name": "shelf", "pvc": {"claimName": CLAIM}},
    ]


def library_manifests(namespace: str) -> list[Manifest]:
    """Return the index with its reranker, its Assistant and their Secrets."""
    # the server asks for none
    login: Manifest = {"username": "reader", "password": "canary/of-a+repository"}
    keys: Manifest = {"accessKeyId": KEY_ID, "secretAccessKey": KEY_SECRET}
    record = f'{{"key": "{READER_KEY}", "access": ["{EVERYONE}"]}}'
    runtime: Manifest = {"contextLength": 512, "parallel": 1}
    index = index_manifest(
        LIBRARY,
        namespace,
        embedding=EMBEDDER,
        sources=library_sources(),
        store={"size": f"{STORE_MIB}Mi", "storageClassName": CLASS},
        access={"push": True, "labels": [EVERYONE]},
        search={"rerankerRef": {"name": RERANKER}},
        resources=_SMALL,
        retainGenerations=2,
    )
    assistant = assistant_manifest(
        LIBRARIAN,
        namespace,
        model="chat",
        indexes=[LIBRARY],
        apiKeysSecretRef={"name": READER},
        resources={"cpu": "50m"},
    )
    return [
        secret_manifest(KEYS, namespace, keys, host=S3_HOST),
        secret_manifest(LOGIN, namespace, login, host=GIT_HOST),
        secret_manifest(READER, namespace, {"everyone": record}),
        model_manifest(
            RERANKER, namespace, uri=RERANK_URI, task="Rerank", runtime=runtime, resources={"cpu": "50m"}
        ),
        index,
        assistant,
    ]
