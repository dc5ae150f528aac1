# SPDX-License-Identifier: Apache-2.0
"""The objects of an index on a Qdrant server of the user's: a make-believe one, over a claim. Pure."""

from pathlib import Path
from typing import Final

from e2e.support.desk import EMBEDDER
from e2e.support.grounded import config_map_source, index_manifest
from e2e.support.library import secret_manifest
from e2e.support.manifests import Manifest
from e2e.support.programs import Program, program_manifests
from e2e.support.registry import claim_manifest

QDRANT_HOST: Final = "qdrant.grounded.svc"
"""The administrator's allow-list names it."""
QDRANT_PORT: Final = 6333
SERVER: Final = QDRANT_HOST.split(".", maxsplit=1)[0]
SHARED, PAPERS, STORE_KEYS = "shared", "shared-papers", "qdrant"
API_KEY: Final = "api-key"
_HERE: Final = Path(__file__).parent
_PARTS: Final = _HERE.parents[1] / "images" / "retriever" / "retriever_testing"
_PACKAGE: Final = "/parts/retriever_testing"
_IMAGE_PACKAGES: Final = "/opt/nimblet"
"""What the image itself has for PYTHONPATH."""
_KEYS: Final = "/keys"


def server_manifests(namespace: str, *, image: str, key: str, turn: int) -> list[Manifest]:
    """Return the server that the retriever's own tests use, as a pod; `image` is the retriever's.

    Another `turn` is another Secret with another key, and another pod over the same data.
    """
    secret = f"{SERVER}-{turn}"
    parts = {name: (_PARTS / name).read_bytes() for name in ("restserver.py", "restsnapshots.py")}
    program = Program(
        SERVER,
        namespace,
        image=image,
        command=["/data", f"{_KEYS}/{API_KEY}", str(QDRANT_PORT)],
        port=QDRANT_PORT,
        files=parts,
        script=_HERE / "qdrant_standin.py",
        path="/",
        environment={"PYTHONPATH": f"{_IMAGE_PACKAGES}:{Path(_PACKAGE).parent}", "TMPDIR": "/data"},
        volumes={
            "/data": {"persistentVolumeClaim": {"claimName": SERVER}},
            _PACKAGE: {"configMap": {"name": SERVER}},
            _KEYS: {"secret": {"secretName": secret, "defaultMode": 0o440}},
        },
    )
    return [
        claim_manifest(SERVER, namespace),
        secret_manifest(secret, namespace, {API_KEY: key}),
        *program_manifests(program),
    ]


def key_manifest(namespace: str, key: str) -> Manifest:
    """Return the Secret that the index shows the server."""
    return secret_manifest(STORE_KEYS, namespace, {API_KEY: key}, host=QDRANT_HOST)


def shared_manifest(namespace: str) -> Manifest:
    """Return the index."""
    return index_manifest(
        SHARED,
        namespace,
        embedding=EMBEDDER,
        sources=[config_map_source("papers", config_map=PAPERS)],
        store={
            "type": "External",
            "url": f"http://{QDRANT_HOST}:{QDRANT_PORT}",
            "keySecretRef": {"name": STORE_KEYS},
        },
        resources={"retriever": {"cpu": "50m"}, "indexer": {"cpu": "50m"}},
    )
