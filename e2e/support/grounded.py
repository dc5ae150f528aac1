# SPDX-License-Identifier: Apache-2.0
"""The objects of grounded answers: documents in ConfigMaps, claims and a web site, indexes, assistants. Pure."""

import base64
import json
from collections.abc import Iterable
from html import escape
from typing import Final

from e2e.data.records import Document, Question
from e2e.data.render import render_document
from e2e.support.manifests import Manifest
from e2e.support.programs import FILES_DIR, Program, pod_spec, program_manifests, python_container
from nimblet.labels import API_VERSION, USE

SITE_PORT: Final = 8000
SITE_HOST: Final = "site.grounded.svc"
"""The web site of the scenarios; the administrator's allow-list names it."""
QDRANT_PORT: Final = 6333
QDRANT_HOST: Final = "qdrant.grounded.svc"
"""The stand-in for a Qdrant server."""
GOLDEN_KEY: Final = "golden.jsonl"
USABLE: Final = {USE: "true"}


def documents_manifest(name: str, namespace: str, documents: Iterable[Document]) -> Manifest:
    """Return a ConfigMap with documents in their own formats, which an index may read."""
    data = {document.file_name: base64.b64encode(render_document(document)).decode() for document in documents}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": USABLE},
        "binaryData": data,
    }


def golden_manifest(
    name: str, namespace: str, questions: Iterable[Question], *, documents: Iterable[Document]
) -> Manifest:
    """Return a ConfigMap with golden questions about documents, named by their files."""
    files = {document.id: document.file_name for document in documents}
    lines = [
        {
            "id": question.id,
            "question": question.question,
            "document": files[question.document],
            "quote": question.quote,
        }
        for question in questions
    ]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": USABLE},
        "data": {GOLDEN_KEY: "".join(f"{json.dumps(line)}\n" for line in lines)},
    }


def config_map_source(name: str, *, config_map: str) -> Manifest:
    """Return a source of an index over a ConfigMap."""
    return {"name": name, "configMap": {"name": config_map}}


def index_manifest(
    name: str, namespace: str, *, embedding: str, sources: Iterable[Manifest], **spec: object
) -> Manifest:
    """Return a RetrievalIndex with an embedded store on a small claim."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RetrievalIndex",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "embedding": {"modelRef": {"name": embedding}},
            "sources": list(sources),
            "store": {"size": "1Gi"},
            "chunking": {"tokens": 128, "overlap": 16},
            **spec,
        },
    }


def assistant_manifest(
    name: str, namespace: str, *, model: str, indexes: Iterable[str], **spec: object
) -> Manifest:
    """Return an Assistant; its answers are short, since the model is small."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Assistant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "modelRef": {"name": model},
            "indexRefs": [{"name": index} for index in indexes],
            **spec,
        },
    }


def copying_pod_manifest(config_map: str, claim: str, namespace: str, *, image: str) -> Manifest:
    """Return a pod that copies a ConfigMap's documents into a claim; `image` has python3."""
    script = (
        "import pathlib, shutil; "
        "[shutil.copyfile(path, pathlib.Path('/claim') / path.name) for path in pathlib.Path('/in').iterdir() "
        "if path.is_file()]"
    )
    container = python_container("copy", image, ["-c", script])
    container["volumeMounts"] = [
        {"name": "in", "mountPath": "/in", "readOnly": True},
        {"name": "claim", "mountPath": "/claim"},
    ]
    volumes: list[Manifest] = [
        {"name": "in", "configMap": {"name": config_map}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": claim}},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"copy-{claim}", "namespace": namespace},
        "spec": {"restartPolicy": "Never", **pod_spec(container, volumes)},
    }


def site_manifests(name: str, namespace: str, documents: Iterable[Document], *, image: str) -> list[Manifest]:
    """Return a web site inside the cluster: the documents, a sitemap of them, and what robots may read."""
    files = {document.file_name: render_document(document) for document in documents}
    site = f"http://{name}.{namespace}.svc:{SITE_PORT}"
    pages = "".join(f"<url><loc>{escape(f'{site}/{path}')}</loc></url>" for path in sorted(files))
    files["sitemap.xml"] = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{pages}</urlset>'
    ).encode()
    files["robots.txt"] = b"User-agent: *\nAllow: /\n"
    command = ["-m", "http.server", str(SITE_PORT), "--directory", FILES_DIR]
    return program_manifests(
        Program(name, namespace, image=image, command=command, port=SITE_PORT, files=files, path="/robots.txt")
    )
