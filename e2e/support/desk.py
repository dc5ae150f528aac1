# SPDX-License-Identifier: Apache-2.0
"""The assistant of the grounded scenarios with its model and index, and waiting for what becomes of them.

It applies and waits; it judges no answer.
"""

from dataclasses import dataclass
from typing import Final

from e2e.data import corpus
from e2e.data.corpus import Document, Question, Split
from e2e.support.answers import ASSISTANT, INDEX
from e2e.support.grounded import config_map_source, documents_manifest, index_manifest
from e2e.support.kube import Kube
from e2e.support.manifests import MINILM_URI, Manifest, model_manifest
from e2e.support.objects import Resource
from e2e.support.wait import until
from nimblet import labels

MODEL, EMBEDDER, DOCS, HELPDESK = "chat", "minilm", "docs", "helpdesk"
SOURCE: Final = "handbooks"
IDS: Final = ("gannock-cheese-guide", "halvarra-library-faq", "ildren-wm7-manual", "vellmark-tram-tariff")
"""Markdown, two HTML and a PDF: few, since each build embeds them on two cores."""
READY_SECONDS: Final = 300.0
BUILD_SECONDS: Final = 240.0
TOLD_SECONDS: Final = 60.0
"""Fifteen seconds from what is recorded; what records it (a probe, a pull, a Job's end) takes its own time."""


def documents(*ids: str) -> tuple[Document, ...]:
    """Return documents of the corpus, those of the desk's index unless others are named."""
    return tuple(document for document in corpus.documents() if document.id in (ids or IDS))


def questions(*ids: str) -> tuple[Question, ...]:
    """Return the questions that these documents answer."""
    return tuple(question for question in corpus.questions(Split.DEV) if question.document in (ids or IDS))


def embedder_manifest(namespace: str) -> Manifest:
    """Return the embedding model of all indexes here."""
    runtime: Manifest = {"contextLength": 512, "parallel": 2}
    return model_manifest(EMBEDDER, namespace, uri=MINILM_URI, task="Embedding", runtime=runtime)


def docs_index(namespace: str, *sources: Manifest, **spec: object) -> Manifest:
    """Return the index, over its ConfigMap alone unless other sources are given."""
    chosen = sources or (config_map_source(SOURCE, config_map=DOCS),)
    return index_manifest(DOCS, namespace, embedding=EMBEDDER, sources=chosen, **spec)


@dataclass(frozen=True)
class Desk:
    """The assistant and what it is made of, all of them Ready."""

    kube: Kube
    namespace: str

    def index(self, name: str = DOCS) -> Resource:
        """Return an index as it is."""
        return self.kube.resource(INDEX, name, self.namespace)

    def assistant(self, **wanted: str) -> Resource:
        """Wait for conditions of the assistant."""
        return self.kube.wait_resource(ASSISTANT, HELPDESK, self.namespace, wanted=wanted, seconds=TOLD_SECONDS)

    def indexed(self, **wanted: str) -> Resource:
        """Wait for conditions of the index."""
        return self.kube.wait_resource(INDEX, DOCS, self.namespace, wanted=wanted, seconds=BUILD_SECONDS)

    def ready(self, name: str, *, kind: str = INDEX) -> Resource:
        """Wait until a resource answers as its spec says."""
        wanted = {"Ready": "True", "Serving": "True"}
        return self.kube.wait_resource(kind, name, self.namespace, wanted=wanted, seconds=READY_SECONDS)

    def settled(self) -> None:
        """Wait until all answer as they should."""
        self.ready(DOCS)
        self.ready(HELPDESK, kind=ASSISTANT)

    def handed_over(self) -> None:
        """Wait until all answer as they should and nobody else does.

        A pod that is replaced is asked on for the moment that the cluster's proxies take to forget it.
        """
        self.settled()
        chosen = f"{labels.ASSISTANT}={HELPDESK},app.kubernetes.io/component=gateway"

        def alone() -> bool | None:
            return len(self.kube.items("pods", self.namespace, selector=chosen)) == 1 or None

        until(alone, what="the gateway's replaced pod to go", seconds=TOLD_SECONDS)

    def apply_documents(self, changed: tuple[Document, ...]) -> Resource:
        """Replace the documents and return the index once a generation of them serves."""
        before = self.index().status.serving_generation
        self.kube.apply(documents_manifest(DOCS, self.namespace, changed))
        return self.newer_than(before)

    def newer_than(self, generation: str, *, name: str = DOCS) -> Resource:
        """Wait until a generation after this one serves and the index is Ready."""

        def newer() -> Resource | None:
            found = self.index(name)
            serves = found.status.serving_generation > generation
            current = found.status.observed_generation == found.metadata.generation
            return found if serves and current and found.shown("Ready")[0] == "True" else None

        what = f"a generation after {generation} to serve"
        return until(newer, what=what, seconds=BUILD_SECONDS, seen=lambda: repr(self.index(name).status))
