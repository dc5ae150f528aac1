# SPDX-License-Identifier: Apache-2.0
"""The desk that all files of this folder share: made once, since it takes a minute to be Ready."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from e2e.support.answers import Answers, answers_of
from e2e.support.canaries import Canaries, none_seen
from e2e.support.desk import (
    DOCS,
    HELPDESK,
    MODEL,
    Desk,
    docs_index,
    documents,
    embedder_manifest,
)
from e2e.support.grounded import SITE_HOST, assistant_manifest, documents_manifest
from e2e.support.kube import Kube
from e2e.support.manifests import Manifest, model_manifest, namespace_manifest
from e2e.support.troubles import Stage, stage_of, table

WRITE: Final = "NIMBLET_WRITE_MATRIX"
DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "index-troubles.md"


@pytest.fixture(scope="package")
def namespace(kube: Kube, canaries: Canaries) -> Iterator[str]:
    """One namespace for all of these; what the administrator's allow-list names is in it."""
    name = SITE_HOST.split(".")[1]
    kube.run("delete", "namespace", name, "--ignore-not-found", "--timeout=120s")
    kube.apply(namespace_manifest(name))
    yield name
    seen = canaries.look(name)
    kube.run("delete", "namespace", name, "--ignore-not-found", "--wait=false")
    none_seen(seen)


@pytest.fixture(scope="package")
def stage(kube: Kube, namespace: str) -> Iterator[Stage]:
    """What is told while the tests of this folder run; at the end the table of what was provoked."""
    with stage_of(kube, namespace) as watched:
        yield watched
        if watched.rows:
            print(f"\n{table(watched.rows)}")
        if os.environ.get(WRITE) == "1":
            before = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
            DOCUMENT.write_text(table(watched.rows, before=before), encoding="utf-8")


@pytest.fixture(scope="package")
def made(kube: Kube, namespace: str) -> Desk:
    """Apply all at once, as a user does; the order of being Ready is theirs to find."""
    runtime: Manifest = {"contextLength": 2048, "parallel": 1}
    for manifest in (
        assistant_manifest(HELPDESK, namespace, model=MODEL, indexes=[DOCS]),
        docs_index(namespace),
        documents_manifest(DOCS, namespace, documents()),
        model_manifest(MODEL, namespace, runtime=runtime),
        embedder_manifest(namespace),
    ):
        kube.apply(manifest)
    desk = Desk(kube, namespace)
    desk.settled()
    return desk


@pytest.fixture
def desk(made: Desk) -> Desk:
    """The desk as each test finds it: Ready, whatever the test before did."""
    made.settled()
    return made


@pytest.fixture
def answers(desk: Desk) -> Iterator[Answers]:
    with answers_of(desk.kube, HELPDESK, desk.namespace) as made:
        yield made
